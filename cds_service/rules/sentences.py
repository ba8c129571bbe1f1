"""Sentences over named criteria: and, or, not, parentheses; three-valued (Kleene).

sentence := term { "and" term } | term { "or" term }      mixing needs parentheses
term     := "not" term | "(" sentence ")" | name
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from cds_service.record.truth import FALSE, NEGATION, TRUE, UNKNOWN, Truth

_TOKEN = re.compile(r"\s*(?:(?P<word>[a-z][a-z0-9_]*)|(?P<sign>[()])|(?P<other>\S))", re.ASCII)

K = TypeVar("K")  # what names mean: for rules, criteria
TruthOf = Callable[[str], Truth]
Compiled = Callable[[Callable[[K], Truth]], Truth]


class Name(NamedTuple):
    """A criterion."""

    name: str


class Not(NamedTuple):
    """The opposite of its part."""

    part: Sentence


class And(NamedTuple):
    """True when all parts are."""

    parts: tuple[Sentence, ...]


class Or(NamedTuple):
    """True when one part is."""

    parts: tuple[Sentence, ...]


Sentence = Name | Not | And | Or


class SentenceError(ValueError):
    """The sentence cannot be read; the message says why."""


def parse_sentence(text: str) -> Sentence:
    """The sentence's tree. Raises SentenceError."""
    tokens: list[str] = []
    for found in _TOKEN.finditer(text.strip()):
        if found["other"]:
            raise SentenceError(f"{found['other']!r} has no place in a sentence: use names, and, or, not, ( )")
        tokens.append(found["word"] or found["sign"])
    parser = _Parser(tokens)
    sentence = parser.sentence()
    if parser.rest:
        raise SentenceError(f"unexpected {parser.rest[0]!r}")
    return sentence


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self.rest = tokens

    def sentence(self) -> Sentence:
        parts = [self.term()]
        joined = None
        while self.rest and self.rest[0] in ("and", "or"):
            if joined not in (None, self.rest[0]):
                raise SentenceError("'and' and 'or' side by side: add parentheses")
            joined = self.rest.pop(0)
            parts.append(self.term())
        if len(parts) == 1:
            return parts[0]
        return And(tuple(parts)) if joined == "and" else Or(tuple(parts))

    def term(self) -> Sentence:
        if not self.rest:
            raise SentenceError("the sentence ends too early")
        word = self.rest.pop(0)
        if word == "not":
            return Not(self.term())
        if word == "(":
            inner = self.sentence()
            if not self.rest or self.rest.pop(0) != ")":
                raise SentenceError("a '(' is never closed")
            return inner
        if word in (")", "and", "or"):
            raise SentenceError(f"unexpected {word!r}")
        return Name(word)


def names_in(sentence: Sentence) -> Iterator[str]:
    """Every name in the order of reading, repeated when it stands twice."""
    match sentence:
        case Name(name):
            yield name
        case Not(part):
            yield from names_in(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from names_in(part)


def compile_sentence(sentence: Sentence, meaning: Callable[[str], K]) -> Compiled[K]:
    """A closure that answers the sentence from the truth of what its names mean; they are looked up here, once."""
    match sentence:
        case Name(name):
            meant = meaning(name)
            return lambda truth_of: truth_of(meant)
        case Not(part):
            inner = compile_sentence(part, meaning)
            return lambda truth_of: NEGATION[inner(truth_of)]
        case And(parts):
            return _all_of(tuple(compile_sentence(part, meaning) for part in parts))
        case Or(parts):
            return _any_of(tuple(compile_sentence(part, meaning) for part in parts))


def _all_of(parts: tuple[Compiled[K], ...]) -> Compiled[K]:
    def answer(truth_of: Callable[[K], Truth]) -> Truth:
        least = TRUE
        for part in parts:
            truth = part(truth_of)
            if truth is FALSE:
                return FALSE
            if truth is UNKNOWN:
                least = UNKNOWN
        return least

    return answer


def _any_of(parts: tuple[Compiled[K], ...]) -> Compiled[K]:
    def answer(truth_of: Callable[[K], Truth]) -> Truth:
        most = FALSE
        for part in parts:
            truth = part(truth_of)
            if truth is TRUE:
                return TRUE
            if truth is UNKNOWN:
                most = UNKNOWN
        return most

    return answer


def needs_of(sentence: Sentence, needs: Callable[[str], frozenset[str] | None]) -> frozenset[str] | None:
    """Findings of which one has to be present, or possibly so, for the sentence to be anything but false; None: it
    may hold without any. An *and* needs what one of its parts needs, an *or* what any of them does."""
    match sentence:
        case Name(name):
            return needs(name)
        case Not():
            return None
        case And(parts):
            known = [found for part in parts if (found := needs_of(part, needs)) is not None]
            return min(known, key=len) if known else None
        case Or(parts):
            found_all = [needs_of(part, needs) for part in parts]
            sets = [found for found in found_all if found is not None]
            return frozenset().union(*sets) if len(sets) == len(found_all) else None


def truth(sentence: Sentence, truth_of: TruthOf) -> Truth:
    """The sentence's answer, worked out on the tree: for explanations, where nothing is compiled."""
    match sentence:
        case Name(name):
            return truth_of(name)
        case Not(part):
            return NEGATION[truth(part, truth_of)]
        case And(parts):
            return min(truth(part, truth_of) for part in parts)
        case Or(parts):
            return max(truth(part, truth_of) for part in parts)


def deciding(sentence: Sentence, truth_of: TruthOf) -> list[str]:
    """The names on which the answer rests: of a true *or* its true parts, of a false *and* its false ones."""
    return _decided(sentence, truth_of)[1]


def _decided(sentence: Sentence, truth_of: TruthOf) -> tuple[Truth, list[str]]:
    match sentence:
        case Name(name):
            return truth_of(name), [name]
        case Not(part):
            answer, names = _decided(part, truth_of)
            return NEGATION[answer], names
        case And(parts) | Or(parts):
            found = [_decided(part, truth_of) for part in parts]
            answers = [answer for answer, _ in found]
            whole = min(answers) if isinstance(sentence, And) else max(answers)
            return whole, [name for answer, names in found if answer is whole for name in names]


def to_text(sentence: Sentence, inside: bool = False) -> str:
    """The sentence as written, with the parentheses it needs."""
    match sentence:
        case Name(name):
            return name
        case Not(part):
            return f"not {to_text(part, inside=True)}"
        case And(parts) | Or(parts):
            joined = f" {'and' if isinstance(sentence, And) else 'or'} ".join(to_text(p, inside=True) for p in parts)
            return f"({joined})" if inside else joined
