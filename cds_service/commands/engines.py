"""Which machines an audit runs on: this one's processes, or a Spark cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from cds_service.errors import InputError
from cds_service.population.audit import Engine
from cds_service.population.local import Local

ENGINES = ("local", "spark")
_URI = re.compile(r"[a-z][a-z0-9+.\-]*://\S+", re.ASCII)


class Export(click.ParamType[Any]):
    """A folder that is there, or the URI of one that only a cluster can see."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """See click."""
        if isinstance(value, str) and _URI.fullmatch(value):
            if ":" in urlsplit(value).netloc.rpartition("@")[0]:  # it would be written beside the results
                self.fail("the URI holds a password or a secret key; give it by the environment instead", param, ctx)
            return value
        folder: Path = click.Path(exists=True, file_okay=False, path_type=Path).convert(value, param, ctx)
        return folder


@contextmanager
def engine_of(name: str, workers: int, folder: Path | str) -> Iterator[Engine]:
    """The engine, for as long as the block runs. Raises InputError when it cannot be had or cannot read the folder."""
    if name == "spark":
        from cds_service.population.spark import Spark  # optional: the extra [spark]

        engine: Engine = Spark(workers)
    elif isinstance(folder, str):
        raise InputError(f"{folder}: a URI is read by --engine spark only")
    else:
        engine = Local(workers)
    try:
        yield engine
    finally:
        engine.stop()
