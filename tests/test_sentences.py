"""Sentences over criteria: read in one way only, the compiled form answers as the tree, and what an answer rests on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_service.record.truth import FALSE, TRUE, UNKNOWN, Truth
from cds_service.rules.sentences import (
    And,
    Name,
    Not,
    Or,
    Sentence,
    SentenceError,
    compile_sentence,
    deciding,
    names_in,
    parse_sentence,
    to_text,
    truth,
)

NAMES = "abcde"
SENTENCES: st.SearchStrategy[Sentence] = st.recursive(
    st.sampled_from(NAMES).map(Name),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=9,
)
ANSWERS = st.fixed_dictionaries({name: st.sampled_from(Truth) for name in NAMES})
LAWS = settings(max_examples=500, deadline=None, derandomize=True)


@pytest.mark.parametrize("text", ["a and b or c", "a and", "not", "(a", "a)", "a b", "", "a && b", "and"])
def test_sentences_that_can_be_read_two_ways_are_refused(text: str) -> None:
    with pytest.raises(SentenceError):
        parse_sentence(text)


def test_a_sentence_is_written_as_it_is_read() -> None:
    for text in ("a", "not a", "a and (b or c)", "not (a and b) or c", "a or b or not c"):
        assert to_text(parse_sentence(text)) == text
    assert list(names_in(parse_sentence("a and (b or not a)"))) == ["a", "b", "a"]


@LAWS
@given(SENTENCES, ANSWERS)
def test_the_compiled_sentence_answers_as_the_tree(sentence: Sentence, answers: dict[str, Truth]) -> None:
    meaning = {name: name.upper() for name in NAMES}
    compiled = compile_sentence(sentence, meaning.__getitem__)
    assert compiled(lambda meant: answers[meant.lower()]) is truth(sentence, answers.__getitem__)


@LAWS
@given(SENTENCES, ANSWERS)
def test_an_answer_stays_when_all_that_it_does_not_rest_on_is_unknown(
    sentence: Sentence, answers: dict[str, Truth]
) -> None:
    names = deciding(sentence, answers.__getitem__)
    assert names
    left = {name: answer if name in names else UNKNOWN for name, answer in answers.items()}
    assert truth(sentence, left.__getitem__) is truth(sentence, answers.__getitem__)


@pytest.mark.parametrize(
    ("text", "rests_on"),
    [
        ("t or f or u", ["t"]),
        ("t and f and u", ["f"]),
        ("t and u", ["u"]),
        ("f or u", ["u"]),
        ("t or t", ["t", "t"]),
        ("f or f", ["f", "f"]),
        ("not (t and f)", ["f"]),
        ("t and (f or u) and not f", ["u"]),
        ("t and (t or f) and not f", ["t", "t", "f"]),
    ],
)
def test_an_answer_rests_on_the_parts_that_answer_alike(text: str, rests_on: list[str]) -> None:
    answers = {"t": TRUE, "f": FALSE, "u": UNKNOWN}
    assert deciding(parse_sentence(text), answers.__getitem__) == rests_on
