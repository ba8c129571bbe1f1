"""Whether the resources of a request are FHIR R4 to the letter: asked for by a button, for it takes a while.

The service itself is more patient: it reads what it can and names what it could not (`unreadable`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cds_service.web.desk.sandbox.text import Problem, problem_at

MOST = 50


def fhir_problems(prefetch: Mapping[str, Any], text: str) -> list[Problem]:
    """Every place where a resource of the prefetch is not FHIR R4, the first of them; empty when all are."""
    from fhir.resources.R4B import get_fhir_model_class  # a second to load
    from pydantic import ValidationError

    found: list[Problem] = []
    for path, resource in _resources(prefetch):
        try:
            model = get_fhir_model_class(str(resource.get("resourceType")))
        except ValueError:
            found.append(problem_at(text, "FHIR R4 has no resource type of this name.", f"{path}.resourceType"))
            continue
        try:
            model.model_validate(resource)
        except ValidationError as problem:
            found += [
                problem_at(text, _said(error["msg"]), path + "".join(map(_step, error["loc"])))
                for error in problem.errors(include_url=False, include_input=False)
            ]
        if len(found) >= MOST:
            break
    return found[:MOST]


def _said(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".") + "."


def _step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _resources(prefetch: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in prefetch.items():
        if not isinstance(value, Mapping):
            continue
        if value.get("resourceType") != "Bundle":
            yield f"prefetch.{key}", value
            continue
        entries = value.get("entry", ())
        for place, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, Mapping) and isinstance(entry.get("resource"), Mapping):
                yield f"prefetch.{key}.entry[{place}].resource", entry["resource"]
