"""Decontamination: which prompts stand in a benchmark, word for word, in part, or reworded.

The default cosine was chosen by reading what it finds between STAR-1's training prompts and HarmBench, AdvBench,
Do-Not-Answer and XSTest: the four pairs at 0.45 and above are one request with another object; from 0.41 down, two
requests in one frame of words.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from saro.sources.near_duplicates import normalise

Method = Literal["exact", "n-gram", "tf-idf"]
N_GRAM = 8  # words in a row; GPT-3's authors took 8 to 13 (Brown et al., arXiv:2005.14165, appendix C)
LEAST_WORDS = 4  # a text of fewer has no n-gram: "how are you" in a prompt means nothing


class Match(NamedTuple):
    """A prompt found in a benchmark.

    Attributes:
        prompt: its place among the prompts.
        benchmark: where it was found.
        place: the place of the benchmark's prompt.
        method: the first of exact, n-gram and tf-idf that found it.
        score: 1 for exact; for n-gram the share of the benchmark prompt's n-grams; for tf-idf the cosine.
    """

    prompt: int
    benchmark: str
    place: int
    method: Method
    score: float


def contaminated(
    prompts: Sequence[str], benchmarks: Mapping[str, Sequence[str]], cosine: float = 0.45, overlap: float = 0.5
) -> list[Match]:
    """Find the prompts that stand in a benchmark: each at most once, by its best match of the strictest method.

    Args:
        prompts: the texts to look for.
        benchmarks: texts by the benchmark's name.
        cosine: TF-IDF cosine (words and pairs of words) at which a prompt counts as reworded.
        overlap: share of a benchmark prompt's word 8-grams at which a prompt counts as holding it.

    Returns:
        The matches, in the order of ``prompts``.
    """
    known = [(name, place, text) for name, texts in benchmarks.items() for place, text in enumerate(texts)]
    if not known or not prompts:
        return []
    exact = _exact(prompts, [text for _, _, text in known])
    partial = _n_grams(prompts, [text for _, _, text in known], overlap)
    near = _tf_idf(prompts, [text for _, _, text in known], cosine)
    matches = []
    for prompt in range(len(prompts)):
        for method, found in (("exact", exact), ("n-gram", partial), ("tf-idf", near)):
            if prompt in found:
                row, score = found[prompt]
                matches.append(Match(prompt, known[row][0], known[row][1], method, score))  # type: ignore[arg-type]
                break
    return matches


def _exact(prompts: Sequence[str], known: Sequence[str]) -> dict[int, tuple[int, float]]:
    places = {text: row for row, text in reversed(list(enumerate(map(normalise, known)))) if text}
    return {prompt: (places[text], 1.0) for prompt, text in enumerate(map(normalise, prompts)) if text in places}


def _n_grams(prompts: Sequence[str], known: Sequence[str], least: float) -> dict[int, tuple[int, float]]:
    """The benchmark prompt that a prompt holds most of; a short one counts as a single n-gram of all its words."""
    grams = [_grams(text, min(N_GRAM, len(normalise(text).split()))) for text in known]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, found in enumerate(grams):
        for gram in found:
            holders[gram].append(row)
    best: dict[int, tuple[int, float]] = {}
    for prompt, text in enumerate(prompts):
        shared: dict[int, int] = defaultdict(int)
        for size in range(LEAST_WORDS, N_GRAM + 1):
            for gram in _grams(text, size):
                for row in holders.get(gram, ()):
                    shared[row] += 1
        scores = [(count / len(grams[row]), -row) for row, count in shared.items()]
        if scores and max(scores)[0] >= least:
            best[prompt] = (-max(scores)[1], max(scores)[0])
    return best


def _grams(text: str, size: int) -> set[tuple[str, ...]]:
    words = normalise(text).split()
    if size < LEAST_WORDS:
        return set()
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def _tf_idf(prompts: Sequence[str], known: Sequence[str], least: float) -> dict[int, tuple[int, float]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        preprocessor=normalise, tokenizer=str.split, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True
    )
    try:
        vectorizer.fit([*known, *prompts])  # words of the prompts alone count too, or long prompts would seem alike
    except ValueError:  # scikit-learn's word for "no word anywhere"
        return {}
    best: dict[int, tuple[int, float]] = {}
    ours, theirs = vectorizer.transform(prompts), vectorizer.transform(known)
    for start in range(0, len(prompts), 1024):  # in stretches, to bound the memory
        cosines = (ours[start : start + 1024] @ theirs.T).tocsr()
        for row in range(cosines.shape[0]):
            line = cosines.getrow(row)
            if line.nnz and line.data.max() >= least:
                at = int(line.data.argmax())
                best[start + row] = (int(line.indices[at]), float(line.data[at]))
    return best
