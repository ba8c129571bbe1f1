"""Where facts come from: each FHIR resource type that we read by patient, and whether it was answered.

One prefetch key per type. A type that was not fully answered may hide a fact, so what is absent from it is
unknown, never "not there".
"""

from __future__ import annotations

from collections.abc import Mapping

PATIENT_KEY = "patient"

# FHIR resource type → the name by which discovery, requests and `missing` call it.
SOURCES: Mapping[str, str] = {
    "Observation": "observations",
    "Condition": "conditions",
    "Procedure": "procedures",
    "DiagnosticReport": "diagnosticReports",
    "ImagingStudy": "imagingStudies",
    "ServiceRequest": "serviceRequests",
    "Encounter": "encounters",
    "MedicationRequest": "medicationRequests",
    "MedicationStatement": "medicationStatements",
    "MedicationAdministration": "medicationAdministrations",
    "Specimen": "specimens",
}

FINDING_SOURCES = ("Observation", "Condition")
BIRTH_EVENT_SOURCES = ("Observation", "Condition", "Procedure")
LAB_SOURCES = ("Observation",)
MEDICATION_SOURCES = ("MedicationRequest", "MedicationStatement", "MedicationAdministration")
WORK_SOURCES = (
    "Procedure", "DiagnosticReport", "ImagingStudy", "ServiceRequest", "Encounter", "Observation",
)  # fmt: skip
