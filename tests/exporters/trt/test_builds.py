"""Several builds: the spread is told, the best is kept, and the first of equals."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from exporters.trt import builds
from exporters.trt.build import Plan, build_plan
from exporters.trt.builds import build_several, judge_of
from exporters.trt.layers import read_kernels
from exporters.trt.report import report
from exporters.trt.settings import BuildRequest
from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.errors import BuildError
from scconv_deploy.tensorrt_options import Keep
from tests.exporters.trt.models import DYNAMIC, SILENCE, STATIC, conv_relu, rtx_platform

PLAN = Plan(b"", None, {}, [], 0.5, ())
NOWHERE = Path("/nonexistent/candidate")


def _series(*data: bytes) -> Iterator[Plan]:
    return iter([replace(PLAN, data=d) for d in data])


def test_the_smallest_is_kept_and_the_spread_told() -> None:
    made = _series(b"333", b"1", b"22", b"2")
    best = build_several(4, Keep.SIZE, lambda: next(made), judge_of(Keep.SIZE, "tensorrt", (), NOWHERE))
    assert best.plan.data == b"1"
    assert best.spread == {
        "builds": 4,
        "keep": "size",
        "unit": "bytes",
        "figures": [3, 1, 2, 1],
        "median": 1.5,
        "kept": 1,
        "different_engines": 4,
        "build_seconds": [0.5] * 4,
    }
    assert best.note == (
        "4 builds gave 4 different engines, 1 to 3 bytes (median 1.5); kept number 2, the one with the least"
    )


def test_of_equals_the_first_is_kept() -> None:
    made = _series(b"22", b"11", b"00")
    best = build_several(3, Keep.SIZE, lambda: next(made), len_of)
    assert best.plan.data == b"22"
    assert best.spread["kept"] == 0


def len_of(plan: Plan) -> float:
    return len(plan.data)


def test_different_engines_of_equal_worth_are_called_so() -> None:
    made = _series(b"a", b"b")
    note = build_several(2, Keep.SIZE, lambda: next(made), len_of).note
    assert note == "2 builds gave 2 different engines, all of 1 bytes; kept the first"


def test_equal_engines_are_called_so() -> None:
    made = _series(b"a", b"a")
    best = build_several(2, Keep.SIZE, lambda: next(made), len_of)
    assert best.note == "all 2 builds gave the same engine, byte for byte (1 bytes)"
    assert best.spread["different_engines"] == 1


def test_a_failed_build_fails_them_all() -> None:
    def fail() -> Plan:
        raise BuildError("no")

    with pytest.raises(BuildError, match="no"):
        build_several(2, Keep.SIZE, fail, len_of)


def _built(batch: int | str, inputs: tuple[TensorSpec, ...]) -> Plan:
    return build_plan(
        rtx_platform(), conv_relu(batch).SerializeToString(), BuildRequest(inputs, ("sm_89",)), SILENCE
    )


def test_kernels_and_bytes_are_read_from_the_log_of_the_candidate_itself() -> None:
    plan = _built(2, STATIC)
    counted = report(read_kernels(plan.layers or ""), ())
    assert judge_of(Keep.KERNELS, "tensorrt-rtx", STATIC, NOWHERE)(plan) == counted.kernels > 0
    assert judge_of(Keep.BYTES, "tensorrt-rtx", STATIC, NOWHERE)(plan) == counted.bytes_moved > 0


def test_bytes_of_a_dynamic_engine_are_refused_and_kernels_are_not() -> None:
    plan = _built("N", DYNAMIC)
    assert judge_of(Keep.KERNELS, "tensorrt-rtx", DYNAMIC, NOWHERE)(plan) > 0
    with pytest.raises(BuildError, match="use --keep kernels, or static shapes"):
        judge_of(Keep.BYTES, "tensorrt-rtx", DYNAMIC, NOWHERE)(plan)


@pytest.mark.parametrize("keep", [Keep.KERNELS, Keep.BYTES])
def test_a_log_that_says_nothing_is_an_error_in_words(keep: Keep) -> None:
    with pytest.raises(BuildError, match=f"does not say how many {keep.value} .*use --keep size"):
        judge_of(keep, "tensorrt", (), NOWHERE)(PLAN)


def test_time_is_the_devices_median_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the runner: no machine with a GPU was at hand (2026-11-22)."""
    seen: list[object] = []

    class Runner:
        def __init__(self, plan: Path, runtime: str) -> None:
            seen.append((plan.read_bytes(), runtime))

        def __enter__(self) -> "Runner":
            return self

        def __exit__(self, *error: object) -> None: ...

        def device_times(self, inputs: dict[str, np.ndarray]) -> object:
            seen.append({k: (v.shape, str(v.dtype)) for k, v in inputs.items()})
            return SimpleNamespace(device_ms=1.25)

    monkeypatch.setattr(builds, "TensorRTRunner", Runner)
    scratch = tmp_path / "candidate"
    judge = judge_of(Keep.TIME, "tensorrt", DYNAMIC, scratch)
    assert judge(replace(PLAN, data=b"plan")) == 1.25
    assert seen == [(b"plan", "tensorrt"), {"x": ((4, 3, 16, 16), "float32")}]
    assert list(tmp_path.iterdir()) == []
