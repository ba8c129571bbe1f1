"""CT of the head is never suggested beside MRI of the brain, whichever rule asks for the MRI (CONF-10)."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest

from cds_service.rules.cases import Case, cases_of, record_of
from cds_service.rules.evaluate import Asked, evaluate
from cds_service.rules.library import RuleLibrary, load_library
from cds_service.rules.pack import packaged_cards, read_cases
from cds_service.rules.recommend import recommend

LIBRARY = load_library()
ASKING = [rule.id for rule in LIBRARY.rules if any(item.workup == "mri_brain" for item in rule.recommend)]
INJURY: tuple[dict[str, Any], ...] = ({"finding": "tremor"}, {"finding": "head_trauma"})


@cache
def charts(rule: str) -> list[Case]:
    """The cases of a rule of which it suggests something, each with a tremor and a head injury added."""
    return [
        msgspec.structs.replace(case, chart={**case.chart, "facts": [*case.chart.get("facts", ()), *INJURY]})
        for case in cases_of(read_cases(packaged_cards())[0][rule])
        if case.expect.value == "recommended"
    ]


def suggested(case: Case, library: RuleLibrary = LIBRARY) -> set[str]:
    """The workups that all rules together suggest for the case."""
    asked = Asked(record_of(case, library), library.criteria_count)
    return {item.workup.id for item in recommend(evaluate(rule, asked, library.workups) for rule in library.rules)}


@pytest.mark.parametrize("rule", ASKING)
def test_an_infant_for_whom_mri_is_suggested_is_not_also_offered_ct(rule: str) -> None:
    answers = [suggested(case) for case in charts(rule)]
    assert any("mri_brain" in answer for answer in answers)
    assert not [answer for answer in answers if {"mri_brain", "ct_head"} <= answer]


def test_an_injury_without_a_sign_that_asks_for_mri_is_offered_ct() -> None:
    chart = {"as_of": "2026-06-15", "born": "-100 d", "facts": list(INJURY)}
    (case, *_) = charts(ASKING[0])
    answer = suggested(msgspec.structs.replace(case, chart=chart))
    assert "ct_head" in answer
    assert "mri_brain" not in answer
