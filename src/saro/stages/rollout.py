"""Rollout: a tree of chains for each prompt from the RW model, with a verdict on every leaf.

A tree branches at its beginning and at the ends of its first reasoning steps: siblings share all that was said before
them, and where they end differently, what they said is what made the difference. That is what divergence pairs need.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saro.config import RolloutConfig
from saro.files import write_json, write_jsonl
from saro.journal import Journal
from saro.models import Compute, fingerprint
from saro.progress import Reporter
from saro.records import Tree
from saro.sources.prompts import load_prompts
from saro.stages.outcome import Outcome, read_outcome
from saro.trees import TreeBuilder, leaves

if TYPE_CHECKING:
    from saro.engines.branching import Leaf


@dataclass(frozen=True)
class _Chain:
    """A leaf as sampled, and what it amounts to."""

    leaf: "Leaf"
    outcome: Outcome

    @property
    def desirable(self) -> bool | None:
        """Whether the outcome is the wished one; None for what is no whole chain, so that form is never preferred."""
        if self.outcome.form != "chain" or self.leaf.finish != "stop":
            return None
        return self.outcome.wished


def rollout(
    config: RolloutConfig, model: str, out: Path, seed: int, compute: Compute, journal: Journal, reporter: Reporter
) -> dict[str, object]:
    """Sample trees from ``model``; write ``trees.jsonl`` and ``summary.json`` under ``out``.

    Returns:
        Timing: ``seconds`` of sampling and ``tokens_per_second`` decoded; tokens that leaves share count once.
    """
    from saro.engines.local import Sampling
    from saro.engines.trees import TreeEngine
    from saro.rendering import load_renderer

    prompts = load_prompts(config.prompts, config.limit)
    renderer = load_renderer(model)
    identity = fingerprint(model)
    engine = TreeEngine(model, identity, renderer.eos, compute, journal, config.batch_size)
    prompt_ids = [renderer.prompt_ids(prompt.text) for prompt in prompts]
    grown = engine.grow(
        prompt_ids,
        [_seed(seed, prompt.id) for prompt in prompts],
        config.branching,
        Sampling(config.max_new_tokens, config.temperature, config.top_p),
        config.max_step_tokens,
        renderer.ends_step,
        reporter,
    )
    chains = [
        [_Chain(leaf, read_outcome(renderer.decode(leaf.token_ids), prompt.label)) for leaf in leaves]
        for prompt, leaves in zip(prompts, grown, strict=True)
    ]
    trees = []
    for prompt, ids, several in zip(prompts, prompt_ids, chains, strict=True):
        builder = TreeBuilder(prompt, ids, identity, seed)
        for chain in several:
            leaf = chain.leaf
            pieces = _cut(leaf.token_ids, renderer.step_lengths(leaf.token_ids))
            builder.add(pieces, leaf.finish, chain.outcome.verdict, chain.desirable, leaf.log_probs)
        trees.append(builder.tree())
    write_jsonl(out / "trees.jsonl", trees)
    write_json(out / "summary.json", _summary(trees, [chain for several in chains for chain in several]))
    speed = engine.tokens / engine.seconds if engine.seconds else 0.0
    return {"seconds": engine.seconds, "tokens_per_second": speed}


def _seed(seed: int, prompt_id: str) -> int:
    """A seed for one tree, from what identifies it and nothing else."""
    digest = hashlib.sha256(f"{seed}/{prompt_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _cut(token_ids: Sequence[int], lengths: Sequence[int]) -> list[tuple[int, ...]]:
    ends = list(itertools.accumulate(lengths))
    return [tuple(token_ids[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


def _summary(trees: Sequence[Tree], sampled: Sequence[_Chain]) -> dict[str, object]:
    mixed = sum(len({leaf.desirable for leaf in leaves(tree)} & {True, False}) == 2 for tree in trees)
    return {
        "prompts": len(trees),
        "chains": len(sampled),
        "desirable": sum(chain.desirable is True for chain in sampled),
        "undesirable": sum(chain.desirable is False for chain in sampled),
        "not whole": sum(chain.desirable is None for chain in sampled),
        "truncated": sum(chain.leaf.finish == "length" for chain in sampled),
        "forms": dict(Counter(chain.outcome.form for chain in sampled)),
        "prompts with both outcomes": mixed,
    }
