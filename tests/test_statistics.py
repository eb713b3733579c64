from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saro.statistics import Z_95, wilson

COUNTS = st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17:857–872 (1998), table I, method 3 (score, no continuity correction)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(hits, total, low, high):
    rate = wilson(hits, total)
    assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)


def solve(hits, total, low, high):
    """The p in [low, high] at which (p̂ − p)² = z² p (1 − p) / n, by bisection: the definition of the score interval."""

    def excess(p):
        return (hits / total - p) ** 2 - Z_95**2 * p * (1 - p) / total

    rising = excess(high) > excess(low)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if (excess(middle) > 0) == rising else (middle, high)
    return low


@given(COUNTS)
def test_ends_solve_the_score_equation(counts):
    hits, total = counts
    rate = wilson(hits, total)
    low = 0.0 if hits == 0 else solve(hits, total, 0.0, hits / total)
    high = 1.0 if hits == total else solve(hits, total, hits / total, 1.0)
    assert isclose(rate.low, low, abs_tol=1e-9)
    assert isclose(rate.high, high, abs_tol=1e-9)


@given(COUNTS)
def test_the_interval_lies_in_bounds_and_around_the_value(counts):
    rate = wilson(*counts)
    assert (rate.hits, rate.total) == counts
    assert rate.value == rate.hits / rate.total
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert rate.low < rate.high


@given(COUNTS)
def test_misses_mirror_hits(counts):
    hits, total = counts
    rate, mirrored = wilson(hits, total), wilson(total - hits, total)
    assert isclose(rate.low, 1 - mirrored.high, abs_tol=1e-12)
    assert isclose(rate.high, 1 - mirrored.low, abs_tol=1e-12)


@given(COUNTS.filter(lambda counts: counts[0] < counts[1]))
def test_one_more_hit_raises_both_ends(counts):
    hits, total = counts
    fewer, more = wilson(hits, total), wilson(hits + 1, total)
    assert fewer.low < more.low
    assert fewer.high < more.high


@given(COUNTS)
def test_more_trials_narrow_and_more_confidence_widens(counts):
    hits, total = counts
    rate = wilson(hits, total)
    longer, surer = wilson(4 * hits, 4 * total), wilson(hits, total, z=2.575829)
    assert longer.high - longer.low < rate.high - rate.low < surer.high - surer.low


def test_no_trials_give_nothing():
    assert wilson(0, 0) is None


@pytest.mark.parametrize(("hits", "total"), [(-1, 5), (6, 5), (1, 0), (0, -1)])
def test_impossible_counts_are_errors(hits, total):
    with pytest.raises(ValueError, match=f"found {hits} of {total}"):
        wilson(hits, total)
