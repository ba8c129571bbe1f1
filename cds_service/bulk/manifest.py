"""What an export brought, as the server lists it (Bulk Data Access 2.0, Complete Status)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from cds_service.errors import InputError

_KIND = re.compile(r"[A-Za-z]{1,64}", re.ASCII)


class Listed(Struct, frozen=True):
    """One file of the export; ``count``: how many resources the server says are in it."""

    url: str
    type: str = "Bundle"
    count: int | None = None


class _Link(Struct):
    relation: str = ""


class Manifest(Struct, frozen=True):
    """All files of the export, as of ``transactionTime``: what changed later is not in it."""

    transactionTime: str
    requiresAccessToken: bool
    output: Sequence[Listed]
    error: Sequence[Listed] = ()
    deleted: Sequence[Listed] = ()
    link: Sequence[_Link] = ()

    def files(self) -> list[tuple[str, Listed]]:
        """Every file with its name within the import: ``Observation.0000``, ``error.0000``, ``deleted.0000``."""
        named = [(f"{listed.type}.{number:04}", listed) for number, listed in enumerate(self.output)]
        named += [(f"error.{number:04}", listed) for number, listed in enumerate(self.error)]
        return named + [(f"deleted.{number:04}", listed) for number, listed in enumerate(self.deleted)]


def read_manifest(body: bytes) -> Manifest:
    """The manifest in an answer. Raises InputError saying what is wrong with it."""
    try:
        found = msgspec.json.decode(body, type=Manifest)
    except msgspec.ValidationError as problem:
        raise InputError(f"the export's manifest is not as Bulk Data has it: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InputError("the export's manifest is not JSON") from None
    if not all(_KIND.fullmatch(listed.type) for listed in found.output):
        raise InputError("the export's manifest names a type that is no resource type")
    if any(link.relation == "next" for link in found.link):
        raise InputError("the export's manifest is only a part of it, which was not asked for")
    return found
