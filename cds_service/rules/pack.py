"""The knowledge pack as files: found, parsed, checked by schema; every mistake with file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from cds_service.errors import ContentError, Mistake
from cds_service.rules.yaml_source import Source, parse

if TYPE_CHECKING:
    from jsonschema import ValidationError

SINGLE = ("reading", "limits", "criteria", "families", "conflicts", "guidance", "not_acted_on")
FOLDERS = {"workups": "workup", "documents": "document", "valuesets": "valueset"}


class Pack(Struct, frozen=True, kw_only=True):
    """The parsed content files. ``rules`` maps id → (document slug, file); ``hash`` is of all that decides."""

    single: Mapping[str, Source]
    workups: Mapping[str, Source]
    documents: Mapping[str, Source]
    valuesets: Mapping[str, Source]
    rules: Mapping[str, tuple[str, Source]]
    texts: Mapping[str, str]
    hash: str


def packaged_cards() -> Traversable:
    """The knowledge pack that was installed with the service."""
    return files("cards")


def read_pack(root: Traversable | Path, checked_hash: str = "") -> Pack:
    """The pack under ``root``. Raises ContentError with every mistake of form found.

    ``checked_hash``: of a pack that was held against its schemas before; when this is the same it is not done again,
    which is more than half of the time.
    """
    reader = _Reader(root, checks=not checked_hash)
    single = {name: reader.file(root / f"{name}.yaml", name) for name in SINGLE}
    folders = {
        folder: {_stem(file): reader.file(file, schema) for file in _sorted(root / folder)}
        for folder, schema in FOLDERS.items()
    }
    rules: dict[str, tuple[str, Source]] = {}
    for folder in _sorted(root / "rules"):
        for file in _sorted(folder):
            if file.name.endswith(".yaml") and not file.name.endswith(".cases.yaml"):
                rules[_stem(file)] = (folder.name, reader.file(file, "rule"))
    if reader.mistakes:
        raise ContentError(reader.mistakes)
    digest = hashlib.sha256()
    for name in sorted(reader.texts):
        digest.update(f"{name}\0{reader.texts[name]}\0".encode())
    if checked_hash not in ("", digest.hexdigest()):
        return read_pack(root)
    return Pack(single=single, rules=rules, texts=reader.texts, hash=digest.hexdigest(), **folders)


def read_cases(root: Traversable | Path) -> tuple[dict[str, Source], Source]:
    """The cases file of each rule, and that of the limits. Raises ContentError."""
    reader = _Reader(root)
    found = {
        _stem(file): reader.file(file, "cases")
        for folder in _sorted(root / "rules")
        for file in _sorted(folder)
        if file.name.endswith(".cases.yaml")
    }
    limits = reader.file(root / "limits.cases.yaml", "limit-cases")
    if reader.mistakes:
        raise ContentError(reader.mistakes)
    return found, limits


def read_single(
    root: Traversable | Path, file: Traversable | Path, schema: str, *, checks: bool = True
) -> tuple[Source, list[Mistake]]:
    """One file that decides nothing about a patient (signatures, retired rules), held against its schema."""
    reader = _Reader(root, checks=checks)
    return reader.file(file, schema), reader.mistakes


class _Reader:
    def __init__(self, root: Traversable | Path, *, checks: bool = True) -> None:
        self.mistakes: list[Mistake] = []
        self.texts: dict[str, str] = {}
        self._root = str(root)
        self._validators = validators(root) if checks else None

    def file(self, file: Traversable | Path, schema: str) -> Source:
        name = str(file).removeprefix(self._root).lstrip("/")
        name = f"cards/{name}"
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            self.mistakes.append(Mistake(name, 1, f"cannot be read: {type(problem).__name__}"))
            return Source(name, {}, {})
        self.texts[name] = text
        if name.endswith(".json"):
            source, found = _parse_json(name, text)
        else:
            source, found = parse(name, text)
        if self._validators is not None:
            found = found or schema_mistakes(source, self._validators[schema])
        data = source.data
        identity = data.get("id", data.get("slug")) if isinstance(data, dict) else None
        if not found and isinstance(identity, str) and identity != _stem(file):
            found.append(source.mistake(("id",), "the id is not the file's name: make them the same"))
        self.mistakes += found
        return source


def _parse_json(name: str, text: str) -> tuple[Source, list[Mistake]]:
    try:
        return Source(name, json.loads(text), {}), []
    except json.JSONDecodeError as problem:
        return Source(name, None, {}), [Mistake(name, problem.lineno, f"not JSON: {problem.msg}")]


def validators(root: Traversable | Path) -> dict[str, Any]:
    """A JSON Schema validator per kind of file, built once."""
    from jsonschema import Draft202012Validator  # not for the audit's workers, whose rules another process checked
    from referencing import Registry, Resource

    schemas = [json.loads(file.read_text(encoding="utf-8")) for file in _sorted(root / "schema")]
    registry: Registry[Any] = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas
    )
    return {schema["$id"].rsplit("/", 1)[1]: Draft202012Validator(schema, registry=registry) for schema in schemas}


def schema_mistakes(source: Source, validator: Any) -> list[Mistake]:
    """Every place where the file is not as its schema says."""
    return [
        source.mistake(_place(problem), _readable(problem))
        for problem in sorted(validator.iter_errors(source.data), key=lambda p: list(map(str, p.absolute_path)))
    ]


def _place(problem: ValidationError) -> tuple[str | int, ...]:
    """The path of what is wrong: of the key that has no place, when that is it."""
    path = tuple(problem.absolute_path)
    if problem.validator == "additionalProperties" and isinstance(problem.instance, dict):
        schema = problem.schema
        known = schema.get("properties", {}) if isinstance(schema, dict) else {}
        extra = [key for key in problem.instance if key not in known]
        return (*path, *extra[:1])
    return path


def _readable(problem: ValidationError) -> str:
    where = ".".join(str(part) for part in problem.absolute_path)
    text = problem.message if len(problem.message) < 300 else f"does not fit {problem.validator}"
    return f"{where}: {text}" if where else text


def _stem(file: Traversable | Path) -> str:
    return file.name.removesuffix(".json").removesuffix(".yaml").removesuffix(".cases")


def _sorted(folder: Traversable | Path) -> list[Any]:
    if not folder.is_dir():
        return []
    return sorted((f for f in folder.iterdir() if f.name[0] not in "._"), key=lambda file: file.name)
