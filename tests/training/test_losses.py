"""Losses of preference training, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saro.training.losses import preference_loss

RATIOS, LENGTHS = torch.tensor([[0.5, -1.0]]), torch.tensor([[4, 8]])


def loss(kind, smoothing=0.0, ratios=RATIOS):
    return preference_loss(kind, ratios, LENGTHS, 0.5, smoothing).item()


def test_each_loss_is_its_papers_formula():
    margin = 0.5 * 1.5
    right, wrong = math.log1p(math.exp(-margin)), math.log1p(math.exp(margin))
    assert loss("sigmoid") == pytest.approx(right)
    assert loss("sigmoid", 0.1) == pytest.approx(0.9 * right + 0.1 * wrong)
    assert loss("robust", 0.1) == pytest.approx((0.9 * right - 0.1 * wrong) / 0.8)
    assert loss("hinge") == pytest.approx(1 - margin)
    assert loss("ipo") == pytest.approx((0.5 / 4 + 1.0 / 8 - 1) ** 2)


def test_the_hinge_is_flat_where_the_margin_is_wide():
    assert loss("hinge", ratios=torch.tensor([[9.0, 0.0]])) == 0


@given(st.floats(-5, 5), st.floats(0, 0.45))
def test_the_robust_loss_is_right_on_average_where_preferences_are_turned(ratio, smoothing):
    """arXiv:2403.00409: with a share of turned pairs, its mean is the loss on the true ones."""
    straight = torch.tensor([[ratio, 0.0]], dtype=torch.float64)
    mean = (1 - smoothing) * loss("robust", smoothing, straight) + smoothing * loss(
        "robust", smoothing, straight.flip(1)
    )
    assert mean == pytest.approx(loss("sigmoid", ratios=straight), rel=1e-6, abs=1e-9)
