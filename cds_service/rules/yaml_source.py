"""Content files as plain data that remembers its lines; YAML's surprises are refused.

PyYAML's C parser gives the node tree; values are built here, so that ``no`` is never false, ``12:30`` never a
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
    lines: dict[Path, int] = {}
    if "\t" in text:
        line = text[: text.index("\t")].count("\n") + 1
        mistakes.append(Mistake(file, line, "a tab: indent with spaces"))
    try:
        for event in yaml.parse(text, Loader=Loader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                mistakes.append(Mistake(file, _line(event), "anchors and aliases are not used here"))
                return Source(file, None, lines), mistakes
        node = yaml.compose(text, Loader=Loader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        mistakes.append(Mistake(file, mark.line + 1 if mark else 1, f"not YAML: {problem.problem}"))
        return Source(file, None, lines), mistakes
    if node is None:
        mistakes.append(Mistake(file, 1, "the file is empty"))
        return Source(file, None, lines), mistakes
    return Source(file, _build(node, (), file, lines, mistakes), lines), mistakes


def _build(node: Any, path: Path, file: str, lines: dict[Path, int], mistakes: list[Mistake]) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, place), file, lines, mistakes) for place, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in built:
                mistakes.append(Mistake(file, key_node.start_mark.line + 1, f"the key {key!r} stands twice: keep one"))
            built[key] = _build(value_node, (*path, key), file, lines, mistakes)
            lines[(*path, key)] = key_node.start_mark.line + 1
        return built
    return _scalar(node, file, mistakes)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(node: Any, file: str, mistakes: list[Mistake]) -> Any:
    text = str(node.value)
    line = node.start_mark.line + 1
    if node.tag.startswith("tag:yaml.org,2002:python"):
        mistakes.append(Mistake(file, line, "tags are not used here"))
        return text
    if node.style:  # quoted or a block: text as it stands; the C parser gives '' for plain
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
