"""Why nothing came of a call, or it was not made; known to those who never call anybody."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Trouble(Enum):
    """Why a call brought nothing: a closed set, without any value of the far side."""

    TIMEOUT = "no answer in time"
    ADDRESS = "its address may not be called"
    CONNECTION = "no connection, or it broke off"
    TLS = "its certificate is not accepted"
    REDIRECT = "it redirects"
    UNAUTHORIZED = "it refuses the access token"
    STATUS = "it answered with an error status"
    CONTENT = "the answer is not JSON"
    TOO_LARGE = "the answer is too large"
    UNUSABLE = "the answer could not be used"
    BUSY = "too many requests wait for this server"
    OPEN = "this server failed again and again; it is left alone for a while"

    @property
    def is_outage(self) -> bool:
        """Whether the server as a whole looks dead, rather than this one question badly asked."""
        return self in (Trouble.TIMEOUT, Trouble.CONNECTION, Trouble.TLS, Trouble.ADDRESS)


class Unreachable(Exception):
    """A call brought nothing."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        super().__init__(trouble.value)


class Hindrance(NamedTuple):
    """Why nothing may be fetched for a request, in words for the integrator."""

    text: str
