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
from cds_service.rules.rule import Urgency

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


def test_the_mri_that_takes_the_place_of_ct_is_as_urgent_and_rests_on_the_injury_too() -> None:
    sign: dict[str, Any] = {"finding": "hypotonia"}
    (case, *_) = charts(ASKING[0])
    chart = {"as_of": "2026-06-15", "born": "-100 d", "facts": [*INJURY, sign]}
    asked = Asked(record_of(msgspec.structs.replace(case, chart=chart), LIBRARY), LIBRARY.criteria_count)
    found = recommend(evaluate(rule, asked, LIBRARY.workups) for rule in LIBRARY.rules)
    (mri,) = (item for item in found if item.workup.id == "mri_brain")
    assert mri.urgency is Urgency.CRITICAL
    asking = {evaluation.rule.id for evaluation in mri.asked_by}
    assert {"ct-fallback-after-head-injury-or-bleeding", "movement-with-changed-tone-or-lost-milestones"} <= asking
