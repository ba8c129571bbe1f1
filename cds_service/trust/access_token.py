"""The access token that a request brings along for its FHIR server."""

from __future__ import annotations


class AccessToken:
    """A FHIR access token: shown nowhere, kept no longer than the request."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "<token>"

    def header(self) -> dict[str, str]:
        """The HTTP header that presents it."""
        return {"Authorization": f"Bearer {self._text}"}
