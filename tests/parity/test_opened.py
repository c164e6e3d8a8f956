"""What the runtime runs is compared with the file as it stands, whatever the layout is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.parity.endtoend import Typed
from scconv_deploy.parity.opened import check_opened
from scconv_deploy.runtime.onnx import OnnxRunner
from tests.runtime.bundles import write_model

CASES = [
    {"x": np.random.default_rng(seed).standard_normal((1, 3, 8, 8)).astype(np.float32)} for seed in range(4)
]
Fault = Callable[[np.ndarray], np.ndarray]


class Opened(OnnxRunner):
    """As if the load had rewired the graph, with a fault in so many of its calls."""

    def __init__(self, model: Path, fault: Fault, faulty: int) -> None:
        super().__init__(model, threads=1)
        self.layout, self.notes = "NCHW16c", ("fused nodes work in the layout NCHW16c",)
        self._fault, self._left = fault, faulty

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = super().run(inputs)
        self._left -= 1
        return made if self._left < 0 else {**made, "y": self._fault(made["y"])}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def rounded(y: np.ndarray) -> np.ndarray:
    return y * np.float32(1 + 1e-5)


def doubled(y: np.ndarray) -> np.ndarray:
    return 2 * y


def swapped(y: np.ndarray) -> np.ndarray:
    return y[:, ::-1]


def not_a_number(y: np.ndarray) -> np.ndarray:
    return np.where(y > 0, np.nan, y)


def cut(y: np.ndarray) -> np.ndarray:
    return y[:, :, 1:]


@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_rounding_and_a_gate_that_it_flips_are_a_note(faulty: int, model: Path) -> None:
    fault = rounded if faulty == 0 else doubled
    found = check_opened(Typed(Opened(model, fault, faulty or 4), {}), model, CASES, 1)
    assert found.fault is None
    assert found.note is not None
    assert found.note.startswith(
        "as the runtime opens it here: fused nodes work in the layout NCHW16c; it differs"
    )
    assert "in 4 comparisons" in found.note


@pytest.mark.parametrize("fault", [doubled, swapped, not_a_number, cut])
def test_a_layout_that_computes_something_else_is_a_fault(fault: Fault, model: Path) -> None:
    found = check_opened(Typed(Opened(model, fault, 3), {}), model, CASES, 1)
    assert found.fault is not None
    assert "agrees in 1 of them only" in found.fault


def test_where_nothing_was_rewired_there_is_nothing_to_compare(model: Path) -> None:
    plain = OnnxRunner(model, threads=1)
    assert check_opened(Typed(plain, {}), model, CASES, 1).note is None
    planar = Opened(model, doubled, 4)
    planar.layout, planar.notes = "NCHW", ("fused nodes work in the layout NCHW",)
    found = check_opened(Typed(planar, {}), model, CASES, 1)
    assert (found.note, found.fault) == (
        "as the runtime opens it here: fused nodes work in the layout NCHW",
        None,
    )
