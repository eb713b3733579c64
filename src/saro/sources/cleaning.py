"""Cleaning prompts: what is there twice, nearly twice, or stands in a benchmark goes, and a list says why."""

from collections.abc import Mapping, Sequence

from saro.records import Prompt, Record
from saro.sources.decontamination import contaminated
from saro.sources.near_duplicates import near_duplicates

NEAR = 0.6  # Jaccard index of character 5-grams; the starter pack's own prompts keep under it


class Removed(Record):
    """A prompt that went.

    ``reason`` is ``duplicate`` (but for case and white space), ``near duplicate``, or ``benchmark`` with the method
    after it; ``of`` is the id of the prompt that stays, or the benchmark and the number of its prompt; ``score`` is the
    index, overlap or cosine.
    """

    prompt: Prompt
    reason: str
    of: str
    score: float


def clean(
    prompts: Sequence[Prompt], benchmarks: Mapping[str, Sequence[str]], near: float = NEAR
) -> tuple[list[Prompt], list[Removed]]:
    """Split prompts into those that stay and those that go; of several alike the first stays.

    Args:
        prompts: to clean, in order.
        benchmarks: texts that must not be trained on, by name; how they are found is said in
            :func:`saro.sources.decontamination.contaminated`.
        near: Jaccard index of character 5-grams from which two prompts are near duplicates.
    """
    gone: dict[int, Removed] = {}
    for match in contaminated([prompt.text for prompt in prompts], benchmarks):
        gone[match.prompt] = Removed(
            prompt=prompts[match.prompt],
            reason=f"benchmark: {match.method}",
            of=f"{match.benchmark} {match.place + 1}",
            score=round(match.score, 3),
        )
    first: dict[str, int] = {}
    for place, prompt in enumerate(prompts):
        if place in gone:
            continue
        stays = first.setdefault(" ".join(prompt.text.lower().split()), place)
        if stays != place:
            gone[place] = Removed(prompt=prompt, reason="duplicate", of=prompts[stays].id, score=1.0)
    rest = [place for place in range(len(prompts)) if place not in gone]
    for left, right, jaccard in near_duplicates([prompts[place].text for place in rest], near):
        if rest[left] not in gone and rest[right] not in gone:
            near_to = prompts[rest[left]].id
            gone[rest[right]] = Removed(
                prompt=prompts[rest[right]], reason="near duplicate", of=near_to, score=round(jaccard, 3)
            )
    return (
        [prompt for place, prompt in enumerate(prompts) if place not in gone],
        [gone[place] for place in sorted(gone)],
    )
