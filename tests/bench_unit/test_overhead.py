"""What a call costs above the bare backend: turns on a clock made by hand, and the small engines both run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scconv_deploy
from tests.bench.overhead import BARE, above, bare_onnx, bare_openvino, openvino_bundle, turns, ways
from tests.runtime.bundles import write_bundle


class Clock:
    """Time that passes only where a call says so."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def takes(self, microseconds: float) -> Callable[[], None]:
        def call() -> None:
            self.now += int(microseconds * 1000)

        return call


def test_a_turn_is_the_mean_of_its_calls() -> None:
    clock = Clock()
    lengths: Iterator[float] = iter(())

    def varying() -> None:
        clock.takes(next(lengths, 8.0))()

    taken = turns({"a": clock.takes(5.0), "b": varying}, rounds=3, count=4, clock=clock)
    assert taken.tolist() == [[5.0, 8.0]] * 3


def test_what_is_above_bare_is_a_difference_within_the_round() -> None:
    # The machine gets ten times slower in the last round; what the runtime adds is 3 in the others.
    taken = np.array([[10.0, 13.0], [20.0, 23.0], [30.0, 33.0], [100.0, 130.0]])
    found = above(taken, [BARE, "run"], BARE)
    assert set(found) == {"run"}
    assert (found["run"].value, found["run"].low) == (3.0, 3.0)
    assert found["run"].high > 3.0
    swapped = above(taken[:, ::-1], [BARE, "run"], BARE)
    assert swapped["run"].value == -3.0


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_every_way_of_calling_computes_the_same(backend: str, tmp_path: Path) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
        path = openvino_bundle(tmp_path / "b")
    else:
        path = write_bundle(tmp_path / "b")
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    made = bare_onnx(path / "model.onnx", x) if backend == "onnx" else bare_openvino(path / "model.xml", x)
    with scconv_deploy.open(path, threads=1) as engine:
        for name, call in ways(engine, made, x).items():
            found: Any = call()
            y, z = found.values() if isinstance(found, dict) else found
            np.testing.assert_array_equal(y, 2 * x, err_msg=name)
            np.testing.assert_allclose(z, x.mean((2, 3)), rtol=1e-5, atol=1e-6, err_msg=name)
