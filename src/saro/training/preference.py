"""Preference training (DPO) on token-id pairs, on ``transformers.Trainer``.

A pair is two continuations of one prefix; only the continuations are scored, and each carries an end-of-turn token
exactly where the chain ended, so that a side that stops mid-chain never teaches the model to stop.

Pairs are computed packed (:mod:`saro.training.packing`): what the sides of a batch share is computed once.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from saro.config import OptimizeConfig
from saro.errors import InputError
from saro.files import read_json, write_json
from saro.models import quiet_transformers
from saro.progress import Reporter
from saro.records import Pair
from saro.training.log_probs import check_head
from saro.training.loop import save_model, train, training_arguments
from saro.training.losses import preference_loss
from saro.training.packing import Packed, Side, check_packing, pack, side_log_probs, unique_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

_POOL = 16  # steps whose prompts are sorted by size together: little padding, still shuffled


def pack_pairs(pairs: Sequence[Pair], max_length: int) -> Packed:
    """The sides of P pairs, packed: side 2·p is the chosen one of pair p, side 2·p + 1 the rejected one."""
    sides = [
        Side(pair.prefix_ids + ids, len(pair.prefix_ids), pair.prompt_id)
        for pair in pairs
        for ids in (pair.chosen_ids, pair.rejected_ids)
    ]
    return pack(sides, max_length)


def micro_batches(pairs: Sequence[Pair], config: OptimizeConfig, seed: int) -> list[list[int]]:
    """Indices of pairs, a list for what is computed at once, in the order of training.

    Pairs of one prompt stay together, up to ``micro_batch_size`` of them, since they share tokens; prompts of similar
    size are computed at once. The order is fixed beforehand, so that training resumes at any step.

    Args:
        pairs: to be trained on.
        config: gives ``micro_batch_size``, ``batch_size`` and ``epochs``; a fraction takes that share of the last pass.
        seed: of the shuffling.
    """
    randomness = random.Random(seed)  # noqa: S311 (order, not secrecy)
    by_prompt: dict[str, list[int]] = {}
    for index in sorted(range(len(pairs)), key=lambda index: pairs[index].prefix_ids + pairs[index].chosen_ids):
        by_prompt.setdefault(pairs[index].prompt_id, []).append(index)
    most = config.micro_batch_size
    units = [group[start : start + most] for group in by_prompt.values() for start in range(0, len(group), most)]
    found: list[list[int]] = []
    left = max(1, round(config.epochs * len(pairs)))
    while left > 0:
        randomness.shuffle(units)
        epoch = _first(units, left)
        left -= len(pairs)
        batches: list[list[int]] = []
        pool = _POOL * config.batch_size
        for start in range(0, len(epoch), pool):
            batches += _filled(sorted(epoch[start : start + pool], key=lambda unit: _size(pairs, unit)), most)
        steps = config.batch_size // most
        groups = [batches[start : start + steps] for start in range(0, len(batches), steps)]
        short = [group for group in groups if len(group) < steps]
        whole = [group for group in groups if len(group) == steps]
        randomness.shuffle(whole)
        found += [batch for group in whole + short for batch in group]
    return found


def _first(units: Sequence[list[int]], count: int) -> list[list[int]]:
    """The first ``count`` indices of ``units``."""
    kept: list[list[int]] = []
    for unit in units:
        if count <= 0:
            break
        kept.append(unit[:count])
        count -= len(unit)
    return kept


def _filled(units: Sequence[list[int]], most: int) -> list[list[int]]:
    """Neighbouring units joined while they are at most ``most`` together."""
    batches: list[list[int]] = []
    for unit in units:
        if batches and len(batches[-1]) + len(unit) <= most:
            batches[-1] = batches[-1] + unit
        else:
            batches.append(list(unit))
    return batches


def _size(pairs: Sequence[Pair], unit: Sequence[int]) -> int:
    """Unique tokens of the pairs in ``unit``."""
    return unique_tokens([sequence for index in unit for sequence in _sequences(pairs[index])])


def _sequences(pair: Pair) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return pair.prefix_ids + pair.chosen_ids, pair.prefix_ids + pair.rejected_ids


def check_pairs(pairs: Sequence[Pair], max_length: int) -> None:
    """Refuse pairs whose gradient would silently be zero or wrong.

    Raises:
        InputError: naming the first pair with equal sides, an empty side, or more tokens than ``max_length``.
    """
    if not pairs:
        raise InputError(
            "pairs", "there are none to train on", "sample more chains, or lower the thresholds under pairs.*"
        )
    seen: set[str] = set()
    for pair in pairs:
        name = f"pair {pair.id}"
        if pair.id in seen:
            raise InputError(
                name, "stands twice, and reference log-probs are kept by id", "give each pair an id of its own"
            )
        seen.add(pair.id)
        if pair.chosen_ids == pair.rejected_ids:
            raise InputError(name, "chosen and rejected are equal, so its gradient is zero", "remove the pair")
        if not pair.chosen_ids or not pair.rejected_ids:
            raise InputError(name, "a side is empty, so nothing of it is scored", "remove the pair")
        longest = len(pair.prefix_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
        if longest > max_length:
            raise InputError(name, f"{longest} tokens, more than max_length {max_length}", "raise optimize.max_length")


class _MicroBatches(Dataset[dict[str, Any]]):
    """What is computed at once, packed, with what the loss needs beside the log-probs."""

    def __init__(
        self,
        batches: Sequence[Sequence[Pair]],
        reference: "Mapping[str, tuple[float, float]]",
        max_length: int,
    ) -> None:
        self._batches, self._reference, self._max_length = batches, reference, max_length

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pairs = self._batches[index]
        return {
            **vars(pack_pairs(pairs, self._max_length)),
            "reference": torch.tensor([self._reference[pair.id] for pair in pairs]),
            "lengths": torch.tensor([[len(pair.chosen_ids), len(pair.rejected_ids)] for pair in pairs]),
        }


def _only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


class PreferenceTrainer(Trainer):  # type: ignore[misc]
    """``transformers.Trainer`` with a preference loss over packed pairs whose reference log-probs are known."""

    def __init__(self, *arguments: Any, settings: OptimizeConfig, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.loss_is_scaled_for_ga = True  # ours is divided by the pairs of the whole step
        self._settings = settings
        self._logged: dict[str, list[float]] = {}

    def get_batch_samples(self, *arguments: Any, **options: Any) -> tuple[list[dict[str, Any]], int]:
        """Count the pairs of a step, so that every pair weighs the same however the step is cut into micro-batches."""
        samples, _ = super().get_batch_samples(*arguments, **options)
        return samples, sum(len(sample["reference"]) for sample in samples)

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        """Mean loss of the micro-batch; margins and accuracy are kept for the log."""
        settings, reference, lengths = self._settings, inputs.pop("reference"), inputs.pop("lengths")
        with self.accelerator.autocast():  # the Trainer wraps model.forward in it, which is not called here
            sums = side_log_probs(model, Packed(**inputs)).view(-1, 2)
        ratios = sums - reference
        losses = preference_loss(settings.loss, ratios, lengths, settings.beta, settings.label_smoothing)
        if settings.sft_weight:
            losses = losses - settings.sft_weight * sums[:, 0] / lengths[:, 0]
        rewards = settings.beta * ratios.detach()
        margins = rewards[:, 0] - rewards[:, 1]
        measured = {
            "margin": margins,
            "accuracy": (margins > 0).float(),
            "chosen_reward": rewards[:, 0],
            "rejected_reward": rewards[:, 1],
        }
        for key, values in measured.items():
            self._logged.setdefault(key, []).extend(values.tolist())
        return losses.sum() / (num_items_in_batch or len(losses))

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Add the means of what was measured since the last log."""
        if "loss" in logs:
            logs = {**logs, **{key: sum(values) / len(values) for key, values in self._logged.items()}}
            self._logged.clear()
        super().log(logs, *arguments, **options)


def reference_log_probs(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    config: OptimizeConfig,
    dtype: torch.dtype,
    path: Path,
    key: str,
    reporter: Reporter,
) -> dict[str, tuple[float, float]]:
    """Log-probs of both sides of every pair under the untrained model, computed once and kept at ``path``.

    Args:
        model: the reference, on its device.
        pairs: to be scored.
        config: gives the micro-batch size.
        dtype: of the computation; the same as in training, so that all margins start at zero.
        path: JSON file that keeps them; one made for another ``key`` is computed anew.
        key: content hash of model and pairs.
        reporter: where progress goes.
    """
    if path.is_file():
        kept = read_json(path)
        if kept["key"] == key:
            return {name: (chosen, rejected) for name, (chosen, rejected) in kept["log_probs"].items()}
    found: dict[str, tuple[float, float]] = {}
    device = model.device.type
    once = config.model_copy(update={"epochs": 1.0})
    with reporter.task("reference log-probs", len(pairs)) as task, torch.no_grad():
        for batch in micro_batches(pairs, once, 0):
            packed = pack_pairs([pairs[index] for index in batch], config.max_length).to(device)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                sums = side_log_probs(model, packed).view(-1, 2)
            for index, (chosen, rejected) in zip(batch, sums.tolist(), strict=True):
                found[pairs[index].id] = (chosen, rejected)
            task.update(len(found))
    write_json(path, {"key": key, "log_probs": found})
    return found


def optimize_preferences(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: OptimizeConfig,
    out: Path,
    key: str,
    seed: int,
    device: str,
    dtype: torch.dtype,
    reporter: Reporter,
) -> dict[str, Any]:
    """Train ``model`` on ``pairs`` with itself, as it is now, as the reference.

    Args and returns: as :func:`saro.training.sft.fine_tune`; ``key`` is the content hash of model and pairs under
    which the reference log-probs are kept. ``tokens`` are those computed; ``tokens of the pairs`` what they would be,
    were no token shared.

    Raises:
        InputError: from :func:`check_pairs`, or an architecture that takes no packed rows.
    """
    check_pairs(pairs, config.max_length)
    model.eval()
    check_head(model)
    check_packing(model)
    reference = reference_log_probs(model, pairs, config, dtype, out / "reference.json", key, reporter)
    batches = [[pairs[index] for index in batch] for batch in micro_batches(pairs, config, seed)]
    arguments = training_arguments(
        config, out / "checkpoints", len(batches), 1, seed, device, dtype, remove_unused_columns=False, label_names=[]
    )
    with quiet_transformers():
        trainer = PreferenceTrainer(
            model=model,
            args=TrainingArguments(**arguments),
            train_dataset=_MicroBatches(batches, reference, config.max_length),
            data_collator=_only,
            settings=config,
        )
    sequences = [[sequence for pair in batch for sequence in _sequences(pair)] for batch in batches]
    tokens = sum(unique_tokens(batch) for batch in sequences)
    result = train(trainer, "training", tokens, reporter)
    save_model(trainer, tokenizer, out / "model")
    unshared = sum(len(sequence) for batch in sequences for sequence in batch)
    return {**result, "tokens": tokens, "tokens of the pairs": unshared, "pairs": len(pairs)}
