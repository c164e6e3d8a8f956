"""PyTorch with its layers' inputs and weights rounded to codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import Precision
from scconv_deploy.parity.fake_quantised import coded, coded_weight, fake_quantised, simulates

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_int8_has_256_values_that_include_zero() -> None:
    made = coded(X, Precision.INT8)
    assert len(set(made.flatten().tolist())) <= 256
    assert (made == 0).any()
    assert float((made - X).abs().max()) <= float(X.max() - X.min()) / 255 * 0.501


def test_fp8_is_off_by_a_sixteenth_at_most() -> None:
    made = coded(X, Precision.FP8)
    big = X.abs() > X.abs().max() / 2**10
    assert float(((made - X).abs() / X.abs())[big].max()) <= 1 / 16 + 1e-6


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_zeros_and_dead_channels_stay_zero(precision: Precision) -> None:
    weight = torch.randn(3, 2, 3, 3)
    weight[1] = 0
    assert not coded_weight(weight, precision)[1].any()
    assert not coded(torch.zeros(5), precision).any()


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_the_users_module_stays_as_it_is_and_the_copy_is_near(precision: Precision) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    spec = TensorSpec("x", "float32", ("b", 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8), (9, 3, 8, 8))
    made = fake_quantised(net, [spec], ["y"], precision).run({"x": X.numpy()})["y"]
    want = net(X).detach().numpy()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert 0 < np.abs(made - want).max() < 0.1 * np.abs(want).max()


def test_who_is_simulated_in_torch() -> None:
    assert simulates(Precision.INT8, Precision.FP16)
    assert simulates(Precision.FP8, Precision.FP32)
    assert not simulates(Precision.INT8, Precision.FP32)
    assert not simulates(Precision.FP32, Precision.FP32)
