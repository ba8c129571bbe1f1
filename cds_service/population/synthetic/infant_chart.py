"""One infant's chart while it is being written: resources, and beside them the truth of what was planted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from random import Random
from typing import Any, TypeVar

from msgspec import Struct

from cds_service.population.synthetic.content import Coding, SyntheticContent, listed
from cds_service.record.reading import Reading

T = TypeVar("T")
Json = dict[str, Any]
FIRST_HOUR, LAST_HOUR = 6, 19  # events lie in the day, in UTC
LOCAL_OFFSET = 2  # hours east of UTC in which some senders write


class Identity(Struct, frozen=True, kw_only=True):
    """Who the infant is. ``gestation_days`` at birth; ``twin`` 1 or 2 for twins, else 0."""

    id: str
    family: str
    given: str
    female: bool
    born: date
    gestation_days: int
    preterm: bool
    twin: int = 0


class InfantChart:
    """Writes resources about one infant with ids of its own, and remembers what it planted.

    ``day`` is the as-of day: nothing that counts lies after it. All chance comes from ``rng``.
    """

    def __init__(self, identity: Identity, story: str, day: date, content: SyntheticContent, rng: Random) -> None:
        self.identity = identity
        self.story = story
        self.day = day
        self.content = content
        self.reading: Reading = content.reading
        self.rng = rng
        self.age_days = (day - identity.born).days
        self.birth_date_written = True
        self.deceased = False
        self.resources: list[Json] = []
        self.planted: list[Json] = []
        self._subject = {"reference": f"Patient/{identity.id}"}

    def add(self, kind: str, elements: Json, subject: str = "subject") -> str:
        """Write a resource about the infant; its reference. ``subject`` "" for one that is about nobody."""
        number = f"{self.identity.id}-{len(self.resources)}"
        head = {"resourceType": kind, "id": number}
        self.resources.append(head | ({subject: self._subject} if subject else {}) | elements)
        return f"{kind}/{number}"

    def plant(self, status: str, reference: str, **said: Any) -> None:
        """Write down in the truth what was planted: present, absent, or a decoy of some kind."""
        self.planted.append({**said, "status": status, "resource": reference})

    def names_planted(self) -> set[str]:
        """The findings, labs and work of which the truth says anything so far."""
        return {item[key] for item in self.planted for key in ("finding", "lab", "work", "medication") if key in item}

    def one_of(self, several: Sequence[T]) -> T:
        """One of several."""
        return self.rng.choice(several)

    def drawn(self, value: Any) -> Any:
        """One of several when the content lists several, else the value itself."""
        return self.rng.choice(listed(value))

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return self.rng.random() < share

    def between(self, ends: Sequence[float], decimals: int = 0) -> float:
        """A number between the two ends; a whole one comes as an integer."""
        number = round(self.rng.uniform(ends[0], ends[1]), decimals)
        return int(number) if decimals == 0 else number

    def day_ago(self, ends: Sequence[int]) -> date:
        """A day so many days before the as-of day, but not before birth."""
        return self.day - timedelta(days=min(self.rng.randint(ends[0], ends[1]), self.age_days))

    def clock(self) -> tuple[int, int, int]:
        """Hour, minute and second in the middle of a day, UTC; an hour later it is still that day."""
        return self.rng.randint(FIRST_HOUR, LAST_HOUR), self.rng.randint(0, 59), self.rng.randint(0, 59)

    def coding(self, name: str) -> Coding:
        """One of the codes by which the pack knows the concept."""
        return self.rng.choice(self.content.codings[name])

    def display(self, name: str) -> str:
        """The concept's name for people."""
        return self.reading.vocabulary.concepts[name].display

    def code(self, name: str) -> Json:
        """A CodeableConcept of the concept in one of its codes."""
        return self.coding(name).coded(self.display(name))

    def question(self) -> Json:
        """The code of a general question, whose answer is the finding."""
        return {"coding": [dict(self.rng.choice(self.content.data["questions"]))]}


def instant(day: date, clock: tuple[int, int, int], after: int = 0, local: bool = False) -> str:
    """The moment so many seconds after a time of day in UTC, written in UTC or in the sender's zone."""
    hour, minute, second = clock
    seconds = hour * 3600 + minute * 60 + second + after + (LOCAL_OFFSET * 3600 if local else 0)
    zone = f"+{LOCAL_OFFSET:02}:00" if local else "Z"
    return f"{day.isoformat()}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{zone}"
