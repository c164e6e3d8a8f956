"""The sweep with times made up, and one point really raced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from scconv_deploy.bench.block_graphs import block_graph, plain_graph
from scconv_deploy.bench.break_even import Point, break_even, race_in_onnxruntime, sweep
from scconv_deploy.bench.rounds import Samples
from scconv_deploy.bench.stopwatch import WarmUp
from scconv_deploy.bench_config import BreakEvenConfig
from scconv_deploy.config import Form
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import InputError
from scconv_deploy.profiles import BreakEven, Standing
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv.reference.families import FAMILIES

WARM = WarmUp(1, 1.0, True)


def samples(ns: float, spread: float = 0.0) -> Samples:
    wobble = 1 + spread * np.sin(np.arange(12))
    return Samples("", tuple(np.array([ns * w]) for w in wobble), WARM)


def swept(times: dict[int, float], spread: float = 0.0) -> BreakEven:
    """Ratio of the block by width, at one size and batch."""

    def race(point: Point) -> tuple[Samples, Samples]:
        return samples(1e6 * times[point[0]], spread), samples(1e6)

    config = BreakEvenConfig(channels=tuple(times), sides=(28,), batches=(1,))
    return sweep(config, race, Silence())


def test_it_breaks_even_at_the_width_from_which_on_it_is_never_slower() -> None:
    found = swept({64: 1.4, 32: 2.0, 128: 0.8, 256: 0.5})
    assert found.sentences == (
        "at 28x28, batch 1: breaks even from C = 128 (0.80 of the time; C = 64: 1.40)",
    )
    assert [p.standing for p in found.points] == [Standing.SLOWER] * 2 + [Standing.FASTER] * 2
    assert found.points[0].block_ms.value == pytest.approx(1.4)


def test_a_win_that_a_larger_width_loses_again_is_none() -> None:
    assert (
        swept({64: 0.9, 128: 1.2, 256: 0.7})
        .sentences[0]
        .endswith("breaks even from C = 256 (0.70 of the time; C = 128: 1.20)")
    )


def test_always_and_never() -> None:
    assert "not slower at any width measured (C = 64, 128)" in swept({64: 0.9, 128: 0.8}).sentences[0]
    assert (
        "does not break even up to C = 128 (1.30 times the time)" in (swept({64: 1.6, 128: 1.3}).sentences[0])
    )


def test_an_interval_that_holds_one_is_level_and_counts_as_even() -> None:
    found = swept({64: 1.0}, spread=0.2)
    assert found.points[0].standing is Standing.LEVEL
    assert "not slower" in found.sentences[0]


def test_every_point_is_raced_once_and_said() -> None:
    raced: list[Point] = []

    def race(point: Point) -> tuple[Samples, Samples]:
        raced.append(point)
        return samples(1e6), samples(1e6)

    found = sweep(BreakEvenConfig(channels=(8, 16), sides=(4, 2), batches=(1, 3)), race, Silence())
    assert len(set(raced)) == len(raced) == len(found.points) == 8
    assert len(found.sentences) == 4


def test_a_real_point(tmp_path: Path) -> None:
    config = BreakEvenConfig(channels=(16,), sides=(4,), warm_up_ms=0, duration_s=0.0)
    block, plain = race_in_onnxruntime((16, 4, 2), config, tmp_path, pause=lambda _: None)
    assert len(block.rounds) == len(plain.rounds) >= 5
    assert (block.calls > 0).all()


def test_a_width_that_no_block_has_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        break_even(BreakEvenConfig(channels=(64, 7)), tmp_path, Silence())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", list(Form))
def test_blocks_of_every_family_are_valid_and_keep_their_shape(family: str, form: Form) -> None:
    shape = (2, 32, 6, 6)
    model = block_graph(family, form, shape, 0)
    onnx.checker.check_model(model, full_check=True)
    x = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    with OnnxRunner(model.SerializeToString(), threads=1) as runner:
        out = runner.run(x)["y"]
    assert out.shape == shape
    assert np.isfinite(out).all()
    with OnnxRunner(plain_graph(shape, 0).SerializeToString(), threads=1) as runner:
        assert runner.run(x)["y"].shape == shape


@pytest.mark.parametrize("wrong", [{"channels": ()}, {"sides": (0,)}, {"threads": 0}, {"duration_s": -1.0}])
def test_a_sweep_of_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        BreakEvenConfig(**wrong)  # type: ignore[arg-type]
