"""Near duplicates of prompts: Jaccard index of character 5-grams, computed exactly."""

import re
from collections.abc import Sequence
from typing import NamedTuple

GRAM = 5
_STRETCH = 512  # rows compared at once, to bound the memory


class NearPair(NamedTuple):
    """Places of two near duplicates in their lists, and their Jaccard index."""

    left: int
    right: int
    jaccard: float


def normalise(text: str) -> str:
    """Lower case, words alone, one space between them."""
    return " ".join(re.findall(r"\w+", text.lower()))


def near_duplicates(texts: Sequence[str], threshold: float) -> list[NearPair]:
    """Pairs within ``texts``, the earlier place first, whose index reaches ``threshold``."""
    return [pair for pair in near_matches(texts, texts, threshold) if pair.left < pair.right]


def near_matches(left: Sequence[str], right: Sequence[str], threshold: float) -> list[NearPair]:
    """Pairs across ``left`` and ``right`` whose index reaches ``threshold``, in the order of ``left``.

    Texts of fewer than five characters after :func:`normalise` have no 5-gram and match nothing.
    """
    if not left or not right:
        return []
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        analyzer="char", ngram_range=(GRAM, GRAM), preprocessor=normalise, binary=True, dtype="int32"
    )
    try:
        vectorizer.fit([*left, *right])
    except ValueError:  # scikit-learn's word for "no 5-gram anywhere"
        return []
    ours, theirs = vectorizer.transform(left), vectorizer.transform(right)
    sizes_left, sizes_right = ours.getnnz(axis=1), theirs.getnnz(axis=1)
    found: list[NearPair] = []
    for start in range(0, len(left), _STRETCH):
        shared = (ours[start : start + _STRETCH] @ theirs.T).tocoo()
        rows = shared.row + start
        jaccard = shared.data / (sizes_left[rows] + sizes_right[shared.col] - shared.data)
        hits = (jaccard >= threshold).nonzero()[0]
        found += sorted(NearPair(int(rows[hit]), int(shared.col[hit]), float(jaccard[hit])) for hit in hits)
    return found
