"""Trees of many prompts from one model in process; what is finished is journaled and never sampled again."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from saro.engines.branching import Leaf, Shape, grow
from saro.files import sha256_json
from saro.journal import Journal
from saro.models import Compute, load_model
from saro.progress import Reporter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FILLS = 3  # times that the leaves of a unit fill all slots: rows are seldom idle, and little is lost with a unit


class TreeEngine:
    """Grows trees; a unit of prompts is sampled together, and its make-up depends on the prompts alone.

    The weights are loaded when the first unit that is not in the journal needs them.

    Attributes:
        seconds: time that all units took, those of earlier processes included.
        tokens: tokens decoded in that time.
    """

    def __init__(self, name: str, fingerprint: str, compute: Compute, journal: Journal, capacity: int) -> None:
        self.seconds, self.tokens = 0.0, 0
        self._name, self._fingerprint = name, fingerprint
        self._compute, self._journal, self._capacity = compute, journal, capacity
        self._model: PreTrainedModel | None = None

    def grow(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], shape: Shape, reporter: Reporter
    ) -> list[list[Leaf]]:
        """A tree for each prompt, as :func:`saro.engines.branching.grow` has it; in the order of ``prompts``."""
        leaves = math.prod(shape.branching)
        size = max(1, _FILLS * self._capacity // leaves)
        order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
        found: dict[int, list[Leaf]] = {}
        ended = 0
        with reporter.task("growing trees", len(prompts)) as progress:

            def count() -> None:
                nonlocal ended
                ended += 1
                progress.update(min(ended // leaves, len(prompts)))

            for start in range(0, len(order), size):
                rows = order[start : start + size]
                unit = self._unit([list(prompts[row]) for row in rows], [seeds[row] for row in rows], shape, count)
                found.update(zip(rows, unit, strict=True))
                ended = leaves * len(found)
                progress.update(len(found), f"{self.tokens / self.seconds:.0f} tokens/s" if self.seconds else "")
        return [found[row] for row in range(len(prompts))]

    def _unit(
        self, prompts: list[list[int]], seeds: list[int], shape: Shape, on_leaf: Callable[[], None]
    ) -> list[list[Leaf]]:
        compute = [self._compute.device, str(self._compute.dtype), self._capacity]
        settings = [asdict(shape.sampling), list(shape.branching), shape.max_step_tokens]
        key = sha256_json([self._fingerprint, compute, settings, prompts, seeds])
        unit = self._journal.get(key)
        if unit is None:
            if self._model is None:
                self._model = load_model(self._name, self._compute.device, self._compute.dtype)
            started = time.monotonic()
            trees, decoded = grow(self._model, prompts, seeds, shape, self._capacity, on_leaf)
            unit = {
                "trees": [[[leaf.token_ids, leaf.log_probs, leaf.finish] for leaf in tree] for tree in trees],
                "seconds": time.monotonic() - started,
                "tokens": decoded.tokens,
            }
            self._journal.put(key, "rollout", unit)
        self.seconds += unit["seconds"]
        self.tokens += unit["tokens"]
        return [
            [Leaf(tuple(ids), tuple(log_probs), finish) for ids, log_probs, finish in tree] for tree in unit["trees"]
        ]
