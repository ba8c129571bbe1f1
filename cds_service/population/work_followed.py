"""The orders and the work that followed a first card: of each workup that its cards suggest, the first of its kind."""

from __future__ import annotations

from collections.abc import Iterable

from cds_service.population.attrition import Counts
from cds_service.population.infant_request import Json
from cds_service.population.leads import Followed, WhatFollowed
from cds_service.record.facts import Work
from cds_service.record.patient_record import PatientRecord
from cds_service.record.sources import WORK_SOURCES
from cds_service.rules.library import RuleLibrary


def work_after(day: int, workups: Iterable[str], record: PatientRecord, library: RuleLibrary) -> WhatFollowed:
    """What is recorded of these workups in the whole record on this day or later.

    Of work without a date, or whose date may be before or after, it is not known whether it followed; nor, where
    a type of resources that tells of work was not exported or is damaged, that nothing did.
    """
    followed, doubtful = [], []
    for workup in dict.fromkeys(workups):
        kinds = dict.fromkeys(name for way in library.workups[workup].done_or_ordered for name in way.concepts)
        works = [work for name in kinds for work in record.facts.work.get(name, ())]
        later = [
            ((work.span.days[0] - day, work.span.days[1] - day), work.evidence.reference, work.ordered)
            for work in works if work.span is not None and work.span.days[0] >= day
        ]  # fmt: skip
        if later:
            fewest, most = (min(days[end] for days, *_ in later) for end in (0, 1))
            followed.append(Followed(workup, (fewest, most), *min(later)[1:]))
        elif any(_may_be_later(work, day) for work in works):
            doubtful.append(workup)
    return WhatFollowed(tuple(followed), tuple(doubtful), record.unanswered(WORK_SOURCES))


def _may_be_later(work: Work, day: int) -> bool:
    return work.span is None or work.span.days[1] >= day


def work_as_json(found: WhatFollowed) -> Json:
    """The infant's row: ``days`` null where the date leaves the day open."""
    followed = [
        {"workup": one.name, "days": one.day, "reference": one.reference, "ordered": one.ordered}
        for one in found.followed
    ]
    return {"followed": followed, "followedNotKnown": found.not_known}


def count_work(found: WhatFollowed, counts: Counts) -> None:
    """Count the infant by the first that followed."""
    counts["lead", found.band] += 1
