"""Two rule sets over one export: to whom something is said newly, no longer, the same, or with another urgency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from cds_service.errors import RequestError
from cds_service.hooks.respond import HookResponse, respond
from cds_service.population.answers import Asking, Rows, count_faults
from cds_service.population.attrition import NOT_EVALUATED, Counts, age_band, cause, stages_of
from cds_service.population.disclosure import Disclosure
from cds_service.population.infant_request import Chart, Json, request_of
from cds_service.population.summary import require, table_of
from cds_service.record.truth import TRUE
from cds_service.rules.evaluate import Evaluation
from cds_service.rules.rule import Outcome

NEWLY, NO_LONGER, SAME, URGENCY, NEITHER = "newly", "no longer", "same", "changed urgency", "neither"
CHANGES = (NEWLY, NO_LONGER, SAME, URGENCY)
EXAMPLES = 5


def compare_patient(chart: Chart, medications: Mapping[str, Sequence[Json]], asking: Asking, counts: Counts) -> Rows:
    """What both rule sets say to a patient, and where they part."""
    counts["patients",] += 1
    count_faults(chart, counts)
    before, after = asking.libraries
    request = request_of(chart, chart.resources, medications, asking.exported)
    try:
        then = respond(request, before, asking.as_of, asking.public_url)
        now = respond(request, after, asking.as_of, asking.public_url)
        asked = not then.record.facts.deceased
    except RequestError:
        asked = False
    if not asked:
        counts["cards", NOT_EVALUATED] += 1
        return Rows({})
    kind = _change(_highest(then), _highest(now))
    counts["cards", kind] += 1
    rules = _rules(then, now, asking)
    for name, (change, why) in rules.items():
        counts["rule", name, change] += 1
        if change in (NEWLY, NO_LONGER, URGENCY):
            counts["reason", name, change, why] += 1
    changed = {name: {"change": change, "why": why} for name, (change, why) in rules.items() if change != SAME}
    if kind in (SAME, NEITHER) and not changed:
        return Rows({})
    row = {
        "patient": chart.patient, "age": age_band(now.record), "cards": kind, "before": _highest(then),
        "after": _highest(now), "rules": changed,
    }  # fmt: skip
    return Rows({"changes": [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)]})


def _highest(response: HookResponse) -> str | None:
    cards = response.body["cards"]
    return str(cards[0]["indicator"]) if cards else None


def _change(then: str | None, now: str | None) -> str:
    if then == now:
        return SAME if now else NEITHER
    if then is None:
        return NEWLY
    return NO_LONGER if now is None else URGENCY


def _rules(then: HookResponse, now: HookResponse, asking: Asking) -> dict[str, tuple[str, str]]:
    """For each rule that speaks before or after: the change, and what of its way is otherwise."""
    old = {e.rule.id: e for e in then.evaluations}
    new = {e.rule.id: e for e in now.evaluations}
    stages = [stages_of(response.evaluated, library).of_rules
              for response, library in zip((then, now), asking.libraries, strict=True)]  # fmt: skip
    found = {}
    for name in sorted(old.keys() | new.keys()):
        one, two = old.get(name), new.get(name)
        change = _change(_urgency(one), _urgency(two))
        if change != NEITHER:
            why = _why(one, two, *(side.get(name, "not in this rule set") for side in stages))
            found[name] = (change, why)
    return found


def _urgency(evaluation: Evaluation | None) -> str | None:
    """The highest urgency of what the rule asks for and is not taken care of; None when it does not speak."""
    if evaluation is None or evaluation.outcome is not Outcome.RECOMMENDED:
        return None
    return max(item.urgency for item in evaluation.suggested if item.taken_care_of.truth is not TRUE).indicator


def _why(old: Evaluation | None, new: Evaluation | None, then: str, now: str) -> str:
    """The stage before and after, and the criteria that answer otherwise."""
    if old is None or new is None:
        return f"{then} → {now}"
    before = {reason.name: reason for reason in old.reasons}
    after = {reason.name: reason for reason in new.reasons}
    told = []
    for name in sorted(before.keys() | after.keys()):
        words = [side[name].truth.word if name in side else "not asked" for side in (before, after)]
        if words[0] != words[1]:
            lacking = after[name].missing if name in after else ()
            told.append(f"{name}: {words[0]} → {words[1]}" + (f" ({cause(lacking[0])})" if lacking else ""))
    return f"{then} → {now}" + (f"; {'; '.join(told)}" if told else "")


def comparison(counts: Counts, results: Path, run: Mapping[str, Any], exact: bool) -> Json:
    """The comparison by infant, by rule and by reason, with a few infants to look at."""
    disclosure = Disclosure(exact)
    cards = table_of(counts, "cards")
    require("patients compared", cards.total(), counts["patients",])
    names = sorted({key[1] for key in counts if key[0] == "rule"})
    reasons: dict[str, dict[str, Counter[str]]] = {}
    for key, number in counts.items():
        if key[0] == "reason":
            reasons.setdefault(key[1], {}).setdefault(key[2], Counter())[key[3]] += number
    return {
        "run": dict(run), "numbers": disclosure.told,
        "infants": disclosure.table({kind: cards[kind] for kind in (*CHANGES, NEITHER, NOT_EVALUATED)}),
        "byRule": {
            name: disclosure.table({kind: counts["rule", name, kind] for kind in CHANGES}) for name in names
        },
        "byReason": {
            name: {
                change: disclosure.table(dict(sorted(table.items(), key=lambda item: (-item[1], item[0]))))
                for change, table in sorted(found.items())
            }
            for name, found in sorted(reasons.items())
        },
        "examples": _examples(results / "changes.ndjson"),
        "changed": any(number for key, number in counts.items()
                       if key[0] in ("cards", "rule") and key[-1] in (NEWLY, NO_LONGER, URGENCY)),
    }  # fmt: skip


def _examples(changes: Path) -> dict[str, dict[str, list[str]]]:
    """The first infants by id for each rule and change."""
    found: dict[str, dict[str, list[str]]] = {}
    if changes.exists():
        with changes.open("rb") as file:
            for line in file:
                row = orjson.loads(line)
                for name, item in row["rules"].items():
                    several = found.setdefault(name, {}).setdefault(item["change"], [])
                    if len(several) < EXAMPLES:
                        several.append(row["patient"])
    return dict(sorted(found.items()))
