"""Content files as plain data that remembers its lines; YAML's surprises are refused.

PyYAML's C parser gives the events; values are built here, so that ``no`` is never false, ``12:30`` never a
number, a key never stands twice and an alias never hides what a file says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from cds_service.errors import Mistake

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+", re.ASCII)
_HALF_BOOLEANS = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false"})

Path = tuple[str | int, ...]


class Source(NamedTuple):
    """A content file: its data, and the line of each part by path (keys and list positions)."""

    file: str
    data: Any
    lines: dict[Path, int]

    def line(self, path: Sequence[str | int]) -> int:
        """The line of a part, or of the nearest part around it."""
        where = tuple(path)
        while where not in self.lines and where:
            where = where[:-1]
        return self.lines.get(where, 1)

    def mistake(self, path: Sequence[str | int], message: str) -> Mistake:
        """A mistake at that part of this file."""
        return Mistake(self.file, self.line(path), message)


def parse(file: str, text: str) -> tuple[Source, list[Mistake]]:
    """The file's data and every mistake of form in it."""
    mistakes: list[Mistake] = []
    if "\t" in text:
        line = text[: text.index("\t")].count("\n") + 1
        mistakes.append(Mistake(file, line, "a tab: indent with spaces"))
    try:
        builder = _Builder(file, Loader(text), mistakes)
        return Source(file, builder.document(), builder.lines), mistakes
    except _Refused:
        pass
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        mistakes.append(Mistake(file, line, f"not YAML: the character U+{problem.character:04X}"))
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        mistakes.append(Mistake(file, mark.line + 1 if mark else 1, f"not YAML: {problem.problem}"))
    except RecursionError:
        mistakes.append(Mistake(file, 1, "lists and mappings within each other without end"))
    return Source(file, None, {}), mistakes


class _Refused(Exception):
    """What follows in this file has no meaning; the mistake is told already."""


class _Builder:
    """Values from the events of PyYAML's C parser, each read once."""

    def __init__(self, file: str, loader: Any, mistakes: list[Mistake]) -> None:
        self.lines: dict[Path, int] = {}
        self._file = file
        self._next = loader.get_event
        self._mistakes = mistakes

    def document(self) -> Any:
        """The one document of the file."""
        self._next()  # the stream begins
        if isinstance(self._next(), yaml.StreamEndEvent):
            self._mistakes.append(Mistake(self._file, 1, "the file is empty"))
            return None
        data = self._value(self._next(), ())
        self._next()  # the document ends
        more = self._next()
        if not isinstance(more, yaml.StreamEndEvent):
            raise self._refused(more, "a second document: write one in a file")
        return data

    def _value(self, event: Any, path: Path) -> Any:
        if event.anchor:  # an alias has it too
            raise self._refused(event, "anchors and aliases are not used here")
        if event.tag is not None:
            self._mistakes.append(Mistake(self._file, _line(event), "tags are not used here"))
        self.lines[path] = _line(event)
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, self._file, self._mistakes)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: Path) -> list[Any]:
        built: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            built.append(self._value(event, (*path, len(built))))
        return built

    def _mapping(self, path: Path) -> dict[str, Any]:
        built: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.anchor:
                raise self._refused(event, "a key is a plain word")
            key = str(event.value)
            if key in built:
                self._mistakes.append(Mistake(self._file, _line(event), f"the key {key!r} stands twice: keep one"))
            built[key] = self._value(self._next(), (*path, key))
            self.lines[(*path, key)] = _line(event)
        return built

    def _refused(self, event: Any, message: str) -> _Refused:
        self._mistakes.append(Mistake(self._file, _line(event), message))
        return _Refused()


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(event: Any, file: str, mistakes: list[Mistake]) -> Any:
    text = str(event.value)
    line = _line(event)
    if event.style:  # quoted or a block: text as it stands; the C parser gives '' for plain
        return text
    if text in ("true", "false"):
        return text == "true"
    if text.lower() in _HALF_BOOLEANS:
        mistakes.append(Mistake(file, line, f"{text!r} may mean true or false: write true, false or quote it"))
        return text
    if text in ("", "~", "null"):
        mistakes.append(Mistake(file, line, "an empty value: write one or leave the key out"))
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
