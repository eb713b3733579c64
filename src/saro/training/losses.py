"""Losses of preference training, from the log-probs of both sides under the policy and under the reference."""

from typing import Literal

import torch
from torch.nn import functional

Loss = Literal["sigmoid", "ipo", "hinge", "robust"]


def preference_loss(
    kind: Loss, log_ratios: torch.Tensor, lengths: torch.Tensor, beta: float, label_smoothing: float
) -> torch.Tensor:
    """The loss of each pair.

    - ``sigmoid``: DPO (arXiv:2305.18290, equation 7); with ``label_smoothing`` ε the conservative form, in which the
      preference is wrong with probability ε.
    - ``ipo``: arXiv:2310.12036, equation 17, over mean log-ratios a token, as its authors have it.
    - ``hinge``: SLiC's hinge on DPO's margin (arXiv:2305.10425).
    - ``robust``: arXiv:2403.00409, unbiased where a share ε < 0.5 of the preferences is wrong.

    Args:
        kind: which loss.
        log_ratios: (P, 2) log-prob under the policy less that under the reference, chosen and rejected, in nats.
        lengths: (P, 2) scored tokens of each side.
        beta: strength of the tie to the reference.
        label_smoothing: ε; for ``sigmoid`` and ``robust``.

    Returns:
        (P,) losses.
    """
    if kind == "ipo":
        mean = log_ratios / lengths
        return (mean[:, 0] - mean[:, 1] - 1 / (2 * beta)) ** 2
    margins = beta * (log_ratios[:, 0] - log_ratios[:, 1])
    if kind == "hinge":
        return torch.relu(1 - margins)
    right, wrong = -functional.logsigmoid(margins), -functional.logsigmoid(-margins)
    if kind == "robust":
        return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)
    return (1 - label_smoothing) * right + label_smoothing * wrong
