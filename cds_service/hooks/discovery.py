"""What we tell a client before it calls: who we are, for whom, and which data we ask for (CDS Hooks §Discovery)."""

from __future__ import annotations

from typing import Any

from cds_service.hooks.request import HOOK
from cds_service.record.sources import PATIENT_KEY, SOURCES
from cds_service.rules.library import RuleLibrary

SERVICE_ID = "infant-motor-workup"
PAGE = 500  # _count: large enough that an infant's chart comes in one page from most servers


def prefetch_templates(library: RuleLibrary) -> dict[str, str]:
    """One query per resource type that the rules read, inside CDS Hooks' recommended query subset."""
    templates = {PATIENT_KEY: "Patient/{{context.patientId}}"}
    for kind, key in SOURCES.items():
        if kind in library.sources:
            newest_first = "&_sort=-date" if kind == "Observation" else ""
            templates[key] = f"{kind}?patient={{{{context.patientId}}}}{newest_first}&_count={PAGE}"
    return templates


def discovery(library: RuleLibrary, version: str | None = None, hook_version: str | None = None) -> dict[str, Any]:
    """The discovery document; built from the same library that is executed.

    ``version`` of CDS Hooks and ``hook_version`` of patient-view are sent where they are given (CDS Hooks 3.0).
    """
    versions = {"version": version, "hookVersion": hook_version}
    return {
        "services": [
            {
                "id": SERVICE_ID,
                "hook": HOOK,
                **{name: value for name, value in versions.items() if value is not None},
                "title": "Workup for unusual movements in infants",
                "description": (
                    "Suggests workup (EEG, imaging, blood tests, lumbar puncture, referral) or reassurance for "
                    "infants with ankle clonus, tremor, leg spasm, jerks or dystonia. Advisory; each card names the "
                    f"passage it rests on. Clinicians have signed {len(library.signatures)} of {len(library.rules)} "
                    "rules; the others are drafts."
                ),
                "prefetch": prefetch_templates(library),
                "usageRequirements": (
                    f"The prefetch key {PATIENT_KEY} is required. Observations and conditions are needed for most "
                    "rules; a rule that lacks its data stays silent and is named in the response extension. "
                    "When neither is supplied the answer is 412."
                ),
            }
        ]
    }
