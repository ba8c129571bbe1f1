"""The sample infants of fixtures/, each with why it is there and what it has to give."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import orjson


class Infant(NamedTuple):
    """A sample. ``cards``: family → indicator, as it has to come; ``as_of``: its day, if the file names none."""

    name: str
    file: str
    why: str
    status: int
    cards: Mapping[str, str]
    as_of: str

    def content(self) -> bytes:
        """The file as it is: a request, a Bundle or NDJSON."""
        return files("fixtures").joinpath(self.file).read_bytes()


@cache
def infants() -> Mapping[str, Infant]:
    """Every sample by its name, in the order of fixtures/expected.json."""
    expected = orjson.loads(files("fixtures").joinpath("expected.json").read_bytes())
    return {
        name: Infant(
            name, name if name.endswith(".ndjson") else f"{name}.json", data["why"], data["status"], data["cards"],
            data.get("as_of", ""),
        )
        for name, data in expected.items()
    }  # fmt: skip
