"""What somebody pastes or uploads → the text of a hook request, and where in it something is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
import yaml

from cds_service.errors import CdsError, InputError, MalformedJson, RequestError
from cds_service.explain import read_request
from cds_service.hooks.request import AS_OF, HOOK, HookRequest, parse_request
from cds_service.hooks.strict_json import load

Step = str | int
_STEP = re.compile(r"(?:^|\.)([A-Za-z_][\w-]*)|\[(\d+)\]|\['([^']*)'\]", re.ASCII)
LONGEST_EXCERPT = 160


class Problem(NamedTuple):
    """What is wrong, and its place: lines and columns count from 1, 0 is not known. ``element``: its path."""

    message: str
    element: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""


class Given(NamedTuple):
    """The text as it was given or was made into a request. ``request`` None: ``problem`` says why.

    ``sendable``: whether the text may be sent though it is refused here, so that the refusal is seen.
    """

    text: str
    request: HookRequest | None
    problem: Problem | None
    sendable: bool = True


def read_given(content: bytes, as_of: str = "") -> Given:
    """A hook request stays as it is written; of a Bundle or NDJSON one is made, ``as_of`` being its day."""
    text = content.decode("utf-8", "replace")
    if not content.strip():
        return Given("", None, Problem("Paste a request, a Bundle or NDJSON, or choose a file."), sendable=False)
    value = _value(content)
    if isinstance(value, dict) and "hook" in value:
        return _checked(content, text)
    try:
        made = read_request("What was given", content)
    except (InputError, RequestError) as problem:
        return _refused(content, text, problem)
    return _checked(body := written(body_of(made, as_of)).encode(), body.decode())


def _refused(content: bytes, text: str, problem: CdsError) -> Given:
    """No request: for one that is not even JSON the place; a Bundle or NDJSON is never sent as it is."""
    wrong_line = _wrong_line(content)
    if wrong_line is not None:
        return Given(text, None, wrong_line, sendable=False)
    syntax = syntax_problem(content)
    if syntax is not None and not _is_ndjson(content):
        return Given(text, None, syntax)
    return Given(text, None, Problem(_plain(problem)), sendable=False)


def _is_ndjson(content: bytes) -> bool:
    lines = [line for line in content.splitlines() if line.strip()]
    return len(lines) > 1 and isinstance(_value(lines[0]), dict)


def _wrong_line(content: bytes) -> Problem | None:
    """The first line of NDJSON that is not JSON."""
    if _is_ndjson(content):
        for number, line in enumerate(content.splitlines(), 1):
            problem = syntax_problem(line) if line.strip() else None
            if problem is not None:
                return problem._replace(line=number)
    return None


def _plain(problem: CdsError) -> str:
    said = problem.text if isinstance(problem, RequestError) else str(problem)
    return said.removeprefix("What was given: ").capitalize()


def _checked(content: bytes, text: str) -> Given:
    try:
        return Given(text, parse_request(content), None)
    except RequestError as refusal:
        return Given(text, None, refusal_problem(text, refusal.code, refusal.text, refusal.expression or ""))


def _value(content: bytes) -> Any:
    try:
        return load(content)
    except MalformedJson:
        try:
            return orjson.loads(content)  # readable, but a key stands there twice: the request says so itself
        except orjson.JSONDecodeError:
            return None


def body_of(request: HookRequest, as_of: str = "") -> dict[str, Any]:
    """The body that says what this request says, under a hookInstance of its own."""
    context: dict[str, Any] = {"userId": request.user_id, "patientId": request.patient_id}
    if request.encounter_id is not None:
        context["encounterId"] = request.encounter_id
    body: dict[str, Any] = {"hook": HOOK, "hookInstance": str(uuid4()), "context": context}
    body["prefetch"] = dict(request.prefetch)
    if as_of:
        body["extension"] = {AS_OF: as_of}
    return body


def written(body: Mapping[str, Any]) -> str:
    """The JSON of a body, indented, for people to edit."""
    return orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()


def changed(text: str, *, as_of: str = "", fresh: bool = False) -> str:
    """The request with another as-of date or a new hookInstance; what cannot be read stays as it is."""
    if not (as_of or fresh):
        return text
    try:
        body = load(text.encode("utf-8", "replace"))
    except MalformedJson:
        return text
    if not isinstance(body, dict) or "hook" not in body:
        return text
    if as_of and isinstance(body.get("extension", {}), dict):
        body["extension"] = {**body.get("extension", {}), AS_OF: as_of}
    if fresh and isinstance(body.get("hookInstance"), str):
        body["hookInstance"] = str(uuid4())
    return written(body)


def syntax_problem(content: bytes) -> Problem | None:
    """Where the bytes stop being JSON; None when they do not."""
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError as problem:
        text = content.decode("utf-8", "replace")
        said = f"Not JSON: {problem.msg}."
        return _at_line(text, problem.lineno, said)._replace(column=max(1, problem.colno))
    return None


def refusal_problem(text: str, code: str, message: str, element: str) -> Problem:
    """Why the service refuses this text, at its place."""
    if code == "json.duplicate-key":
        return _at_line(text, duplicate_line(_nodes(text)), message)
    return syntax_problem(text.encode()) or problem_at(text, message, element)


def problem_at(text: str, message: str, element: str) -> Problem:
    """A refusal that names an element, with the line on which it stands, or the nearest element around it."""
    line = line_of(text, steps_of(element)) if element else 0
    return (_at_line(text, line, message) if line else Problem(message))._replace(element=element)


def _at_line(text: str, line: int, message: str) -> Problem:
    lines = text.splitlines()
    excerpt = lines[line - 1].strip()[:LONGEST_EXCERPT] if 0 < line <= len(lines) else ""
    return Problem(message, line=line, excerpt=excerpt)


def steps_of(element: str) -> list[Step]:
    """``prefetch.observations.entry[2]`` as steps: names and places."""
    return [int(place) if place else name or quoted for name, place, quoted in _STEP.findall(element)]


def line_of(text: str, steps: list[Step]) -> int:
    """The line of an element of a JSON text, or of the nearest that is there; 0 when it cannot be found.

    JSON is read as YAML, whose nodes know their lines; the text has been read as JSON before.
    """
    node = _nodes(text)
    line = 0
    for step in steps:
        found = _child(node, step)
        if found is None:
            break
        node, line = found
    return line


def _nodes(text: str) -> Any:
    try:
        orjson.loads(text)
        return yaml.compose(text, yaml.CSafeLoader)
    except (orjson.JSONDecodeError, yaml.YAMLError, RecursionError):
        return None


def duplicate_line(node: Any) -> int:
    """The first line on which an object names a member again; 0 when none does."""
    found = []
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, yaml.MappingNode):
            names = set[str]()
            for key, value in part.value:
                found += [key.start_mark.line + 1] if key.value in names else []
                names.add(key.value)
                waiting.append(value)
        elif isinstance(part, yaml.SequenceNode):
            waiting += part.value
    return min(found, default=0)


def _child(node: Any, step: Step) -> tuple[Any, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step].start_mark.line + 1
    return None
