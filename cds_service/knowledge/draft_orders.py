"""The draft orders that cards carry, validated as FHIR R4 by fhir.resources: once, off the path of a request."""

from __future__ import annotations

from fhir.resources.R4B.servicerequest import ServiceRequest
from pydantic import ValidationError

from cds_service.errors import Mistake
from cds_service.hooks.orders import service_request
from cds_service.record.facts import Evidence
from cds_service.rules.library import RuleLibrary
from cds_service.rules.rule import Urgency


def order_problems(library: RuleLibrary) -> list[Mistake]:
    """Every workup whose draft order is no valid FHIR resource, with a coded reason and with a text one."""
    mistakes = []
    evidence = [Evidence("Observation/example", "code", "tremor")]
    for workup in library.workups.values():
        if workup.order is None:
            continue
        for reasons in (evidence, []):
            resource = service_request(workup, Urgency.CRITICAL, "example", reasons, library)
            try:
                ServiceRequest.model_validate(resource)
            except ValidationError as problem:
                paths = ", ".join(".".join(map(str, error["loc"])) for error in problem.errors())
                mistakes.append(Mistake(f"cards/workups/{workup.id}.yaml", 1, f"the draft order is not FHIR: {paths}"))
    return mistakes
