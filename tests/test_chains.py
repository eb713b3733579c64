import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saro.chains import ParseFailure, parse, render, render_reasoning, segment
from saro.records import Chain

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PIECES = st.lists(st.sampled_from(["<think>", "</think>", "\n", "\n\n", " ", "a", "Wait.", "<", "think>"]), max_size=12)


def is_plain(text):
    """Stripped, no tag, no blank line."""
    return (
        text == text.strip() != ""
        and "<think>" not in text
        and "</think>" not in text
        and not re.search(r"\n\s*\n", text)
    )


STEP = WORDS.map(str.strip).filter(is_plain)
ANSWER = WORDS.map(str.strip).filter(lambda text: text and "<think>" not in text and "</think>" not in text)
CHAIN = st.builds(Chain, steps=st.lists(STEP, min_size=1, max_size=5).map(tuple), answer=ANSWER)


@given(CHAIN)
@example(Chain(steps=("a\nb", "<th", "ink>"), answer="one\n\ntwo\n\n\nthree"))
def test_parse_undoes_render(chain):
    assert parse(render(chain)) == chain


@given(CHAIN, st.text(" \t\n", max_size=5), st.text(" \t\n", max_size=5))
def test_space_around_a_reply_does_not_matter(chain, before, after):
    assert parse(before + render(chain) + after) == chain


@given(WORDS | PIECES.map("".join))
def test_parse_is_total_and_its_chains_render_to_themselves(text):
    parsed = parse(text)
    if isinstance(parsed, Chain):
        assert parse(render(parsed)) == parsed
    else:
        assert isinstance(parsed, ParseFailure)
        assert parsed.answer == parsed.answer.strip()
        assert "<think>" not in parsed.answer
        assert "</think>" not in parsed.answer


@pytest.mark.parametrize(
    ("text", "reason", "answer"),
    [
        ("Paris.\n\nIt is the capital. ", "no-reasoning", "Paris.\n\nIt is the capital."),
        ("", "no-reasoning", ""),
        ("<think>\nHm.\n\nStill", "unclosed", ""),
        ("<think>\n \n\n</think>\n\nParis.", "empty-reasoning", "Paris."),
        ("<think></think>", "empty-reasoning", ""),
        ("<think>\nHm.\n</think>\n \n", "empty-answer", ""),
        ("<think>\nHm.\n</think>\n\nParis.</think>", "stray-tag", ""),
        ("<think>\nHm.\n<think>\nHm.\n</think>\n\nParis.", "stray-tag", ""),
        ("<think>\nHm.\n</think>\n\n<think>Paris.", "stray-tag", ""),
        ("Hm.\n</think>\n\nParis.", "stray-tag", ""),
        ("Paris. <think>Hm.</think>", "stray-tag", ""),
    ],
)
def test_failures_are_typed(text, reason, answer):
    assert parse(text) == ParseFailure(reason, answer)


def test_the_form_is_the_one_that_reasoning_parsers_read():
    chain = Chain(steps=("First.", "Second."), answer="Third.")
    assert render_reasoning(chain) == "<think>\nFirst.\n\nSecond.\n</think>"
    assert render(chain) == "<think>\nFirst.\n\nSecond.\n</think>\n\nThird."


def test_segment_at_blank_lines_only():
    assert segment("\n a\nb \n\n\n c\n \t\nd\n") == ("a\nb", "c", "d")
    assert segment(" \n\n ") == ()


def test_blank_lines_as_windows_writes_them():
    assert segment("a\r\n\r\nb") == ("a", "b")


@given(WORDS | PIECES.map("".join))
def test_segment_gives_stripped_steps_and_loses_only_space(text):
    steps = segment(text)
    assert all(step and step == step.strip() for step in steps)
    assert "".join("".join(steps).split()) == "".join(text.split())
    assert all(segment(step) == (step,) for step in steps)


@given(st.lists(STEP, max_size=5), st.sampled_from(["\n\n", "\n \n", "\n\n\n", "\n\t\n\n"]))
def test_segment_undoes_joining(steps, gap):
    assert segment(gap.join(steps)) == tuple(steps)
