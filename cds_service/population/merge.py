"""Sorted parts → one sorted output, and the proof that no patient stands in two of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from cds_service.population.partition import disk_refused

AT_ONCE = 200  # files open at a time


def merge(parts: Sequence[Path], target: Path) -> int:
    """Write the lines of all parts by patient, without the key before them; how many patients they are.

    Raises AssertionError when two parts hold the same patient: then a group was split.
    """
    try:
        while len(parts) > AT_ONCE:
            parts = [
                _merged(parts[first : first + AT_ONCE], target.with_name(f".{target.name}-{len(parts)}-{first}"))
                for first in range(0, len(parts), AT_ONCE)
            ]
        with ExitStack() as stack:
            out = stack.enter_context(target.open("wb"))
            return _write(stack, parts, out, keyed=False)
    except OSError as problem:
        raise disk_refused(target.parent, problem) from None
    finally:
        for left in target.parent.glob(f".{target.name}-*"):
            left.unlink()


def _merged(parts: Sequence[Path], target: Path) -> Path:
    with ExitStack() as stack:
        _write(stack, parts, stack.enter_context(target.open("wb")), keyed=True)
    return target


def _write(stack: ExitStack, parts: Sequence[Path], out: BinaryIO, keyed: bool) -> int:
    sources = [_read(stack.enter_context(path.open("rb")), number) for number, path in enumerate(parts)]
    patients, last, place = 0, b"", -1
    for patient, number, line in heapq.merge(*sources):
        if patient != last:
            if patient < last:
                raise AssertionError("a part is not sorted by patient")
            patients, last, place = patients + 1, patient, number
        elif number != place:
            raise AssertionError("a patient stands in two parts")
        out.write(b"%b\t%b" % (patient, line) if keyed else line)
    return patients


def _read(file: BinaryIO, number: int) -> Iterator[tuple[bytes, int, bytes]]:
    for record in file:
        patient, line = record.split(b"\t", 1)
        yield patient, number, line
