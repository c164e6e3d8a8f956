"""What an application does with an open engine besides running it: info, warm-up, its own arrays, other tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from scconv_deploy.errors import InputError
from scconv_deploy.runtime import tensorrt
from scconv_deploy.runtime.engine import Engine, open_bundle
from scconv_deploy.runtime.engine_options import EngineOptions
from scconv_deploy.runtime.input_checks import InputChecks
from tests.runtime.bundles import read, write_bundle, write_manifest
from tests.runtime.gpu_machine import Machine, rows


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_info(bundle: Path) -> None:
    with open_bundle(bundle, threads=1) as engine:
        info = engine.info
    assert (info.runtime, info.library) == ("onnxruntime", onnxruntime.__version__)
    assert (info.device, info.artifact, info.fallback) == ("CPUExecutionProvider", "model.onnx", None)
    assert [i["name"] for i in info.inputs] == ["x"]
    with pytest.raises(InputError, match="is closed"):
        _ = engine.info


def test_results_in_arrays_of_the_caller(bundle: Path) -> None:
    x, into = image(2, 3, 8, 8), np.empty((2, 3, 8, 8), np.float32)
    with open_bundle(bundle, threads=1) as engine:
        results = engine.run({"x": x}, {"y": into})
        assert results["y"] is into
        np.testing.assert_array_equal(into, 2 * x)
        np.testing.assert_allclose(results["z"], x.mean((2, 3)), atol=1e-6)
        for wrong in (
            into[:1].copy(),
            into.astype(np.float64),
            into.astype(">f4"),
            into[..., ::-1],
            np.broadcast_to(into[:1], into.shape),
        ):
            before = wrong.copy()
            with pytest.raises(InputError, match=r"the arrays? for (the )?outputs? .*\bshape"):
                engine.run({"x": x}, {"y": wrong})
            np.testing.assert_array_equal(wrong, before)
        with pytest.raises(InputError, match=r"no output is called 'Y' \(the engine gives y, z\)"):
            engine.run({"x": x}, {"Y": into})


def test_a_backend_that_makes_its_own_results_has_them_copied(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("scconv_deploy.runtime.onnx.OnnxRunner.run_into")
    x, into = image(2, 3, 8, 8), np.empty((2, 3, 8, 8), np.float32)
    with open_bundle(bundle, threads=1) as engine:
        assert engine.run({"x": x}, {"y": into})["y"] is into
        np.testing.assert_array_equal(into, 2 * x)
        with pytest.raises(
            InputError, match="the array for output 'y' must be writable, contiguous, float32"
        ):
            engine.run({"x": x}, {"y": into[:1]})


def test_tensors_of_other_libraries_are_taken_without_a_copy(bundle: Path) -> None:
    tensor = torch.from_numpy(image(1, 3, 8, 8))
    with open_bundle(bundle, threads=1) as engine:
        np.testing.assert_array_equal(engine.run({"x": tensor})["y"], 2 * tensor.numpy())  # type: ignore[dict-item]
        with pytest.raises(InputError, match="detach it first"):
            engine.run({"x": tensor.requires_grad_()})  # type: ignore[dict-item]
        with pytest.raises(InputError, match="must be float32, not float64"):
            engine.run({"x": tensor.detach().double()})  # type: ignore[dict-item]
    checks = InputChecks(read(bundle)["inputs"])
    seen = checks({"x": tensor.detach()})["x"]  # type: ignore[dict-item]
    assert seen.ctypes.data == tensor.data_ptr()


def test_what_was_accepted_once_lets_nothing_else_in(bundle: Path) -> None:
    """The remembered combination is of names, shapes and whole dtypes."""
    with open_bundle(bundle, threads=1) as engine:
        engine.run({"x": image(1, 3, 8, 8)})
        for wrong in (
            image(1, 3, 8, 8).astype(">f4"),
            image(1, 3, 8, 8).astype(np.int32),
            image(1, 3, 8, 10),
            image(5, 3, 8, 8),
        ):
            with pytest.raises(InputError):
                engine.run({"x": wrong})
        with pytest.raises(InputError, match="no input is called"):
            engine.run({"x": image(1, 3, 8, 8), "w": image(1, 3, 8, 8)})


def test_what_is_remembered_does_not_grow_without_end(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scconv_deploy.runtime.input_checks.REMEMBERED", 3)
    checks = InputChecks(read(bundle)["inputs"])
    for batch in (1, 2, 3, 4) * 2:
        for side in (8, 12):
            checks({"x": image(batch, 3, side, 8)})
    assert len(checks._accepted) == 3


# An engine of TensorRT, on stand-ins.


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def engine_bundle(machine: Machine) -> Path:
    """Two profiles: of one or two rows, and of three to eight."""
    machine.holds(((1, 3), (1, 3), (2, 3)), ((3, 3), (6, 3), (8, 3)))
    bounds = [
        {"minimum": list(low), "optimum": list(best), "maximum": list(high)}
        for low, best, high in machine.engine._profiles
    ]
    entry = {"name": "x", "dtype": "float32", "minimum": [1, 3], "optimum": [1, 3], "maximum": [8, 3]}
    folder = machine.plan.parent
    manifest = {
        "schema_version": 1,
        "artifact": "model.engine",
        "runtime": "tensorrt-rtx",
        "inputs": [{**entry, "profiles": bounds}],
        "outputs": [{"name": "z"}],
        "details": {"compute_capabilities": ["sm_86", "sm_89"]},
    }
    arrays = {"inputs.x": rows(2), "outputs.z": 2 * rows(2)}
    np.savez(folder / "samples.npz", **arrays)  # type: ignore[arg-type]
    write_manifest(folder, manifest, ("model.engine", "samples.npz"))
    return folder


def opened(machine: Machine, options: EngineOptions | None = None) -> Engine:
    return open_bundle(engine_bundle(machine), verify="golden", options=options)


def test_a_tensorrt_bundle_is_served(machine: Machine) -> None:
    with opened(machine) as engine:
        np.testing.assert_array_equal(engine(rows(7)), 2 * rows(7))
        info = engine.info
    assert (info.runtime, info.device, info.artifact) == ("tensorrt-rtx", "L4 (sm_89)", "model.engine")
    assert "kernels compiled" in info.notes[0]


def test_warm_up_runs_every_profile(machine: Machine) -> None:
    with opened(machine, EngineOptions(runtime_cache=False)) as engine:
        before = len(machine.cuda.calls)
        engine.warm_up(runs=2)
        calls = machine.cuda.calls[before:]
    assert calls.count("execute") == 4
    assert "profile 1" in calls


def test_a_request_between_two_profiles_is_refused_before_the_gpu_sees_it(machine: Machine) -> None:
    folder = engine_bundle(machine)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"][0]["profiles"][1]["minimum"] = [5, 3]
    write_manifest(folder, manifest, ("model.engine", "samples.npz"))
    with open_bundle(folder) as engine:
        calls = len(machine.cuda.calls)
        with pytest.raises(InputError, match=r"shape 4x3; this engine takes 1x3 to 2x3; or 5x3 to 8x3"):
            engine.run({"x": rows(4)})
        assert len(machine.cuda.calls) == calls


def test_why_nothing_was_captured_is_in_the_info(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt.TensorRTRunner, "graph_refusals", lambda self: ("the driver is too old",))
    with opened(machine) as engine:
        assert engine.info.notes[-1] == "not captured as a CUDA graph: the driver is too old"
