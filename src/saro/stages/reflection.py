"""Step verdicts: which steps of the sampled chains reflect, and whether the outcome follows from it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from saro.chains import CLOSE, OPEN
from saro.config import RolloutConfig
from saro.judges.reflection import REFLECTS, ReflectionJudge, Step
from saro.progress import Reporter
from saro.records import Node, Policy, Tree
from saro.trees import after_insertion, leaves, path


def step_judge(
    config: RolloutConfig, policies: Mapping[str, Policy], device: str, ledger: Path, reporter: Reporter
) -> ReflectionJudge:
    """Who says of steps whether they reflect: the local detector, or the model that the configuration names.

    Args:
        config: names the judge.
        policies: by id; those that a step may name.
        device: of the local detector.
        ledger: of what a model is asked, and answers.
        reporter: where progress goes.

    Raises:
        InputError: the detector has no weights; the model has a budget and no price, or no such provider is there.
    """
    if config.reflection_judge is None:
        from saro.judges.detector import ReflectionDetector

        return ReflectionDetector(list(policies), device)
    from saro.judges.asked import AskedReflectionJudge

    return AskedReflectionJudge(
        config.reflection_judge,
        config.reflection_judge_url,
        list(policies),
        ledger,
        config.reflection_budget,
        config.reflection_price,
        reporter,
    )


def judge_steps(trees: Sequence[Tree], judge: ReflectionJudge, decode: Callable[[Sequence[int]], str]) -> list[Tree]:
    """``trees`` with a verdict on every reasoning step.

    Args:
        trees: as sampled.
        judge: of the steps.
        decode: token ids → text.
    """
    steps: list[Step] = []
    places: list[tuple[int, int]] = []  # tree and node of each step
    for number, tree in enumerate(trees):
        before: dict[int | None, tuple[str, ...]] = {None: ()}
        for node in tree.nodes:  # depth first: a parent stands before its children
            said, closed, _ = decode(node.token_ids).partition(CLOSE)
            if node.finish is not None and not closed:
                continue  # an answer, or what a chain broke off with
            text = said.replace(OPEN, "").strip()
            steps.append(Step(tree.prompt.text, before[node.parent], text))
            places.append((number, node.id))
            before[node.id] = (*before[node.parent], text)
    verdicts = dict(zip(places, judge.judge(steps), strict=True))

    def judged(number: int, node: Node) -> Node:
        return node.model_copy(update={"reflection": verdicts.get((number, node.id))})

    return [
        tree.model_copy(update={"nodes": tuple(judged(number, node) for node in tree.nodes)})
        for number, tree in enumerate(trees)
    ]


def count_reflections(trees: Sequence[Tree]) -> dict[str, object]:
    """How many of the model's own steps and chains reflect, and what came of it.

    A reflection is hollow where the outcome ignores it. A chain reflects where one of its steps does, and does not
    where none does and all were judged. ``harmful, reflects`` then counts its chains by outcome: ``desirable`` refused,
    ``undesirable`` complied all the same; ``benign, reflects``: ``undesirable`` refused all the same. Where no step was
    judged there is nothing to count.
    """
    labels: Counter[str] = Counter()
    for tree in trees:
        put_in = after_insertion(tree)
        own = [node.reflection for node in tree.nodes if node.reflection is not None and node.id not in put_in]
        labels.update(one.label or "unscored" for one in own)
    chains: dict[str, Counter[str]] = {}
    outcomes = {True: "desirable", False: "undesirable", None: "not whole"}
    for tree in trees:
        for leaf in leaves(tree):
            found = [node.reflection for node in path(tree, leaf.id) if node.reflection is not None]
            if not found:
                continue
            labels_found = {one.label for one in found}
            kind = "reflects" if REFLECTS in labels_found else "not judged" if None in labels_found else "does not"
            chains.setdefault(f"{tree.prompt.label}, {kind}", Counter())[outcomes[leaf.desirable]] += 1
    return {"steps": dict(labels), **{name: dict(counts) for name, counts in sorted(chains.items())}}
