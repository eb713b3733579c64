"""Preference training (DPO) on token-id pairs, on ``transformers.Trainer``.

A pair is two continuations of one prefix; only the continuations are scored, and each carries an end-of-turn token
exactly where the chain ended, so that a side that stops mid-chain never teaches the model to stop.

The seam for tree packing: everything above :func:`continuation_log_probs` sees pairs and their summed log-probs only;
how the tokens of a batch are laid out in rows is decided in :func:`lay_out` and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from saro.config import OptimizeConfig
from saro.errors import InputError
from saro.files import read_json, write_json
from saro.models import quiet_transformers
from saro.progress import Reporter
from saro.records import Pair
from saro.training.log_probs import check_head, token_log_probs
from saro.training.loop import row_order, save_model, train, training_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Layout:
    """A batch of P pairs as 2·P rows, chosen sides first, padded on the right to L tokens.

    Attributes:
        input_ids: (2·P, L) token ids.
        attention_mask: (2·P, L), 1 at tokens.
        scored: (2·P, L) bool, true at the tokens of a continuation.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    scored: torch.Tensor


def lay_out(pairs: Sequence[Pair]) -> Layout:
    """Lay the tokens of ``pairs`` out in rows."""
    rows = [(pair.prefix_ids, side) for side_of in (_chosen, _rejected) for pair in pairs for side in (side_of(pair),)]
    length = max(len(prefix) + len(side) for prefix, side in rows)
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    attention_mask = torch.zeros(len(rows), length, dtype=torch.long)
    scored = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (prefix, side) in enumerate(rows):
        end = len(prefix) + len(side)
        input_ids[row, :end] = torch.tensor([*prefix, *side])
        attention_mask[row, :end] = 1
        scored[row, len(prefix) : end] = True
    return Layout(input_ids, attention_mask, scored)


def _chosen(pair: Pair) -> tuple[int, ...]:
    return pair.chosen_ids


def _rejected(pair: Pair) -> tuple[int, ...]:
    return pair.rejected_ids


def continuation_log_probs(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, scored: torch.Tensor
) -> torch.Tensor:
    """Summed log-prob of each row's scored tokens.

    Args:
        model: a causal LM.
        input_ids: (R, L) token ids.
        attention_mask: (R, L).
        scored: (R, L) bool; false in the first column.

    Returns:
        (R,) float32 log-probs, in nats.
    """
    log_probs = token_log_probs(model, input_ids, attention_mask, scored)
    rows = scored.nonzero()[:, 0]
    return torch.zeros(len(input_ids), device=log_probs.device).index_add(0, rows, log_probs)


def dpo_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sigmoid DPO (Rafailov et al., arXiv:2305.18290, equation 7).

    Args:
        chosen: (P,) log-probs of the chosen sides under the policy, in nats.
        rejected: (P,) of the rejected sides.
        reference_chosen: (P,) the same under the reference model.
        reference_rejected: (P,).
        beta: strength of the tie to the reference.

    Returns:
        The mean loss, and the (P,) reward margins β·(Δchosen − Δrejected).
    """
    margins = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    return -functional.logsigmoid(margins).mean(), margins


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


class _PairData(Dataset[dict[str, Any]]):
    def __init__(self, pairs: Sequence[Pair], reference: "Mapping[str, tuple[float, float]]") -> None:
        self._pairs, self._reference = pairs, reference

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self._pairs[index]
        return {"pair": pair, "reference": self._reference[pair.id]}


def _collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    layout = lay_out([row["pair"] for row in rows])
    reference = torch.tensor([row["reference"] for row in rows])
    return {
        "input_ids": layout.input_ids,
        "attention_mask": layout.attention_mask,
        "scored": layout.scored,
        "reference_chosen": reference[:, 0],
        "reference_rejected": reference[:, 1],
    }


class PreferenceTrainer(Trainer):  # type: ignore[misc]
    """``transformers.Trainer`` with the DPO loss over pairs whose reference log-probs are known."""

    def __init__(self, *arguments: Any, beta: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.loss_is_scaled_for_ga = True  # ours is divided by the pairs of the whole step
        self._beta = beta
        self._logged: dict[str, list[float]] = {}

    def get_batch_samples(self, *arguments: Any, **options: Any) -> tuple[list[dict[str, torch.Tensor]], int]:
        """Count the pairs of a step, so that every pair weighs the same however the step is cut into micro-batches."""
        samples, _ = super().get_batch_samples(*arguments, **options)
        return samples, sum(len(sample["reference_chosen"]) for sample in samples)

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        """Mean DPO loss of the micro-batch; margins and accuracy are kept for the log."""
        with self.accelerator.autocast():  # the Trainer wraps model.forward in it, which is not called here
            both = continuation_log_probs(model, inputs["input_ids"], inputs["attention_mask"], inputs["scored"])
        chosen, rejected = both.chunk(2)
        loss, margins = dpo_loss(chosen, rejected, inputs["reference_chosen"], inputs["reference_rejected"], self._beta)
        measured = {
            "margin": margins,
            "accuracy": (margins > 0).float(),
            "chosen_reward": self._beta * (chosen - inputs["reference_chosen"]),
            "rejected_reward": self._beta * (rejected - inputs["reference_rejected"]),
        }
        for key, values in measured.items():
            self._logged.setdefault(key, []).extend(values.tolist())
        return loss * len(margins) / (num_items_in_batch or len(margins))

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
    ordered = sorted(pairs, key=lambda pair: len(pair.prefix_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)))
    found: dict[str, tuple[float, float]] = {}
    device = model.device.type
    with reporter.task("reference log-probs", len(ordered)) as task, torch.no_grad():
        for start in range(0, len(ordered), config.micro_batch_size):
            batch = ordered[start : start + config.micro_batch_size]
            layout = lay_out(batch)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                both = continuation_log_probs(
                    model, layout.input_ids.to(device), layout.attention_mask.to(device), layout.scored.to(device)
                )
            chosen, rejected = both.chunk(2)
            for pair, good, bad in zip(batch, chosen.tolist(), rejected.tolist(), strict=True):
                found[pair.id] = (good, bad)
            task.update(start + len(batch))
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
    which the reference log-probs are kept.

    Raises:
        InputError: from :func:`check_pairs`.
    """
    check_pairs(pairs, config.max_length)
    model.eval()
    check_head(model)
    reference = reference_log_probs(model, pairs, config, dtype, out / "reference.json", key, reporter)
    lengths = [2 * len(pair.prefix_ids) + len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs]
    order = row_order(lengths, config.batch_size, config.epochs, seed)
    arguments = training_arguments(
        config, out / "checkpoints", len(order), seed, device, dtype, remove_unused_columns=False, label_names=[]
    )
    with quiet_transformers():
        trainer = PreferenceTrainer(
            model=model,
            args=TrainingArguments(**arguments),
            train_dataset=_PairData([pairs[index] for index in order], reference),
            data_collator=_collate,
            beta=config.beta,
        )
    tokens = sum(lengths[index] for index in order)
    result = train(trainer, "training", tokens, reporter)
    save_model(trainer, tokenizer, out / "model")
    return {**result, "tokens": tokens, "pairs": len(pairs)}
