"""A filled-in form → the facts of a case → FHIR → a hook request, on the road that the rules' own cases go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

import orjson

from cds_service.explain import read_request
from cds_service.record.sources import SOURCES
from cds_service.record.times import EPOCH_ORDINAL, add_months, iso_day
from cds_service.rules.case_facts import FactWriter
from cds_service.rules.library import RuleLibrary
from cds_service.web.desk.sandbox.choices import KINDS, Choices
from cds_service.web.desk.sandbox.text import body_of

MOST_ROWS = 12
FIRST_ROWS = {"finding": 2, "lab": 1, "work": 1}
PATIENT = "built-infant"
OLDEST_DAYS = 4000
_NUMBER = re.compile(r"-?\d{1,6}(\.\d{1,4})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,4}", re.ASCII)
Fact = dict[str, Any]


class Built(NamedTuple):
    """The request, or None and by field what is wrong there."""

    body: Mapping[str, Any] | None
    wrong: Mapping[str, str]


def rows_of(form: Mapping[str, str]) -> dict[str, int]:
    """How many rows of each kind the form has, one more of a kind whose button was pressed."""
    rows = {}
    for kind, first in FIRST_ROWS.items():
        said = form.get(f"rows-{kind}", "")
        count = int(said) if _WHOLE.fullmatch(said) else first
        rows[kind] = max(1, min(count + (form.get("more") == kind), MOST_ROWS))
    return rows


def build(form: Mapping[str, str], library: RuleLibrary, choices: Choices, today: date) -> Built:
    """The hook request of the infant that the form describes; asked about today unless it names another day."""
    reader = _Reader(form, choices)
    day = reader.day("as_of") or today
    born = reader.born(day)
    facts = [*reader.gestation(), *reader.findings(), *reader.labs(), *reader.work()]
    if reader.wrong:
        return Built(None, reader.wrong)
    writer = FactWriter(library.reading, day.isoformat(), PATIENT)
    resources = [writer.patient(born), *(writer.resource(fact) for fact in facts)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": item} for item in resources]}
    made = read_request("The built infant", orjson.dumps(bundle))
    unsent = {key for key in SOURCES.values() if form.get(f"unsent-{key}")}
    prefetch = {key: value for key, value in made.prefetch.items() if key not in unsent}
    as_of = day.isoformat() if form.get("as_of", "").strip() else ""
    return Built(body_of(made._replace(prefetch=prefetch), as_of), {})


class _Reader:
    """Reads the form field by field; what is wrong is noted under the field's name."""

    def __init__(self, form: Mapping[str, str], choices: Choices) -> None:
        self._form = form
        self._choices = choices
        self._rows = rows_of(form)
        self.wrong: dict[str, str] = {}

    def _said(self, field: str) -> str:
        return self._form.get(field, "").strip()

    def day(self, field: str) -> date | None:
        said = self._said(field)
        if not said:
            return None
        try:
            found = date.fromisoformat(said)
        except ValueError:
            self.wrong[field] = "Give a date as 2026-11-22."
            return None
        if not 1900 <= found.year <= 2200:
            self.wrong[field] = "Give a year from 1900 to 2200."
            return None
        return found

    def _whole(self, field: str, most: int = 9999) -> int | None:
        said = self._said(field)
        if not said:
            return None
        if not _WHOLE.fullmatch(said) or int(said) > most:
            self.wrong[field] = f"Give a whole number from 0 to {most}."
            return None
        return int(said)

    def _number(self, field: str) -> str:
        said = self._said(field).replace(",", ".")
        if said and not _NUMBER.fullmatch(said):
            self.wrong[field] = "Give a number, as 45 or 1.9."
            return ""
        return said

    def _chosen(self, field: str, known: Any) -> str:
        """One of the offered values, or empty."""
        said = self._said(field)
        if said and said not in known:
            self.wrong[field] = "Choose one of the list."
            return ""
        return said

    def born(self, day: date) -> str | None:
        """The birth date; None when no age is given: the age is then not known."""
        amount, unit = self._whole("age", 999), self._chosen("age-unit", ("days", "weeks", "months")) or "months"
        if amount is None:
            return None
        if unit == "months":
            return iso_day(add_months(day.toordinal() - EPOCH_ORDINAL, -amount))
        return (day - timedelta(days=amount * (7 if unit == "weeks" else 1))).isoformat()

    def gestation(self) -> Iterator[Fact]:
        weeks, days = self._whole("gestation-weeks", 60), self._whole("gestation-days", 6)
        if weeks is None and days is not None:
            self.wrong["gestation-weeks"] = "Give the weeks that the days are added to."
        elif weeks is not None:
            yield {"gestation": f"{weeks * 7 + (days or 0)} d"}

    def findings(self) -> Iterator[Fact]:
        known = {name for options in self._choices.findings.values() for name, _ in options}
        for row in range(self._rows["finding"]):
            field = f"finding-{row}"
            name = self._chosen(field, known)
            said = self._qualifiers(field)
            if not name:
                self._needs(field, said, "Choose the finding that this is said of.")
                continue
            fact: Fact = {"finding": name, **self._on(field), **said}
            form = self._chosen(f"{field}-as", ("observation", "condition", "absent"))
            if form == "condition":
                fact["as"] = "condition"
            elif form == "absent":
                fact["present"] = False
            yield fact

    def _qualifiers(self, field: str) -> Fact:
        said: Fact = {}
        for name, options in self._choices.coded.items():
            value = self._chosen(f"{field}-{name}", {value for value, _ in options})
            if value:
                said[name.replace("-", "_")] = value
        for name, _ in self._choices.counts:
            count = self._whole(f"{field}-{name}")
            if count is not None:
                said[name.replace("-", "_")] = count
        vigorous = self._chosen(f"{field}-{self._choices.vigorous}", ("yes", "no"))
        if vigorous:
            said[self._choices.vigorous] = vigorous == "yes"
        duration = self._number(f"{field}-duration")
        unit = self._chosen(f"{field}-duration-unit", {unit for unit, _ in self._choices.durations})
        if duration and not unit:
            self.wrong[f"{field}-duration-unit"] = "Choose the unit of the duration."
        elif duration:
            said["duration"] = f"{duration} {unit}"
        return said

    def labs(self) -> Iterator[Fact]:
        for row in range(self._rows["lab"]):
            field = f"lab-{row}"
            name = self._chosen(field, self._choices.units_of)
            value, unit = self._number(f"{field}-value"), self._said(f"{field}-unit")
            low, high = self._number(f"{field}-low"), self._number(f"{field}-high")
            flag = self._chosen(f"{field}-flag", {flag for flag, _ in self._choices.flags})
            if not name:
                self._needs(field, value or low or high or flag, "Choose what was measured.")
                continue
            if unit and unit not in self._choices.units_of[name]:
                units = ", ".join(sorted(self._choices.units_of[name]))
                self.wrong[f"{field}-unit"] = f"This is given in one of: {units}."
            elif not unit and (low or high):
                self.wrong[f"{field}-unit"] = "Choose the unit of the range."
            if not value and not flag:
                self.wrong.setdefault(f"{field}-value", "Give a value, or at least the laboratory's flag.")
            if bool(low) != bool(high):
                self.wrong[f"{field}-high" if low else f"{field}-low"] = "Give both ends of the range, or none."
            fact: Fact = {"lab": name, **self._on(field)}
            fact |= {"value": f"{value} {unit}".strip()} if value else {}
            fact |= {"flag": flag} if flag else {}
            fact |= {"range": f"{low} - {high}"} if low and high else {}
            yield fact

    def work(self) -> Iterator[Fact]:
        known = {name for options in self._choices.work.values() for name, _ in options}
        for row in range(self._rows["work"]):
            field = f"work-{row}"
            name, how = self._chosen(field, known), self._chosen(f"{field}-how", KINDS)
            if not name:
                self._needs(field, how, "Choose what this was.")
                continue
            if not how:
                self.wrong.setdefault(f"{field}-how", "Choose how it was done.")
                continue
            key, categories = KINDS[how]
            if self._choices.categories[name] not in categories:
                self.wrong[f"{field}-how"] = "This cannot be said of it; choose another."
            yield {key: name, **self._on(field)}

    def _on(self, field: str) -> Fact:
        back = self._whole(f"{field}-on", OLDEST_DAYS)
        return {"on": f"-{back or 0} d"}

    def _needs(self, field: str, said: Any, message: str) -> None:
        if said:
            self.wrong.setdefault(field, message)
