"""Rollout: several chains a prompt from the RW model, stored as trees with a verdict on every leaf.

Each prompt is first sampled from its beginning. Where a chain came out undesirable, the first such chain is continued
anew from the middle of its reasoning: siblings that share a prefix and end differently are what divergence pairs need.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saro.config import RolloutConfig
from saro.files import write_json, write_jsonl
from saro.journal import Journal
from saro.models import Compute, fingerprint
from saro.progress import Reporter
from saro.records import Prompt, Tree
from saro.sources.prompts import load_prompts
from saro.stages.outcome import Outcome, read_outcome
from saro.trees import TreeBuilder, leaves

if TYPE_CHECKING:
    from saro.engines.local import Continuation
    from saro.rendering import Renderer


@dataclass(frozen=True)
class _Sampled:
    """A whole chain of one prompt: its tokens cut into pieces, how it ended, and what it amounts to."""

    token_ids: tuple[int, ...]
    lengths: tuple[int, ...]
    continuation: "Continuation"
    outcome: Outcome

    @property
    def pieces(self) -> list[tuple[int, ...]]:
        ends = [sum(self.lengths[: place + 1]) for place in range(len(self.lengths))]
        return [self.token_ids[end - length : end] for end, length in zip(ends, self.lengths, strict=True)]

    @property
    def desirable(self) -> bool | None:
        """Whether the outcome is the wished one; None for what is no whole chain, so that form is never preferred."""
        if self.outcome.form != "chain" or self.continuation.finish != "stop":
            return None
        return self.outcome.wished


def rollout(
    config: RolloutConfig, model: str, out: Path, seed: int, compute: Compute, journal: Journal, reporter: Reporter
) -> dict[str, object]:
    """Sample trees from ``model``; write ``trees.jsonl`` and ``summary.json`` under ``out``.

    Returns:
        Timing: ``seconds`` of sampling and ``tokens_per_second`` sampled.
    """
    from saro.engines.local import LocalEngine, Sampling
    from saro.rendering import load_renderer

    prompts = load_prompts(config.prompts, config.limit)
    renderer = load_renderer(model)
    identity = fingerprint(model)
    engine = LocalEngine(model, identity, renderer.eos, compute, journal, config.batch_size)
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p)

    prompt_ids = {prompt.id: renderer.prompt_ids(prompt.text) for prompt in prompts}
    chains: dict[str, list[_Sampled]] = defaultdict(list)
    first = [(prompt, sample) for prompt in prompts for sample in range(config.samples)]
    found = engine.generate(
        [prompt_ids[prompt.id] for prompt, _ in first],
        [_seed(seed, prompt.id, "root", sample) for prompt, sample in first],
        sampling,
        "rollout",
        "sampling chains",
        reporter,
    )
    for (prompt, _), continuation in zip(first, found, strict=True):
        chains[prompt.id].append(_read(prompt, (), continuation, renderer))

    branched = _branch_points(prompts, chains) if config.branches else []
    second = [(prompt, prefix, branch) for prompt, prefix in branched for branch in range(config.branches)]
    found = engine.generate(
        [(*prompt_ids[prompt.id], *prefix) for prompt, prefix, _ in second],
        [_seed(seed, prompt.id, "branch", branch) for prompt, _, branch in second],
        sampling,
        "rollout",
        "branching",
        reporter,
    )
    for (prompt, prefix, _), continuation in zip(second, found, strict=True):
        chains[prompt.id].append(_read(prompt, prefix, continuation, renderer))

    trees = [_tree(prompt, prompt_ids[prompt.id], chains[prompt.id], identity, seed) for prompt in prompts]
    write_jsonl(out / "trees.jsonl", trees)
    write_json(out / "summary.json", _summary(trees, chains))
    speed = engine.tokens / engine.seconds if engine.seconds else 0.0
    return {"seconds": engine.seconds, "tokens_per_second": speed}


def _seed(seed: int, prompt_id: str, place: str, number: int) -> int:
    """A seed for one sample, from what identifies it and nothing else."""
    digest = hashlib.sha256(f"{seed}/{prompt_id}/{place}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _read(prompt: Prompt, prefix: tuple[int, ...], continuation: "Continuation", renderer: "Renderer") -> _Sampled:
    token_ids = (*prefix, *continuation.token_ids)
    outcome = read_outcome(renderer.decode(token_ids), prompt.label)
    return _Sampled(token_ids, tuple(renderer.step_lengths(token_ids)), continuation, outcome)


def _branch_points(
    prompts: Sequence[Prompt], chains: dict[str, list[_Sampled]]
) -> list[tuple[Prompt, tuple[int, ...]]]:
    """For each prompt with an undesirable chain: the first half of the steps of the first such chain."""
    points = []
    for prompt in prompts:
        for chain in chains[prompt.id]:
            if chain.desirable is False and len(chain.lengths) > 2:  # two steps and an answer at least
                steps = (len(chain.lengths) - 1) // 2
                points.append((prompt, chain.token_ids[: sum(chain.lengths[:steps])]))
                break
    return points


def _tree(prompt: Prompt, prompt_ids: tuple[int, ...], chains: Sequence[_Sampled], model: str, seed: int) -> Tree:
    builder = TreeBuilder(prompt, prompt_ids, model, seed)
    for chain in chains:
        builder.add(chain.pieces, chain.continuation.finish, chain.outcome.verdict, chain.desirable)
    return builder.tree()


def _summary(trees: Sequence[Tree], chains: dict[str, list[_Sampled]]) -> dict[str, object]:
    sampled = [chain for several in chains.values() for chain in several]
    mixed = sum(len({leaf.desirable for leaf in leaves(tree)} & {True, False}) == 2 for tree in trees)
    return {
        "prompts": len(trees),
        "chains": len(sampled),
        "desirable": sum(chain.desirable is True for chain in sampled),
        "undesirable": sum(chain.desirable is False for chain in sampled),
        "not whole": sum(chain.desirable is None for chain in sampled),
        "truncated": sum(chain.continuation.finish == "length" for chain in sampled),
        "forms": dict(Counter(chain.outcome.form for chain in sampled)),
        "prompts with both outcomes": mixed,
    }
