"""Three-valued truth (Kleene): what a record can say about one question."""

from __future__ import annotations

from enum import IntEnum


class Truth(IntEnum):
    """The order matters: *and* is the least, *or* the greatest of its parts."""

    FALSE = 0
    UNKNOWN = 1
    TRUE = 2

    @property
    def word(self) -> str:
        """The word people read: true, false or unknown."""
        return WORDS[self]


WORDS = tuple(truth.name.lower() for truth in Truth)  # an Enum looks its name up anew each time
FALSE, UNKNOWN, TRUE = Truth.FALSE, Truth.UNKNOWN, Truth.TRUE
NEGATION = (TRUE, UNKNOWN, FALSE)


def decided(certainly: bool, possibly: bool) -> Truth:
    """True when certain, false when not even possible, else unknown."""
    if certainly:
        return TRUE
    return UNKNOWN if possibly else FALSE
