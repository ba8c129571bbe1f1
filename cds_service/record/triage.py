"""Which Observations can say anything that the rules ask about; the rest need not be decoded.

Most of a chart's Observations are weights, heights and pulses. One whose code we do not know, that has no
coded value and no components, cannot state a finding, a result or work done: only its text is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cds_service.record.codes import Vocabulary

Json = dict[str, Any]


class Triage(NamedTuple):
    """Observations to read, and the others: as parsed JSON, their code element well formed."""

    relevant: list[Json]
    others: list[Json]


def triage(observations: Sequence[Json], vocabulary: Vocabulary) -> Triage:
    """Sort Observations by whether they can say anything; one of an unusual shape counts as relevant."""
    relevant: list[Json] = []
    others: list[Json] = []
    codes = vocabulary.codes
    for observation in observations:
        if "component" in observation or "valueCodeableConcept" in observation:
            relevant.append(observation)
            continue
        try:
            for coding in observation["code"]["coding"]:
                if (coding["system"], coding["code"]) in codes:
                    relevant.append(observation)
                    break
            else:
                others.append(observation)
        except (KeyError, TypeError):
            relevant.append(observation)
    return Triage(relevant, others)
