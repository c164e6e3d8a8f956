"""The user's module as a function on arrays: private, in eval mode, by name; recordings are true copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.parity.reference import Recording, Reference, joined

X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
SPEC = TensorSpec("x", "float32", ("n", 4))


class Difference(nn.Module):
    """Two arguments whose order matters, two outputs in a container."""

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"a": left - right, "b": left + right}


def test_arguments_go_by_name_and_keep_their_order() -> None:
    specs = [TensorSpec("left", "float32", ("n", 4)), TensorSpec("right", "float32", ("n", 4))]
    got = Reference(Difference(), specs, ["a", "b"]).run({"right": X, "left": 3 * X})
    np.testing.assert_array_equal(got["a"], 3 * X - X)
    exchanged = Reference(Difference(), specs[::-1], ["a", "b"]).run({"right": X, "left": 3 * X})
    np.testing.assert_array_equal(exchanged["a"], X - 3 * X)


def test_an_output_too_few_or_too_many_is_no_zip() -> None:
    specs = [TensorSpec("left", "float32", ("n", 4)), TensorSpec("right", "float32", ("n", 4))]
    for names in (["a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="zip"):
            Reference(Difference(), specs, names).run({"left": X, "right": X})


def test_the_module_is_private_and_in_eval_mode() -> None:
    norm = nn.BatchNorm1d(4)
    module = nn.Sequential(norm, nn.Dropout(0.5))
    reference = Reference(module, [SPEC], ["y"])
    first = reference.run({"x": X})["y"]
    with torch.no_grad():
        norm.weight.fill_(7.0)
    np.testing.assert_array_equal(reference.run({"x": X})["y"], first)
    assert module.training
    assert norm.num_batches_tracked == 0


def test_wide_is_the_float64_truth() -> None:
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    truth = Reference(module, [SPEC], ["y"], torch.float64).run({"x": X})["y"]
    want = X.astype(np.float64) @ module.weight.detach().double().numpy().T
    want += module.bias.detach().double().numpy()
    assert truth.dtype == np.float64
    np.testing.assert_allclose(truth, want, rtol=1e-14)
    assert module.weight.dtype == torch.float32
    tokens = TensorSpec("x", "int64", ("n", 4))
    got = Reference(nn.Embedding(5, 2), [tokens], ["y"], torch.float64).run({"x": np.zeros((1, 4), np.int64)})
    assert got["y"].shape == (1, 4, 2)


def test_the_callers_arrays_survive_in_place_modules() -> None:
    given = X.copy()
    Reference(nn.ReLU(inplace=True), [SPEC], ["y"]).run({"x": given})
    np.testing.assert_array_equal(given, X)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Hardtanh(-10.0, 10.0)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.relu(self.shift(self.shift(x) - 1))
        return made


def test_a_recording_is_not_overwritten_by_what_follows() -> None:
    record = Reference(Twice(), [SPEC], ["y"]).trace({"x": X}, ["shift"])
    assert record.calls == {"shift": 2}
    np.testing.assert_allclose(record.outputs["shift"].numpy(), X - 1, rtol=1e-6)
    assert record.outputs["shift"].min() < 0  # the in-place ReLU behind it would have left none
    np.testing.assert_array_equal(record.results["y"], np.maximum(X - 1, 0))


class Stops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.inner(x)
        raise ValueError("stop")


def test_hooks_are_removed_even_where_the_module_fails() -> None:
    reference = Reference(Stops(), [SPEC], ["y"])
    with pytest.raises(ValueError, match="stop"):
        reference.trace({"x": X}, ["inner"])
    assert not reference.module.get_submodule("inner")._forward_hooks


def test_joined_runs_keep_their_order() -> None:
    reference = Reference(nn.Sequential(nn.Identity()), [SPEC], ["y"])
    records = [reference.trace({"x": array}, ["0"]) for array in (X, -X)]
    both = joined(records)
    np.testing.assert_array_equal(both.inputs["0"].numpy(), np.concatenate([X, -X]))
    np.testing.assert_array_equal(both.results["y"], np.concatenate([X, -X]))
    assert both.calls == {"0": 1}
    only = Recording()
    assert joined([only]) is only
