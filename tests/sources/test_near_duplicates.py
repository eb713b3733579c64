"""Near duplicates, against the definition computed pair by pair."""

from hypothesis import given, settings
from hypothesis import strategies as st

from saro.sources.near_duplicates import GRAM, near_duplicates, near_matches, normalise

TEXTS = st.lists(st.text(alphabet="abc .,", max_size=30), max_size=8)


def grams(text):
    text = normalise(text)
    return {text[start : start + GRAM] for start in range(len(text) - GRAM + 1)}


def jaccard(left, right):
    one, other = grams(left), grams(right)
    return len(one & other) / len(one | other) if one and other else 0.0


def test_words_count_and_nothing_else():
    texts = ["How do I clone a bank card?", "how do I clone a bank card", "How do I bake a loaf?"]
    assert [(a, b) for a, b, _ in near_duplicates(texts, 0.6)] == [(0, 1)]


@settings(deadline=None)
@given(TEXTS, TEXTS, st.sampled_from([0.2, 0.5, 1.0]))
def test_matches_are_those_of_the_definition(left, right, threshold):
    found = {(a, b): value for a, b, value in near_matches(left, right, threshold)}
    for a, one in enumerate(left):
        for b, other in enumerate(right):
            value = jaccard(one, other)
            assert ((a, b) in found) == (value > 0 and value >= threshold)
            if (a, b) in found:
                assert abs(found[a, b] - value) < 1e-9


def test_no_pair_stands_twice_and_none_with_itself():
    assert [(a, b) for a, b, _ in near_duplicates(["same words", "same words", "same words"], 0.9)] == [
        (0, 1),
        (0, 2),
        (1, 2),
    ]


def test_texts_too_short_for_a_gram_match_nothing():
    assert near_matches(["a", ""], ["a", ""], 0.1) == []
    assert near_matches([], ["long enough"], 0.1) == []
