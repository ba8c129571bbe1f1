"""The figures of the analytics page: cards for views, what became of them, what data were missing, drift.

Numbers of infants are small in most houses: who may not see single decisions sees none under eleven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cds_service.hooks.prefetch import IN_FULL
from cds_service.population.disclosure import Disclosure, Shown
from cds_service.rules.library import SILENT, RuleLibrary
from cds_service.store.analytics import DayCount, Release, Totals, week_of
from cds_service.store.card_answers import Answers, CardAnswers
from cds_service.web.desk.analytics.drift import Week, weeks_of
from cds_service.web.desk.tables import Column, Table

IN_FULL_WORDS = frozenset(state.value for state in IN_FULL)
ABOUT = {
    "state": "the key came back as", "uncoded": "text without a code, looks like", "unknown-code": "code",
    "unknown-unit": "unit", "unreadable": "could not be read",
}  # fmt: skip
OUTSIDE = ("unknown-code", "unknown-unit")  # as a client wrote them; the others are words of ours


class Figures(NamedTuple):
    """What the store says of a time, and how its numbers may be shown."""

    totals: Totals
    answers: Answers
    views_of_week: Mapping[str, int]
    fired_of_week: Mapping[str, Mapping[str, int]]
    releases: Sequence[Release]
    disclosure: Disclosure

    def per_hundred(self, number: int, of: int) -> float | str | None:
        """A share of views as the numbers that are shown make it: no more can be told from it than from them."""
        part, whole = self.disclosure.shown(number), self.disclosure.shown(of)
        if not isinstance(part, int) or not isinstance(whole, int):
            return str(part if isinstance(part, str) else whole)
        return round(100 * part / whole, 1) if whole else None

    def half(self, said: CardAnswers) -> str | None:
        """How soon half of the answers came, where there are enough of them to show their number."""
        answered = self.disclosure.shown(said.accepted + said.overridden)
        return answered if isinstance(answered, str) else duration(said.median_seconds)

    def summary(self) -> list[tuple[str, Shown | float | str | None]]:
        """The head of the page: (what, number)."""
        shown, views, said = self.disclosure.shown, self.totals.views, self.answers.all
        cards = sum(self.totals.of("card").values())
        waiting = sum(n for (_, outcome), n in self.totals.of("rule").items() if _plain(outcome) == "data-required")
        fits = sum(self.totals.of("rule").values())
        return [
            ("Views", shown(views)),
            ("Views with a card, of 100", self.per_hundred(self.totals.views_with_card, views)),
            ("Cards, of 100 views", self.per_hundred(cards, views)), ("Cards accepted", shown(said.accepted)),
            ("Cards overridden", shown(said.overridden)), ("Cards without an answer", shown(said.unanswered)),
            ("Half of the answers came within", self.half(said)),
            ("Rules that had to wait for data, of 100 that applied", self.per_hundred(waiting, fits)),
        ]  # fmt: skip

    def weeks(self, rule: str = "") -> Sequence[Week]:
        """The weeks of a rule's firing, or without one, of views with a card; limits only where no number is hidden."""
        views, fired = (self._rounded(of) for of in (self.views_of_week, self.fired_of_week.get(rule, {})))
        weeks = weeks_of(views, fired)
        if any(isinstance(self.disclosure.shown(number), str) for number in (*views.values(), *fired.values())):
            return [week._replace(low=None, high=None) for week in weeks]
        return weeks

    def _rounded(self, numbers: Mapping[str, int]) -> Mapping[str, int]:
        """The numbers as they are shown; those that are hidden stay as they are, so that they are seen to be so."""
        return {name: n if isinstance(shown := self.disclosure.shown(n), str) else shown for name, n in numbers.items()}


def by_week(views: Sequence[DayCount], rules: Sequence[DayCount]) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """Views by week; of the counts of ``rules``, each a firing, those of each rule; under "" the views with a card."""
    called, fired = Counter[str](), {"": Counter[str]()}
    weeks = {day: week_of(day) for day in {count.day for count in (*views, *rules)}}
    for count in views:
        called[weeks[count.day]] += count.number
        if count.detail == "with-card":
            fired[""][weeks[count.day]] += count.number
    for count in rules:
        fired.setdefault(count.name, Counter())[weeks[count.day]] += count.number
    return called, fired


def tables_of(figures: Figures, library: RuleLibrary, chosen: str) -> list[Table]:
    """Every table of the page."""
    return [
        _weeks(figures, chosen), _rules(figures, library), _reasons(figures), _missing(figures), _unread(figures),
        _families(figures), _workups(figures, library), _waits(figures),
    ]  # fmt: skip


def _answered(figures: Figures, said: CardAnswers | None) -> dict[str, Any]:
    shown = figures.disclosure.shown
    if said is None:
        return {"given": 0, "accepted": 0, "overridden": 0, "unanswered": 0, "half": None}
    return {
        "given": shown(said.given), "accepted": shown(said.accepted), "overridden": shown(said.overridden),
        "unanswered": shown(said.unanswered), "half": figures.half(said),
    }  # fmt: skip


ANSWERED = (
    Column("given", "Cards", number=True), Column("accepted", "Accepted", number=True),
    Column("overridden", "Overridden", number=True), Column("unanswered", "No answer", number=True),
    Column("half", "Half answered within"),
)  # fmt: skip


def _rules(figures: Figures, library: RuleLibrary) -> Table:
    outcomes: dict[str, Counter[str]] = {}
    for (name, outcome), number in figures.totals.of("rule").items():
        outcomes.setdefault(name, Counter())[_plain(outcome)] += number
    rows = []
    for rule in library.rules:
        found = outcomes.get(rule.id, Counter())
        weeks = figures.weeks(rule.id)
        limited = any(week.low is not None for week in weeks)
        rows.append({
            "rule": rule.title, "page": f"/rules/{rule.id}", "id": rule.id,
            "fired": figures.disclosure.shown(found["recommended"]),
            "per100": figures.per_hundred(found["recommended"], figures.totals.views),
            **_answered(figures, figures.answers.rules.get(rule.id)),
            "waiting": figures.disclosure.shown(found["data-required"]),
            "drift": ([week.monday for week in weeks if week.outside] or "none") if limited else None,
            "order": -found["recommended"],
        })  # fmt: skip
    rows.sort(key=lambda row: (int(row["order"]), str(row["id"])))
    columns = (
        Column("rule", "Rule", link="page"), Column("fired", "Fired", number=True),
        Column("per100", "Of 100 views", number=True), *ANSWERED,
        Column("waiting", "Waited for data", number=True), Column("drift", "Weeks outside limits"), Column("id", "Id"),
    )  # fmt: skip
    return Table("rules", "Rules", columns, rows, beside=True)


def _reasons(figures: Figures) -> Table:
    told = Counter[tuple[str, str]]()
    for (reason, rule), number in figures.answers.reasons.items():
        told[figures.disclosure.text(reason, number) if reason else "none given", rule] += number
    rows = [
        {"reason": reason, "rule": rule, "page": f"/rules/{rule}",
         "number": figures.disclosure.shown(number), "order": number}
        for (reason, rule), number in told.items()
    ]  # fmt: skip
    rows.sort(key=lambda row: (-int(row["order"]), str(row["rule"])))
    columns = (Column("rule", "Rule", link="page"), Column("reason", "Reason"), Column("number", "Cards", number=True))
    return Table("reasons", "Why cards were overridden", columns, rows, beside=True, empty="No card was overridden.")


def _weeks(figures: Figures, chosen: str) -> Table:
    shown = figures.disclosure.shown
    began = {week_of(release.first_day): release.rule_set for release in figures.releases}
    rows = [
        {"week": week.monday, "views": shown(week.views), "fired": shown(week.fired),
         "per100": figures.per_hundred(week.fired, week.views),
         "low": None if week.low is None else round(100 * week.low, 1),
         "high": None if week.high is None else round(100 * week.high, 1),
         "outside": "outside" if week.outside else "within" if week.low is not None else None,
         "began": began.get(week.monday)}
        for week in figures.weeks(chosen)
    ]  # fmt: skip
    columns = (
        Column("week", "Week of"), Column("views", "Views", number=True), Column("fired", "Fired", number=True),
        Column("per100", "Of 100 views", number=True), Column("low", "Lower limit", number=True),
        Column("high", "Upper limit", number=True), Column("outside", "Limits"), Column("began", "Rule set that began"),
    )  # fmt: skip
    return Table("weeks", "Weeks", columns, rows, beside=True)


def _families(figures: Figures) -> Table:
    rows = [
        {"family": family, **_answered(figures, said)} for family, said in figures.answers.families.items()
    ]  # fmt: skip
    return Table("families", "Kinds of card", (Column("family", "Kind"), *ANSWERED), rows, beside=True)


def _workups(figures: Figures, library: RuleLibrary) -> Table:
    rows = [
        {"workup": library.workups[name].label if name in library.workups else name, "urgency": urgency,
         "number": figures.disclosure.shown(number)}
        for (name, urgency), number in figures.totals.of("workup").items()
    ]  # fmt: skip
    columns = (Column("workup", "Workup"), Column("urgency", "Urgency"), Column("number", "Suggested", number=True))
    return Table("workups", "Workups suggested", columns, rows, beside=True)


def _missing(figures: Figures) -> Table:
    """What rules waited for, and for how many decisions and rules it would have helped most."""
    waited: dict[str, Counter[str]] = {}
    for (what, rule), number in figures.totals.of("missing").items():
        waited.setdefault(what, Counter())[rule] += number
    rows = [
        {"what": what, "rules": len(found), "most": figures.disclosure.shown(max(found.values())),
         "sum": figures.disclosure.shown(sum(found.values())), "order": sum(found.values())}
        for what, found in waited.items()
    ]  # fmt: skip
    rows.sort(key=lambda row: (-int(str(row["order"])), str(row["what"])))
    columns = (
        Column("what", "Missing"), Column("rules", "Rules that waited", number=True),
        Column("most", "Views in which the most frequent waited", number=True),
        Column("sum", "Answers that it kept back", number=True),
    )  # fmt: skip
    return Table("missing", "Data that would help", columns, rows, beside=True, empty="No rule waited for data.")


def _unread(figures: Figures) -> Table:
    told = Counter[tuple[str, str]]()
    for (kind, what), number in figures.totals.of("unread").items():
        told[kind, figures.disclosure.text(what, number) if kind in OUTSIDE else what] += number
    rows = [
        {"kind": ABOUT.get(kind, kind), "what": what, "number": figures.disclosure.shown(number)}
        for (kind, what), number in told.items()
    ] + [
        {"kind": ABOUT["state"], "what": f"{key}: {state}", "number": figures.disclosure.shown(number)}
        for (key, state), number in figures.totals.of("state").items() if state not in IN_FULL_WORDS
    ]  # fmt: skip
    columns = (Column("kind", "Problem", facet=True), Column("what", "What"), Column("number", "Views", number=True))
    return Table("unread", "Data that were not understood", columns, rows, beside=True, empty="All was understood.")


def _waits(figures: Figures) -> Table:
    rows = [{"wait": label, "number": figures.disclosure.shown(n)} for label, n in figures.answers.waits.items()]
    columns = (Column("wait", "From card to answer"), Column("number", "Cards", number=True))
    return Table("waits", "How soon answers came", columns, rows, beside=True)


def duration(seconds: float | None) -> str | None:
    """A length of time in the unit that suits it."""
    if seconds is None:
        return None
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _plain(outcome: str) -> str:
    return outcome.removesuffix(SILENT)


def clients_of(totals: Mapping[str, int]) -> list[str]:
    """Clients by name, those who called most first."""
    return [name for name, _ in sorted(totals.items(), key=lambda item: (-item[1], item[0]))]
