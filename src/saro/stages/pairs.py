"""Pairs: OP-COT (outcome) and PP-COT (divergence) preferences from trees, with provenance and balanced lengths."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saro.config import PairsConfig
from saro.errors import InputError
from saro.files import read_jsonl, sha256_json, write_json, write_jsonl
from saro.records import Message, Node, Pair, PairKind, PairProvenance, Tree
from saro.trees import children_of, leaves, leaves_below, path, value

if TYPE_CHECKING:
    from saro.rendering import Renderer


def build_pairs(config: PairsConfig, trees: Path, model: str, out: Path) -> dict[str, object]:
    """Build pairs from ``trees``; write ``pairs.jsonl`` and ``summary.json`` under ``out``.

    Args:
        config: kinds and thresholds.
        trees: the JSONL of a rollout.
        model: whose tokenizer turns the token ids into the text of the conversational columns.
        out: folder of the stage.

    Returns:
        The summary: for each kind the pairs, prompts, directions, what balancing dropped and the mean length
        difference; and why prompts gave no pair.

    Raises:
        InputError: no pair at all came out.
    """
    from saro.rendering import load_renderer

    renderer = load_renderer(model)
    forest = list(read_jsonl(trees, Tree))
    kinds: list[tuple[PairKind, list[Pair]]] = []
    if config.outcome:
        kinds.append(("outcome", [pair for tree in forest for pair in outcome_pairs(tree, config, renderer)]))
    if config.divergence:
        kinds.append(("divergence", [pair for tree in forest for pair in divergence_pairs(tree, config, renderer)]))
    kept: list[Pair] = []
    summary: dict[str, object] = {}
    for kind, candidates in kinds:
        shared = share_directions(candidates, config.benign_share) if config.benign_share else candidates
        chosen = balance(shared, config.length_tolerance) if config.balance_lengths else shared
        kept += chosen
        summary[kind] = {
            **_count(chosen),
            "dropped to share directions": len(candidates) - len(shared),
            "dropped to balance lengths": len(shared) - len(chosen),
        }
    summary["prompts without a pair"] = _reasons(forest, {pair.prompt_id for pair in kept})
    if not kept:
        raise InputError(
            trees,
            f"gave no pair ({summary['prompts without a pair']})",
            "sample more chains a prompt, or relax pairs.benign_share, length_tolerance and the thresholds",
        )
    write_jsonl(out / "pairs.jsonl", kept)
    write_json(out / "summary.json", summary)
    return summary


def outcome_pairs(tree: Tree, config: PairsConfig, renderer: "Renderer") -> list[Pair]:
    """Whole chains of one prompt, desirable over undesirable; each in one pair at most, similar lengths together."""
    good = [leaf for leaf in leaves(tree) if leaf.desirable is True]
    bad = [leaf for leaf in leaves(tree) if leaf.desirable is False]
    by_difference = sorted(
        itertools.product(good, bad),
        key=lambda sides: (abs(_length(tree, sides[0]) - _length(tree, sides[1])), sides[0].id, sides[1].id),
    )
    pairs: list[Pair] = []
    used: set[int] = set()
    for chosen, rejected in by_difference:
        if len(pairs) < config.max_per_prompt and not used & {chosen.id, rejected.id}:
            used |= {chosen.id, rejected.id}
            pairs.append(_pair(tree, "outcome", None, chosen, rejected, 1.0, 0.0, renderer))
    return _not_equal(pairs)


def divergence_pairs(tree: Tree, config: PairsConfig, renderer: "Renderer") -> list[Pair]:
    """Siblings under one step, the higher value over the lower; each side runs on to a leaf of its kind.

    The shared prefix is the prompt and the steps down to the parent; only what follows is scored
    (cf. arXiv:2509.24393: preference after the divergence point).
    """
    pairs: list[Pair] = []
    for parent, siblings in children_of(tree.nodes).items():
        if parent is None:
            continue  # whole chains are outcome pairs
        valued = [(found, node) for node in siblings if (found := value(tree, node.id)) is not None]
        for (high, better), (low, worse) in itertools.permutations(valued, 2):
            if high < config.min_chosen_value or high - low < config.min_value_gap:
                continue
            chosen = _shortest(tree, better, desirable=True)
            rejected = _shortest(tree, worse, desirable=False)
            if chosen and rejected:
                pairs.append(_pair(tree, "divergence", parent, chosen, rejected, high, low, renderer))
    pairs.sort(key=lambda pair: (abs(len(pair.chosen_ids) - len(pair.rejected_ids)), pair.id))
    kept: list[Pair] = []
    used: set[int] = set()
    for pair in _not_equal(pairs):
        ends = {pair.provenance.chosen_nodes[-1], pair.provenance.rejected_nodes[-1]}
        if len(kept) < config.max_per_prompt and not used & ends:
            used |= ends
            kept.append(pair)
    return kept


def share_directions(pairs: Sequence[Pair], benign_share: float) -> list[Pair]:
    """Drop pairs of the direction that is too many, until those from benign prompts have their share.

    Which ones go depends on a hash of their ids alone. Where one direction has no pair at all, nothing is kept that
    could give it its share: the result is empty.
    """
    odds = benign_share / (1 - benign_share)
    count = Counter(pair.direction for pair in pairs)
    most = {"benign": round(count["harmful"] * odds), "harmful": round(count["benign"] / odds)}
    kept: set[str] = set()
    for direction, limit in most.items():
        ids = [pair.id for pair in pairs if pair.direction == direction]
        kept |= set(sorted(ids, key=sha256_json)[:limit])
    return [pair for pair in pairs if pair.id in kept]


def balance(pairs: Sequence[Pair], tolerance: float) -> list[Pair]:
    """Drop pairs until the mean of ``chosen − rejected`` lengths is within ``tolerance`` of the mean length.

    Each step drops the pair that leans most to the side of the mean; an empty list is balanced.
    """
    kept = list(pairs)
    while kept:
        differences = [len(pair.chosen_ids) - len(pair.rejected_ids) for pair in kept]
        mean_length = sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in kept) / (2 * len(kept))
        lean = sum(differences) / len(kept)
        if abs(lean) <= tolerance * mean_length:
            break
        worst = max(range(len(kept)), key=lambda place: differences[place] * (1 if lean > 0 else -1))
        del kept[worst]
    return kept


def _length(tree: Tree, leaf: Node) -> int:
    return sum(len(node.token_ids) for node in path(tree, leaf.id))


def _shortest(tree: Tree, node: Node, desirable: bool) -> Node | None:
    fitting = [leaf for leaf in leaves_below(tree, node.id) if leaf.desirable is desirable]
    return min(fitting, key=lambda leaf: (_length(tree, leaf), leaf.id), default=None)


def _not_equal(pairs: Sequence[Pair]) -> list[Pair]:
    different = {pair.id: pair for pair in reversed(pairs) if pair.chosen_ids != pair.rejected_ids}
    return list(different.values())[::-1]


def _pair(
    tree: Tree,
    kind: PairKind,
    parent: int | None,
    chosen: Node,
    rejected: Node,
    chosen_value: float,
    rejected_value: float,
    renderer: "Renderer",
) -> Pair:
    shared = path(tree, parent) if parent is not None else []
    good, bad = path(tree, chosen.id), path(tree, rejected.id)
    shared_ids = _ids(shared)
    if chosen.verdict is None or rejected.verdict is None:
        raise ValueError(f"leaves of tree {tree.prompt.id} without verdicts")
    return Pair(
        id=f"{tree.prompt.id}-{kind}-{sha256_json([_ids(good), _ids(bad), len(shared_ids)])[:8]}",
        kind=kind,
        direction=tree.prompt.label,
        prompt_id=tree.prompt.id,
        prompt=(Message(role="user", content=tree.prompt.text),),
        chosen=(Message(role="assistant", content=renderer.decode(_ids(good))),),
        rejected=(Message(role="assistant", content=renderer.decode(_ids(bad))),),
        prefix_ids=tree.prompt_ids + shared_ids,
        chosen_ids=_ids(good[len(shared) :]),
        rejected_ids=_ids(bad[len(shared) :]),
        provenance=PairProvenance(
            model=tree.model,
            seed=tree.seed,
            parent=parent,
            chosen_nodes=tuple(node.id for node in good[len(shared) :]),
            rejected_nodes=tuple(node.id for node in bad[len(shared) :]),
            chosen_value=chosen_value,
            rejected_value=rejected_value,
            chosen_verdict=chosen.verdict,
            rejected_verdict=rejected.verdict,
        ),
    )


def _ids(nodes: Sequence[Node]) -> tuple[int, ...]:
    return tuple(token for node in nodes for token in node.token_ids)


def _count(pairs: Sequence[Pair]) -> dict[str, object]:
    differences = [len(pair.chosen_ids) - len(pair.rejected_ids) for pair in pairs]
    lengths = [(len(pair.chosen_ids) + len(pair.rejected_ids)) / 2 for pair in pairs]
    return {
        "pairs": len(pairs),
        "prompts": len({pair.prompt_id for pair in pairs}),
        "directions": dict(Counter(pair.direction for pair in pairs)),
        "mean tokens chosen − rejected": round(sum(differences) / len(pairs), 1) if pairs else None,
        "mean tokens of a side": round(sum(lengths) / len(pairs), 1) if pairs else None,
    }


def _reasons(forest: Sequence[Tree], paired: set[str]) -> dict[str, int]:
    reasons: Counter[str] = Counter()
    for tree in forest:
        if tree.prompt.id in paired:
            continue
        outcomes = {leaf.desirable for leaf in leaves(tree)}
        if True in outcomes and False in outcomes:
            reasons["dropped by thresholds, shares or balancing"] += 1
        elif False in outcomes:
            reasons["all chains undesirable"] += 1
        elif True in outcomes:
            reasons["all chains desirable"] += 1
        else:
            reasons["no whole chain"] += 1
    return dict(reasons)
