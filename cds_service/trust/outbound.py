"""The only place that opens a socket: one call to an address on this machine, bounded in time and size."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

import requests

from cds_service.errors import InputError

SECONDS = 5.0
LARGEST = 8 * 1024 * 1024


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


def call_loopback(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Answer:
    """One HTTP call to a service on this machine: no redirect, no proxy, no credentials of the environment.

    Raises InputError when the address is not a loopback address, or when nobody answers in time.
    """
    host = urlsplit(url).hostname or ""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise InputError("only an address of this machine is called: use 127.0.0.1")
    with requests.Session() as session:
        session.trust_env = False
        try:
            with session.request(
                method, url, data=body, headers=dict(headers), timeout=SECONDS, allow_redirects=False, stream=True
            ) as answer:
                return Answer(answer.status_code, answer.raw.read(LARGEST, decode_content=True))
        except requests.RequestException:
            raise InputError(f"nobody answers at {host}:{urlsplit(url).port}") from None
