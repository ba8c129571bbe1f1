"""A folder of NDJSON as an EHR would hold it: whose each resource is, and the answer to each search. Plain JSON only.

Nothing of the service is used here, so that its audit can be compared with it. A server that stores a transaction
replaces ``urn:uuid:`` references by those of what it stored; so does this.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

SEARCHED = {
    "Observation": "observations", "Condition": "conditions", "Procedure": "procedures",
    "DiagnosticReport": "diagnosticReports", "ImagingStudy": "imagingStudies", "ServiceRequest": "serviceRequests",
    "Encounter": "encounters", "MedicationRequest": "medicationRequests",
    "MedicationStatement": "medicationStatements", "MedicationAdministration": "medicationAdministrations",
    "Specimen": "specimens",
}  # fmt: skip
ABOUT_NOBODY = {
    "Practitioner", "PractitionerRole", "Organization", "OrganizationAffiliation", "Location", "HealthcareService",
    "Endpoint", "Substance", "OperationOutcome",
}  # fmt: skip
BASE = "https://ehr.example/fhir"
_PATIENT = re.compile(r"(?:https?://[^?#\s]+/)?Patient/([A-Za-z0-9\-.]{1,256})(?:/_history/.+)?|urn:uuid:(.+)")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,256}")
_DATE = re.compile(r'"(\d{4}-\d\d-\d\d)(T[^"]*)?"')
_URN = re.compile(r'("reference"\s*:\s*")urn:uuid:([^"]+)"')

Json = dict[str, Any]


class Ehr:
    """All resources of a folder. ``fates`` counts its lines by what the audit has to say of them."""

    def __init__(self, folder: Path) -> None:
        self.fates: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.charts: defaultdict[str, list[str]] = defaultdict(list)  # by patient, the lines as written
        self._kinds: dict[str, str] = {}  # by id, of all that may be referred to
        self._medications: dict[str, str] = {}
        for line in lines_of(folder):
            self.fates[self._take(line)] += 1

    def _take(self, line: str) -> str:
        if not line.strip():
            return "blank"
        try:
            resource = json.loads(line)
        except ValueError:
            return "bad"
        kind, identity = resource["resourceType"], resource.get("id")
        self.types[kind] += 1
        if identity:
            self._kinds.setdefault(identity, kind)
        if kind == "Medication":
            self._medications[identity or ""] = line
            return "medication"
        if kind != "Patient" and kind not in SEARCHED:
            return "about nobody" if kind in ABOUT_NOBODY else "not read by any rule"
        if kind == "Patient":
            if not _ID.fullmatch(identity or ""):
                return "bad"
            self.charts[identity].append(line)
            return "kept"
        found = _PATIENT.fullmatch(resource.get("subject", resource.get("patient", {})).get("reference", ""))
        if found is None:
            return "about no patient"
        self.charts[found[1] or found[2]].append(line)
        return "kept"

    def prefetch(self, patient: str, left_out: set[str] = frozenset()) -> Json:  # type: ignore[assignment]
        """What the EHR answers for this patient, a search Bundle for each key; types ``left_out`` were not asked."""
        charts = [json.loads(self._stored(line)) for line in dict.fromkeys(self.charts[patient])]
        answers: Json = {}
        patients = [resource for resource in charts if resource["resourceType"] == "Patient"]
        if patients:
            answers["patient"] = patients[0] if len(patients) == 1 else bundle(patients, [])
        medicines = set(re.findall(r'"Medication/([^"/]+)', json.dumps(charts)))
        for kind, key in SEARCHED.items():
            if kind not in left_out:
                included = sorted(medicines & self._medications.keys()) if kind == "MedicationRequest" else []
                answers[key] = bundle(
                    [resource for resource in charts if resource["resourceType"] == kind],
                    [json.loads(self._medications[name]) for name in included],
                )
        return answers

    def _stored(self, line: str) -> str:
        def told(found: re.Match[str]) -> str:
            kind = self._kinds.get(found[2])
            return f'{found[1]}{kind}/{found[2]}"' if kind else found[0]

        return _URN.sub(told, line) if "urn:uuid:" in line else line


def bundle(matches: list[Json], included: list[Json]) -> Json:
    """A search's answer in one page."""
    modes = [(resource, "match") for resource in matches] + [(resource, "include") for resource in included]
    return {
        "resourceType": "Bundle", "type": "searchset", "total": len(matches),
        "link": [{"relation": "self", "url": f"{BASE}/search"}],
        "entry": [
            {"resource": resource, "search": {"mode": mode},
             **({"fullUrl": f"{BASE}/{resource['resourceType']}/{resource['id']}"} if "id" in resource else {})}
            for resource, mode in modes
        ],
    }  # fmt: skip


def lines_of(folder: Path) -> Iterator[str]:
    """Every line of every file, packed or not."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode("utf-8")
        yield from text.removesuffix("\n").split("\n") if text else ()


def at_age(ehr: Ehr, days: int, today: date, folder: Path) -> None:
    """The same charts with every date of a patient moved by as many days as make them ``days`` old today."""
    folder.mkdir()
    with (folder / "moved.ndjson").open("w", encoding="utf-8") as file:
        for chart in ehr.charts.values():
            born = [json.loads(line).get("birthDate", "") for line in chart if '"birthDate"' in line]
            if not born or len(born[0]) != 10:
                continue
            by = today - timedelta(days) - date.fromisoformat(born[0])
            for line in chart:
                moved = _DATE.sub(lambda found: f'"{date.fromisoformat(found[1]) + by}{found[2] or ""}"', line)  # noqa: B023
                file.write(moved + "\n")
        file.writelines(line + "\n" for line in ehr._medications.values())
