"""When, how long, by which software and from which folder an output was made: all that differs between equal runs."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
from msgspec import Struct

from cds_service.population.partition import disk_refused
from cds_service.record.times import iso, moment

MADE = "made.json"


class Made(Struct, frozen=True, kw_only=True):
    """``seconds``: of the command that finished the run, so not of one before it that was interrupted."""

    folder: str
    finished: str
    seconds: float
    software: str


def write_made(out: Path, folder: Path | str, finished: datetime, seconds: float) -> None:
    """Say so beside the results. Raises InputError when the disk refuses."""
    where = str(folder.resolve() if isinstance(folder, Path) else folder)
    made = Made(folder=where, finished=iso(moment(finished)), seconds=round(seconds, 1),
                software=version("cds-service"))  # fmt: skip
    try:
        (out / MADE).write_bytes(msgspec.json.encode(made))
    except OSError as problem:
        raise disk_refused(out, problem) from None
