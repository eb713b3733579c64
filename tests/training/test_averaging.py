"""Weights between the beginning and the end of a training."""

import pytest
import torch
from safetensors.torch import load_file

from saro.config import OptimizeConfig
from saro.progress import Silent
from saro.training.preference import optimize_preferences


def _trained(fresh_model, renderer, make_pair, out, **settings):
    model = fresh_model()
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    pairs = [make_pair(str(n), [5, 6, n + 7], [10 + n, 11, 1], [20, 21 + n, 1]) for n in range(4)]
    config = OptimizeConfig(batch_size=2, micro_batch_size=2, learning_rate=1e-3, **settings)
    optimize_preferences(model, renderer.tokenizer, pairs, config, out, "k", 0, "cpu", torch.float32, Silent())
    return start, load_file(out / "model" / "model.safetensors")


@pytest.mark.parametrize("adapters", [{}, {"lora_rank": 2}], ids=["all weights", "adapters"])
def test_the_model_lies_between_the_two(fresh_model, renderer, make_pair, tmp_path, adapters):
    start, whole = _trained(fresh_model, renderer, make_pair, tmp_path / "whole", **adapters)
    _, part = _trained(fresh_model, renderer, make_pair, tmp_path / "part", step_share=0.25, **adapters)
    moved = 0.0
    for name, weight in part.items():
        torch.testing.assert_close(weight, start[name] + 0.25 * (whole[name] - start[name]), rtol=1e-5, atol=1e-7)
        moved += float((weight - start[name]).abs().sum())
    assert moved > 0
