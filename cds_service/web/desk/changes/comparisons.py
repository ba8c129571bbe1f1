"""Comparisons of two rule sets as they are worked out: one at a time in a thread of this worker, kept by the pair.

A page waits a little; where that is not enough it says how far it is, and is loaded again.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from pathlib import Path
from typing import NamedTuple

import orjson

from cds_service.errors import CdsError, InputError
from cds_service.population.effect import Cohort, Effect, effect, folder_cohort, synthetic_cohort
from cds_service.rules.difference import Difference, differences
from cds_service.rules.pack import packaged_cards
from cds_service.rules.rule_sets import RuleSet, read_rule_set, rule_set
from cds_service.web.desk.changes.uploaded_packs import KeptPacks, PackRefused, unpack
from cds_service.web.desk.desk import Desk
from cds_service.web.logs import logger

WAIT_SECONDS = 2.5
MOST_KEPT = 8
MOST_WAITING = 4
MOST_WATCHING = 8  # requests that wait for a comparison: each holds a thread, and the calls of EHRs need those too
RUNNING, RELEASE, UPLOAD = "running", "release:", "upload:"
SYNTHETIC, FOLDER = "synthetic", "folder"
WATCHING = threading.BoundedSemaphore(MOST_WATCHING)
_NUMBERS = re.compile(r"[0-9]{1,9}")


class Compared(NamedTuple):
    """What came out. ``before`` and ``after``: version and hash of the sets."""

    before: tuple[str, str]
    after: tuple[str, str]
    differences: Sequence[Difference]
    effect: Effect
    made_up: bool


class Unknown(CdsError):
    """No such rule set or cohort is to be had here."""


class Working:
    """A comparison under way. ``done`` of ``number`` infants are asked; 0 of 0 while the sets are read."""

    def __init__(self) -> None:
        self.done = self.number = 0
        self.future: Future[Compared] = Future()

    def result(self, seconds: float) -> Compared | None:
        """What came out, None while it does not or too many wait for that. Raises CdsError as the work did."""
        waits = not self.future.done()
        if waits and not WATCHING.acquire(blocking=False):
            return None
        try:
            return self.future.result(timeout=seconds)
        except TimeoutError:
            return None
        finally:
            if waits:
                WATCHING.release()


class Comparisons:
    """Of one worker. ``packs`` holds the uploads."""

    def __init__(self, desk: Desk, packs: KeptPacks | None = None) -> None:
        self._desk = desk
        self.packs = packs or KeptPacks()
        self._sets: OrderedDict[str, RuleSet] = OrderedDict()
        self._cohorts: dict[str, Cohort] = {}
        self._known: OrderedDict[tuple[str, str, str], Working] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None  # made late: a worker is forked before

    def releases(self) -> list[str]:
        """The names of the folders below CDS_RELEASES_DIR that hold a rule set, the newest first by their numbers."""
        folder = self._desk.settings.releases_dir
        try:
            found = [item.name for item in folder.iterdir() if (item / "reading.yaml").is_file()] if folder else []
        except OSError:
            return []
        return sorted(found, key=lambda name: ([int(part) for part in _NUMBERS.findall(name)], name), reverse=True)

    def cohorts(self) -> list[str]:
        """Which cohorts there are to choose from."""
        return [SYNTHETIC, *([FOLDER] if self._desk.settings.cohort_dir is not None else [])]

    def working(self, before: str, after: str, cohort: str) -> Working | None:
        """The comparison of this pair, begun if need be; None when too many wait. Raises Unknown."""
        key = self._stamp(before), self._stamp(after), self._cohort_stamp(cohort)
        with self._lock:
            known = self._known.get(key)
            if known is not None and not (known.future.done() and known.future.exception() is not None):
                self._known.move_to_end(key)
                return known
            if sum(not item.future.done() for item in self._known.values()) >= MOST_WAITING:
                return None
            self._pool = self._pool or ThreadPoolExecutor(1, "compare")
            working = self._known[key] = Working()
            self._pool.submit(self._work, working, (before, after, cohort), key)
            for old in [old for old, item in self._known.items() if item.future.done()][:-MOST_KEPT]:
                del self._known[old]
            return working

    def take_in(self, content: bytes) -> str:
        """Keep an upload that is a whole rule set; the word by which it is chosen.

        Raises PackRefused, ContentError; nothing is kept then.
        """
        found = _unpacked(content)
        name = self.packs.keep(content, self._desk.now().timestamp())
        with self._lock:
            self._remember(f"{UPLOAD}{name}", found)
        return f"{UPLOAD}{name}"

    def _work(self, working: Working, asked: tuple[str, str, str], key: tuple[str, str, str]) -> None:
        try:
            working.future.set_result(self._compared(working, *asked, key))
        except (CdsError, OSError) as problem:
            told = problem if isinstance(problem, CdsError) else InputError("Its files cannot be read.")
            working.future.set_exception(told)
        except Exception as problem:  # a defect of ours or a set that nobody foresaw; the page says that it failed
            logger.error("comparison-failed", kind=type(problem).__name__)
            working.future.set_exception(InputError("The comparison failed. It is noted in the service's log."))

    def _compared(self, working: Working, before: str, after: str, cohort: str, key: tuple[str, str, str]) -> Compared:
        old, new = self._set(before, key[0]), self._set(after, key[1])
        found = differences(old, new)
        infants = self._cohort(cohort, key[2])
        working.number = len(infants.charts)

        def tick(done: int) -> None:
            working.done = done

        told = effect(old.library, new.library, infants, self._desk.settings.base_url, tick)
        names = [(side.library.reading.pack_version, side.library.hash) for side in (old, new)]
        return Compared(names[0], names[1], found, told, infants.made_up)

    def _set(self, choice: str, stamp: str) -> RuleSet:
        known = self._sets.get(stamp)
        if known is None:
            known = self._read(choice)
            with self._lock:
                self._remember(stamp, known)
        return known

    def _remember(self, stamp: str, found: RuleSet) -> None:
        self._sets[stamp] = found
        while len(self._sets) > MOST_KEPT:
            self._sets.popitem(last=False)

    def _read(self, choice: str) -> RuleSet:
        if choice == RUNNING:
            return rule_set(self._desk.library)
        if choice.startswith(RELEASE):
            return read_rule_set(self._release(choice))
        content = self.packs.find(choice.removeprefix(UPLOAD))
        if content is None:
            raise Unknown("This upload is not kept here any more. Upload it again.")
        return _unpacked(content)

    def _release(self, choice: str) -> Path:
        name, folder = choice.removeprefix(RELEASE), self._desk.settings.releases_dir
        if folder is None or name not in self.releases():
            raise Unknown("There is no release of this name.")
        return folder / name

    def _stamp(self, choice: str) -> str:
        """The choice as it is now: the same only while it would be read the same. Raises Unknown."""
        if choice == RUNNING:
            return f"{RUNNING} {self._desk.library.hash}"
        if choice.startswith(RELEASE):
            return f"{choice} {_written(self._release(choice))}"
        if choice.startswith(UPLOAD) and (choice in self._sets or self.packs.find(choice.removeprefix(UPLOAD))):
            return choice
        raise Unknown("There is no such rule set here. An upload is kept for a day.")

    def _cohort_stamp(self, cohort: str) -> str:
        folder = self._desk.settings.cohort_dir
        if cohort == SYNTHETIC:
            return SYNTHETIC
        if cohort == FOLDER and folder is not None:
            return f"{FOLDER} {_written(folder)}"
        raise Unknown("There is no such cohort here.")

    def _cohort(self, cohort: str, stamp: str) -> Cohort:
        known = self._cohorts.get(stamp)
        if known is None:
            library, folder = self._desk.library, self._desk.settings.cohort_dir
            root = library.root if library.root is not None else packaged_cards()
            known = folder_cohort(folder) if cohort == FOLDER and folder else synthetic_cohort(root, library)
            self._cohorts = {**{key: value for key, value in self._cohorts.items() if value.made_up}, stamp: known}
        return known

    def synthetic_lines(self, infant: str) -> str | None:
        """A made-up infant of the cohort as NDJSON; None when there is none of this name."""
        for chart, _ in self._cohort(SYNTHETIC, SYNTHETIC).charts:
            if chart.patient == infant:
                return b"\n".join(orjson.dumps(resource) for resource in chart.resources).decode()
        return None


def _unpacked(content: bytes) -> RuleSet:
    """The rule set in a zip. Raises PackRefused, ContentError."""
    with tempfile.TemporaryDirectory(prefix="cds-pack-") as folder:
        try:
            return read_rule_set(unpack(content, Path(folder)))
        except CdsError:
            raise
        except Exception as problem:  # files that no check of form foresaw, such as sentences nested too deep
            logger.warning("pack-not-compiled", kind=type(problem).__name__)
            raise PackRefused("It is not built as a rule set of this release, and could not be read.") from None


def _written(folder: Path) -> str:
    """When anything below the folder was last written, and how many files there are."""
    times = [file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()]
    return f"{max(times, default=0)} {len(times)}"
