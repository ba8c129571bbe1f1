"""The patient's id is kept with an input, and shown on no page."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "(the patient)"
DISTINCTIVE = 5  # characters from which an id is hidden inside longer words too


def without_patient(value: Any, patient_id: str) -> Any:
    """The text, or JSON with all its texts, with HIDDEN wherever the id stands."""
    if isinstance(value, str):
        return _hidden(value, patient_id) if patient_id else value
    if isinstance(value, dict):
        return {key: without_patient(part, patient_id) for key, part in value.items()}
    if isinstance(value, list):
        return [without_patient(part, patient_id) for part in value]
    return value


def _hidden(text: str, patient_id: str) -> str:
    text = text.replace(f"Patient/{patient_id}", f"Patient/{HIDDEN}")
    if len(patient_id) >= DISTINCTIVE:
        return text.replace(patient_id, HIDDEN)
    return re.sub(rf"(?<=/){re.escape(patient_id)}(?![A-Za-z0-9])", HIDDEN, text)
