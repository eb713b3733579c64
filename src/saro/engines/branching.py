"""Trees sampled with transformers in process: a shared token is decoded once, and slots that come free are filled.

Rows branch at the ends of steps. The first child goes on in its parent's slot; the others wait for slots, and take the
keys and values of their prefix from a row that still has them, or compute them anew in one pass where none has. All
rows are aligned at the right, so that a row's columns are its positions but for a shift.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from saro.engines.local import Sampling, choose, growing_cache, left_padded
from saro.records import Finish

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_REBUILD_AT = 0.15  # share of slots to be emptied or filled from which moving the cache pays


@dataclass(frozen=True)
class Shape:
    """How trees are sampled.

    Attributes:
        branching: children at the beginning, and at the end of the first steps, one number each.
        sampling: temperature, top-p and the limit of new tokens of a chain.
        ends_step: whether a completion's tokens end with the end of a reasoning step.
        eos: ids that end a turn.
        max_step_tokens: a chain whose step, or answer, grows longer is cut off; None: none is.
    """

    branching: tuple[int, ...]
    sampling: Sampling
    ends_step: Callable[[Sequence[int]], bool]
    eos: frozenset[int]
    max_step_tokens: int | None = None


@dataclass(frozen=True)
class Leaf:
    """A whole chain: its tokens, their log-probs under the model (at temperature 1, in nats), and how it ended."""

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish: Finish


@dataclass
class Decoded:
    """What it took.

    Attributes:
        tokens: decoded; those that leaves share count once.
        slots: rows computed, over all steps; those that had ended count too.
        prefilled: tokens of prefixes that were computed anew.
    """

    tokens: int = 0
    slots: int = 0
    prefilled: int = 0


@dataclass
class _Row:
    prompt: int
    path: tuple[int, ...]
    token_ids: list[int]  # the prompt's and its own
    own: int  # how many of them are its own
    log_probs: list[float]
    stream: np.random.Generator
    step: int = 0  # tokens since the last end of a step
    ended: bool = False
    begin: int = 0  # column of its first token
    family: list["_Row"] = field(default_factory=list)  # rows that begin with its tokens


@torch.inference_mode()
def grow(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    shape: Shape,
    capacity: int,
    on_leaf: Callable[[], None] | None = None,
) -> tuple[list[list[Leaf]], Decoded]:
    """Sample a tree of chains for each prompt.

    Args:
        model: a causal LM in evaluation mode.
        prompts: P sequences of token ids.
        seeds: P seeds; each child has a random stream of its own, from its prompt's seed and its path in the tree.
        shape: of every tree.
        capacity: most rows decoded at once.
        on_leaf: called as each chain ends.

    Returns:
        For each prompt its leaves, in the order of their paths; and what it took.
    """
    found: list[dict[tuple[int, ...], Leaf]] = [{} for _ in prompts]
    taken = Decoded()
    waiting: list[_Row] = []
    for prompt in reversed(range(len(prompts))):
        root = _Row(prompt, (), list(prompts[prompt]), 0, [], _stream(seeds[prompt], ()))
        waiting += reversed(_children(root, shape.branching[0], seeds[prompt]))
    slots = _Slots(model)
    while waiting or any(not row.ended for row in slots.rows):
        live = sum(not row.ended for row in slots.rows)
        room = min(capacity - live, len(waiting))
        if max(room, len(slots.rows) - live) >= _REBUILD_AT * capacity or not live:
            taken.prefilled += slots.rebuild([waiting.pop() for _ in range(room)])
        logits = slots.decode()
        taken.slots += len(slots.rows)
        tokens = choose(logits, shape.sampling, [row.stream for row in slots.rows])
        log_probs = torch.log_softmax(logits.float(), -1).gather(1, tokens[:, None])[:, 0]
        for row, token, log_prob in zip(slots.rows, tokens.tolist(), log_probs.tolist(), strict=True):
            if row.ended:
                continue
            taken.tokens += 1
            row.token_ids.append(token)
            row.log_probs.append(round(log_prob, 5))
            row.own, row.step = row.own + 1, row.step + 1
            finish: Finish | None = "stop" if token in shape.eos else None
            if finish is None and (row.own == shape.sampling.max_new_tokens or row.step == shape.max_step_tokens):
                finish = "length"
            if finish is not None:
                row.ended = True
                own = tuple(row.token_ids[len(row.token_ids) - row.own :])
                found[row.prompt][row.path] = Leaf(own, tuple(row.log_probs), finish)
                if on_leaf:
                    on_leaf()
            elif shape.ends_step(row.token_ids[len(row.token_ids) - row.own :]):
                row.step = 0
                if len(row.path) < len(shape.branching):
                    first, *others = _children(row, shape.branching[len(row.path)], seeds[row.prompt])
                    row.path, row.stream = first.path, first.stream
                    waiting += reversed(others)
    return [[leaf for _, leaf in sorted(leaves.items())] for leaves in found], taken


def _children(row: _Row, count: int, seed: int) -> list[_Row]:
    made = []
    for number in range(count):
        path = (*row.path, number)
        made.append(_Row(row.prompt, path, list(row.token_ids), row.own, list(row.log_probs), _stream(seed, path)))
    for child in made:
        child.family = [row, *made]
    return made


def _stream(seed: int, path: tuple[int, ...]) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "big")))


class _Slots:
    """The rows that are decoded together, with their keys and values."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self._model = model
        self._cache = growing_cache(model)
        self.rows: list[_Row] = []
        self._length = 0  # columns of the cache

    def decode(self) -> torch.Tensor:
        """(rows, vocabulary) logits of each row's next token; every row's last token is fed."""
        device = self._model.device
        ids = torch.tensor([[row.token_ids[-1]] for row in self.rows], device=device)
        positions = torch.tensor([[self._length - row.begin] for row in self.rows], device=device)
        columns = torch.arange(self._length + 1, device=device)
        mask = (columns[None] >= torch.tensor([[row.begin] for row in self.rows], device=device)).long()
        self._length += 1
        logits: torch.Tensor = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits

    def rebuild(self, admitted: Sequence[_Row]) -> int:
        """Let the ended rows go and take ``admitted`` in; the tokens of prefixes that were computed anew."""
        kept = [row for row in self.rows if not row.ended]
        donors = {id(row): place for place, row in enumerate(self.rows)}
        sources: list[int | None] = [donors[id(row)] for row in kept]  # whose first columns a row takes
        anew: set[tuple[int, ...]] = set()
        for row in admitted:
            source = next((donors[id(other)] for other in row.family if id(other) in donors), None)
            sources.append(source)
            if source is None and len(row.token_ids) > 1:
                anew.add(tuple(row.token_ids[:-1]))
        prefixes = sorted(anew)
        prefilled = self._prefill(prefixes) if prefixes else None
        length = max((len(row.token_ids) - 1 for row in (*kept, *admitted)), default=0)
        for place, layer in enumerate(self._cache.layers):
            held = layer.filled() if self._length else None
            fresh = prefilled[place] if prefilled else None
            like = held or fresh
            if like is None:  # prompts of one token: there is nothing before the token that is fed next
                continue
            new: list[torch.Tensor] = []
            for kind, states in enumerate(like):
                target = states.new_zeros(len(kept) + len(admitted), states.shape[1], length, states.shape[3])
                for number, row in enumerate((*kept, *admitted)):
                    size, source = len(row.token_ids) - 1, sources[number]
                    if source is not None and held is not None:
                        begin = self.rows[source].begin
                        target[number, :, length - size :] = held[kind][source, :, begin : begin + size]
                    elif size and fresh is not None:
                        which = prefixes.index(tuple(row.token_ids[:-1]))
                        target[number, :, length - size :] = fresh[kind][which, :, fresh[kind].shape[2] - size :]
                new.append(target)
            layer.refill(*new)
        for row in (*kept, *admitted):
            row.begin = length - (len(row.token_ids) - 1)
        self.rows = [*kept, *admitted]
        self._length = length
        return sum(map(len, prefixes))

    def _prefill(self, prefixes: Sequence[tuple[int, ...]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of ``prefixes``, layer by layer, aligned at the right."""
        ids, mask, positions = left_padded(prefixes, self._model.device)
        cache = growing_cache(self._model)
        self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return [layer.filled() for layer in cache.layers]
