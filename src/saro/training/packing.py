"""Tree packing: many token sequences in a few rows, where what they share from the beginning stands once.

The sequences are sorted, so that each shares with the one before it the longest prefix that it shares with any earlier
one, and only what is new of it is laid down: a trie in depth-first order. A token's position is its depth; it attends
to itself and to what stands before it in its own sequence. So every log-prob is what it would be in a row of its own,
and no token is computed twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Mask: TypeAlias = torch.Tensor | BlockMask


@dataclass(frozen=True)
class Side:
    """A token sequence of which all from ``start`` on is scored; ``start`` is at least 1.

    Sides of one ``group`` (of one prompt, say) are kept in one row where they fit.
    """

    token_ids: Sequence[int]
    start: int
    group: str


@dataclass(frozen=True)
class Packed:
    """S sides as R rows of L tokens, and where the N tokens that are scored stand. Flat places are row · L + column.

    Attributes:
        input_ids: (R, L) token ids; 0 at padding.
        position_ids: (R, L) depth of each token in its sequence.
        ends: (R, L) column after the last token that follows from this one; at padding the column after itself.
        scored: (N,) flat places of the tokens that some side scores, each once.
        predicting: (N,) flat places of the tokens before them.
        sides: (M,) which side scores a token, for all sides and their tokens.
        members: (M,) which of the N tokens it is.
        tokens: tokens laid down, padding aside.
        count: S.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    ends: torch.Tensor
    scored: torch.Tensor
    predicting: torch.Tensor
    sides: torch.Tensor
    members: torch.Tensor
    tokens: int
    count: int

    def to(self, device: torch.device | str) -> "Packed":
        """The same on another device."""
        moved = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if torch.is_tensor(value)
        }
        return Packed(**{**vars(self), **moved})


def unique_tokens(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens of a trie that holds ``sequences``."""
    ordered = sorted(map(tuple, sequences))
    return sum(len(new) - _shared(old, new) for old, new in zip([(), *ordered], ordered, strict=False))


def pack(sides: Sequence[Side], max_length: int) -> Packed:
    """Lay ``sides`` out in rows of at most ``max_length`` tokens; none is cut.

    A row is as long as the largest group's trie, but no longer than ``max_length``: a group that is larger is divided
    by subtrees. Other groups join a row where there is room.

    Raises:
        ValueError: no sides; one longer than ``max_length``, or with nothing before or at its ``start``.
    """
    _check(sides, max_length)
    rows: list[_Row] = []
    for part in _parts(sides, max_length):
        rows.append(_Row())
        for place in part:
            rows[-1].add(place, sides[place])
    return _padded(rows, len(sides))


def lay_out(sides: Sequence[Side], max_length: int) -> Packed:
    """Lay each side out in a row of its own, for models whose layers cannot be told what a token may attend to.

    Raises:
        ValueError: as :func:`pack`.
    """
    _check(sides, max_length)
    rows = [_Row() for _ in sides]
    for place, (row, side) in enumerate(zip(rows, sides, strict=True)):
        row.add(place, side)
    return _padded(rows, len(sides))


def _check(sides: Sequence[Side], max_length: int) -> None:
    if not sides:
        raise ValueError("no sides to lay out")
    for side in sides:
        if not 1 <= side.start < len(side.token_ids) <= max_length:
            raise ValueError(f"a side of {len(side.token_ids)} tokens, scored from {side.start}, at most {max_length}")


def _parts(sides: Sequence[Side], max_length: int) -> list[list[int]]:
    """Which sides go into which row, each row's in sorted order."""
    groups: dict[str, list[int]] = {}
    for place in sorted(range(len(sides)), key=lambda place: tuple(sides[place].token_ids)):
        groups.setdefault(sides[place].group, []).append(place)
    pieces: list[tuple[int, list[int]]] = []
    for group in groups.values():
        size, piece = 0, list[int]()
        last: tuple[int, ...] = ()
        for place in group:
            ids = tuple(sides[place].token_ids)
            new = len(ids) - _shared(last, ids)
            if size + new > max_length:
                pieces.append((size, piece))
                size, piece, new = 0, [], len(ids)
            size, last = size + new, ids
            piece.append(place)
        pieces.append((size, piece))
    pieces.sort(key=lambda piece: -piece[0])
    room = pieces[0][0]
    rows: list[tuple[int, list[int]]] = []
    for size, piece in pieces:  # first fit, the largest first
        for number, (used, row) in enumerate(rows):
            if used + size <= room:
                rows[number] = (used + size, row + piece)
                break
        else:
            rows.append((size, piece))
    return [sorted(row, key=lambda place: tuple(sides[place].token_ids)) for _, row in rows]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    most = min(len(one), len(other))
    return next((place for place in range(most) if one[place] != other[place]), most)


class _Row:
    """One row while it is laid down; sequences come in sorted order."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.depths: list[int] = []
        self.ends: list[int] = []
        self.scored: list[tuple[int, int, list[int]]] = []  # side, then columns: before the first token, of the tokens
        self._path: list[int] = []  # columns of the last sequence's tokens

    def add(self, number: int, side: Side) -> None:
        shared = _shared([self.token_ids[column] for column in self._path], side.token_ids)
        first = len(self.token_ids)
        new = list(side.token_ids[shared:])
        self.token_ids += new
        self.depths += range(shared, len(side.token_ids))
        self.ends += [0] * len(new)
        self._path = self._path[:shared] + list(range(first, first + len(new)))
        for column in self._path:  # all of them go on to here
            self.ends[column] = len(self.token_ids)
        self.scored.append((number, self._path[side.start - 1], self._path[side.start :]))


def _padded(rows: Sequence[_Row], count: int) -> Packed:
    length = max(len(row.token_ids) for row in rows)
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    position_ids = torch.zeros(len(rows), length, dtype=torch.long)
    ends = torch.arange(1, length + 1).repeat(len(rows), 1)
    number: dict[int, int] = {}  # of each scored token, by its flat place
    predicting: list[int] = []
    sides: list[int] = []
    members: list[int] = []
    for place, row in enumerate(rows):
        used = len(row.token_ids)
        input_ids[place, :used] = torch.tensor(row.token_ids)
        position_ids[place, :used] = torch.tensor(row.depths)
        ends[place, :used] = torch.tensor(row.ends)
        for side, before, columns in row.scored:
            for parent, column in zip([before, *columns], columns, strict=False):
                flat = place * length + column
                if flat not in number:
                    number[flat] = len(number)
                    predicting.append(place * length + parent)
                sides.append(side)
                members.append(number[flat])
    return Packed(
        input_ids=input_ids,
        position_ids=position_ids,
        ends=ends,
        scored=torch.tensor(list(number)),
        predicting=torch.tensor(predicting),
        sides=torch.tensor(sides),
        members=torch.tensor(members),
        tokens=sum(len(row.token_ids) for row in rows),
        count=count,
    )


def side_log_probs(model: "PreTrainedModel", packed: Packed) -> torch.Tensor:
    """Summed log-prob of each side's scored tokens.

    Hidden states go through the LM head only where a scored token is predicted. Where each side has a row of its own,
    the model's own causal mask does.

    Args:
        model: a causal LM that passed :func:`saro.training.log_probs.check_head`.
        packed: on the model's device.

    Returns:
        (S,) float32 log-probs in nats.
    """
    hidden = model.get_decoder()(
        input_ids=packed.input_ids,
        attention_mask=None if len(packed.input_ids) == packed.count else _masks(model, packed),
        position_ids=packed.position_ids,
        use_cache=False,
    ).last_hidden_state
    logits = model.get_output_embeddings()(hidden.flatten(0, 1).index_select(0, packed.predicting))
    targets = packed.input_ids.flatten().index_select(0, packed.scored)
    log_probs = -functional.cross_entropy(logits.float(), targets, reduction="none")
    return torch.zeros(packed.count, device=log_probs.device).index_add(0, packed.sides, log_probs[packed.members])


@torch.no_grad()
def takes_packed_rows(model: "PreTrainedModel") -> bool:
    """Whether ``model`` gives packed tokens the log-probs that it gives them in rows of their own.

    Layers that take no mask, such as linear attention, do not; nor do attention kernels that take causal masks alone.
    """
    ids = [(3, 4, 5, 6, 7, 8), (3, 4, 5, 9, 7), (3, 8, 5, 6), (9, 4, 5)]
    sides = [Side(sequence, 1, "") for sequence in ids]
    try:
        together = side_log_probs(model, pack(sides, 32).to(model.device))
    except (KeyError, TypeError, ValueError, RuntimeError):
        return False
    alone = side_log_probs(model, lay_out(sides, 32).to(model.device))
    return torch.allclose(together, alone, rtol=1e-2, atol=1e-2)


def _masks(model: "PreTrainedModel", packed: Packed) -> Mask | dict[str, Mask]:
    """What each kind of the model's layers may attend to, in the form that transformers takes."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds:
        windows = {"full_attention": None, "sliding_attention": window}
        return {kind: _mask(model, packed, windows[kind]) for kind in kinds}
    return _mask(model, packed, window)


def _mask(model: "PreTrainedModel", packed: Packed, window: int | None) -> Mask:
    """(R, 1, L, L): whether a token (row) may attend to another (column), in the form of the model's attention."""
    ends, depths = packed.ends, packed.position_ids
    kind = model.config._attn_implementation
    if kind == "flex_attention":
        return _block_mask(ends, depths, window)
    columns = torch.arange(ends.shape[1], device=ends.device)
    allowed = (columns[None, None, :] <= columns[None, :, None]) & (columns[None, :, None] < ends[:, None, :])
    if window is not None:
        allowed &= depths[:, :, None] - depths[:, None, :] < window
    if kind not in ("eager", "sdpa"):
        raise ValueError(f"no mask for attention by {kind!r}")
    if kind == "eager":  # it adds its mask
        added = torch.zeros(allowed.shape, dtype=model.dtype, device=ends.device)
        return added.masked_fill(~allowed, torch.finfo(model.dtype).min)[:, None]
    return allowed[:, None]


def _block_mask(ends: torch.Tensor, depths: torch.Tensor, window: int | None) -> BlockMask:
    def allowed(row: torch.Tensor, _head: torch.Tensor, at: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        found = (to <= at) & (at < ends[row, to])
        return found if window is None else found & (depths[row, at] - depths[row, to] < window)

    return create_block_mask(allowed, len(ends), None, ends.shape[1], ends.shape[1], device=str(ends.device))
