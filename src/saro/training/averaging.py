"""Averaging of weights between where a training began and where it ended.

What preferences teach is kept in part, and of what they cost other abilities less: arXiv:2109.01903 (fine-tuning),
arXiv:2309.06256 (preference training).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights by name as they are now, on the CPU."""
    return {name: weight.detach().to("cpu", copy=True) for name, weight in model.named_parameters()}


def average(start: Mapping[str, torch.Tensor], folder: Path, share: float) -> None:
    """Move the weights in ``folder`` to ``share`` of the way from ``start`` to where they are.

    Args:
        start: the weights before the training (:func:`copied`).
        folder: of the trained model; its safetensors files are written anew, in place.
        share: in (0, 1].

    Raises:
        KeyError: ``start`` has no weight of a name that ``folder`` has.
    """
    for file in sorted(folder.glob("*.safetensors")):
        weights = load_file(file)
        for name, weight in weights.items():
            weights[name] = torch.lerp(start[name].float(), weight.float(), share).to(weight.dtype)
        save_file(weights, file, metadata={"format": "pt"})
