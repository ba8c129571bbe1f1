"""Finished outputs of audits in a folder: named plainly, opened without following a link, read with distrust."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from cds_service.errors import InputError
from cds_service.population.audit import WORK
from cds_service.population.disclosure import Disclosure, Shown
from cds_service.population.made import MADE, Made

Json = dict[str, Any]
Numbers = dict[str, Shown]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
SUMMARY = "summary.json"
OTHERS = {"replay.json": "a replay", "compare.json": "a comparison of rules"}
_OF_INFANTS = (
    "patients", "attrition", "byAge", "byDocument", "byWorkup", "notEvaluableBy", "cards", "resourcesInDoubt",
)  # fmt: skip


class BrokenOutput(InputError):
    """A file of an output that is not there or not as an audit writes it. The text names the file, and no patient."""


class RunHead(Struct, frozen=True, kw_only=True, rename="camel"):
    """Who a run is. ``exact``: its numbers are neither suppressed nor rounded."""

    id: str
    rule_sets: tuple[str, ...]
    rules_version: str
    as_of: str
    public_url: str
    input_digest: str
    exported: tuple[str, ...]
    exact: bool
    since: str | None = None


class LostFor(Struct, frozen=True, kw_only=True):
    """Types of which lines are lost, for everybody and for single patients."""

    everybody: tuple[str, ...]
    patients: Numbers


class File(Struct, frozen=True, kw_only=True):
    """A file that went in."""

    name: str
    sha256: str
    lines: int
    ending: str


class Input(Struct, frozen=True, kw_only=True, rename="camel"):
    """What went in, as far as pages tell of it."""

    files: tuple[File, ...]
    lines: dict[str, int]
    not_exported: tuple[str, ...]
    lost_for: LostFor


class Patients(Struct, frozen=True, kw_only=True, rename="camel"):
    """All patients, and why some were not evaluated."""

    all: Shown
    evaluated: Shown
    not_evaluated: Numbers
    not_changed_since: Shown = 0


class RuleNumbers(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the patients leave a rule's way."""

    title: str
    document: str
    attrition: Numbers
    excluded_by: Numbers
    missing: Numbers


class Cards(Struct, frozen=True, kw_only=True, rename="camel"):
    """Infants by their most urgent card, and by each family's card."""

    highest: Numbers
    by_family: dict[str, Numbers]


class Summary(Struct, frozen=True, kw_only=True, rename="camel"):
    """summary.json, as far as pages tell of it."""

    run: RunHead
    numbers: str
    input: Input
    patients: Patients
    attrition: Numbers
    by_age: dict[str, Numbers]
    by_document: dict[str, Numbers]
    by_workup: dict[str, Numbers]
    by_rule: dict[str, RuleNumbers]
    not_evaluable_by: Numbers
    cards: Cards


class Listed(NamedTuple):
    """A folder in the folder of audits. ``state`` says in words what it is where it has no summary that can be read."""

    name: str
    state: str
    summary: Summary | None
    made: Made | None


class Output:
    """One output, in the folder ``beside``. Raises BrokenOutput when there is none of this name."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.beside = name, folder
        if not NAME.fullmatch(name):
            raise BrokenOutput("There is no audit of this name.")
        try:
            self._place = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise BrokenOutput("There is no audit of this name.") from None

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._place)

    def has(self, name: str) -> bool:
        """Whether something of this name is in it."""
        try:
            os.stat(name, dir_fd=self._place, follow_symlinks=False)
        except OSError:
            return False
        return True

    def open(self, name: str) -> BinaryIO:
        """A file of it, never a link, a device or a pipe. Raises BrokenOutput."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(name, flags, dir_fd=self._place)
        except OSError:
            raise BrokenOutput(f"{name} is missing or cannot be read.") from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise BrokenOutput(f"{name} is no file.")
        return os.fdopen(file, "rb")

    def read(self, name: str) -> bytes:
        """All of a file. Raises BrokenOutput."""
        with self.open(name) as file:
            return file.read()

    def summary(self) -> Json:
        """summary.json. Raises BrokenOutput when the run is not finished or the file is not as an audit writes it."""
        if self.has(WORK):
            raise BrokenOutput("This run is not finished: give its command again to go on.")
        try:
            said = orjson.loads(self.read(SUMMARY))
        except orjson.JSONDecodeError:
            raise BrokenOutput(f"{SUMMARY} is not whole.") from None
        checked(said)
        found: Json = said
        return found

    def made(self) -> Made | None:
        """When and from what it was made; None where it does not say."""
        try:
            return msgspec.json.decode(self.read(MADE), type=Made)
        except (BrokenOutput, msgspec.DecodeError, UnicodeDecodeError):
            return None


def checked(said: Any) -> Summary:
    """The summary as it is read here. Raises BrokenOutput."""
    try:
        return msgspec.convert(said, Summary)
    except msgspec.ValidationError:
        raise BrokenOutput(f"{SUMMARY} is not as an audit writes it.") from None


def listed(folder: Path, exact: bool) -> list[Listed]:
    """Everything in the folder that may be an output, the latest first; unless ``exact``, numbers are suppressed.

    Raises BrokenOutput when there is no folder.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        raise BrokenOutput("The folder of CDS_AUDITS_DIR cannot be read.") from None
    found = [_listed(folder, name, exact) for name in names if NAME.fullmatch(name)]
    return sorted(found, key=lambda item: item.made.finished if item.made else "", reverse=True)


def _listed(folder: Path, name: str, exact: bool) -> Listed:
    try:
        with Output(folder, name) as output:
            if output.has(WORK):
                return Listed(name, "not finished", None, None)
            made = output.made()
            for other, words in OTHERS.items():
                if output.has(other):
                    return Listed(name, f"{words}: read {other} in its folder", None, made)
            with suppress(BrokenOutput):
                said = output.summary()
                said = said if exact or not said["run"]["exact"] else suppressed(said)
                return Listed(name, "", checked(said), made)
            return Listed(name, "damaged, or no audit: its summary cannot be read", None, made)
    except BrokenOutput:
        return Listed(name, "it cannot be opened", None, None)


def suppressed(said: Mapping[str, Any]) -> Json:
    """The summary of an exact run as one without --exact would tell it."""
    disclosure = Disclosure(exact=False)

    def hidden(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: hidden(part) for key, part in value.items()}
        return disclosure.shown(value) if isinstance(value, int) and not isinstance(value, bool) else value

    lost = said["input"]["lostFor"]
    return {
        **said, **{key: hidden(said[key]) for key in _OF_INFANTS if key in said}, "numbers": disclosure.told,
        "byRule": {rule: hidden(numbers) for rule, numbers in said["byRule"].items()},
        "input": {**said["input"], "lostFor": {**lost, "patients": hidden(lost["patients"])}},
    }  # fmt: skip
