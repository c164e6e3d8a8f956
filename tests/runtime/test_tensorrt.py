"""The runner's contract with TensorRT and CUDA, against stand-ins that record every call.

What stand-ins cannot prove is that a GPU agrees; the module says so too.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime import tensorrt
from scconv_deploy.runtime.device_timing import Copy, Device
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu
from scconv_deploy.runtime.tensorrt import TensorRTRunner, obstacle
from tests.runtime.recording_gpu import Context, Cuda, Engine, Trt


class Machine:
    """A machine with a GPU, the two modules, and a plan on disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.cuda = Cuda()
        self.context = Context(self.cuda)
        self.engine = Engine(self.context)
        self.trt = Trt(self.engine)
        self.modules: dict[str, object] = {"tensorrt_rtx": self.trt, "cuda.bindings.runtime": self.cuda}
        self.plan = folder / "model.engine"
        self.plan.write_bytes(b"plan")
        monkeypatch.setattr(tensorrt, "_load", lambda name: cast(ModuleType | None, self.modules.get(name)))
        monkeypatch.setattr(tensorrt, "probe", lambda: Gpu("L4", "sm_89"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_it_computes_on_the_device_and_brings_the_result_back(machine: Machine) -> None:
    with TensorRTRunner(machine.plan) as runner:
        assert (runner.input_names, runner.output_names) == (("x",), ("z",))
        for rows in (1, 3):
            x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
            result = runner.run({"x": x})
            np.testing.assert_array_equal(result["z"], 2 * x)
            assert machine.cuda.memory == {}, "device memory was left behind"


def test_the_calls_come_in_the_order_cuda_needs(machine: Machine) -> None:
    with TensorRTRunner(machine.plan) as runner:
        runner.run({"x": np.zeros((2, 3), np.float32)})
    assert machine.cuda.calls == [
        "cudaStreamCreate",
        "shape",
        "cudaMalloc",
        "copy HostToDevice",
        "cudaMalloc",
        "execute",
        "copy DeviceToHost",
        "cudaStreamSynchronize",
        "cudaFree",
        "cudaFree",
        "cudaStreamDestroy",
    ]


def test_an_array_that_is_not_contiguous_is_read_in_its_own_order(machine: Machine) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T[:, ::-1]
    assert not x.flags.c_contiguous
    with TensorRTRunner(machine.plan) as runner:
        np.testing.assert_array_equal(runner.run({"x": x})["z"], 2 * x)


def test_an_empty_batch_still_has_an_address(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine.engine, "get_tensor_profile_shape", lambda name, profile: [(0, 3), (2, 3), (4, 3)]
    )
    with TensorRTRunner(machine.plan) as runner:
        assert runner.run({"x": np.zeros((0, 3), np.float32)})["z"].shape == (0, 3)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "takes inputs x; given were none"),
        ({"y": np.zeros((2, 3), np.float32)}, "takes inputs x; given were y"),
        ({"x": np.zeros((2, 3))}, "input 'x' must be float32, not float64"),
        ({"x": np.zeros((5, 3), np.float32)}, "shape 5x3; this engine takes 1x3 to 4x3"),
        ({"x": np.zeros((2, 4), np.float32)}, "shape 2x4; this engine takes 1x3 to 4x3"),
        ({"x": np.zeros((2, 3, 1), np.float32)}, "shape 2x3x1; this engine takes 1x3 to 4x3"),
    ],
)
def test_wrong_inputs_are_refused_in_words_before_anything_runs(
    machine: Machine, inputs: dict[str, np.ndarray], words: str
) -> None:
    with TensorRTRunner(machine.plan) as runner, pytest.raises(InputError, match=words):
        runner.run(inputs)
    assert "execute" not in machine.cuda.calls
    assert machine.cuda.memory == {}


def test_a_type_that_numpy_lacks_is_refused_by_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.engine, "get_tensor_dtype", lambda name: "BF16")
    with TensorRTRunner(machine.plan) as runner, pytest.raises(InputError, match="'x' is BF16"):
        runner.run({"x": np.zeros((2, 3), np.float32)})


def test_bfloat16_is_numpys_through_ml_dtypes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.engine, "get_tensor_dtype", lambda name: "BF16")
    monkeypatch.setattr(machine.trt, "bfloat16", "BF16", raising=False)
    with (
        TensorRTRunner(machine.plan) as runner,
        pytest.raises(InputError, match="input 'x' must be bfloat16, not float32"),
    ):
        runner.run({"x": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("failing", ["cudaMalloc", "copy HostToDevice", "cudaStreamSynchronize"])
def test_a_cuda_error_is_raised_by_name_and_frees_everything(machine: Machine, failing: str) -> None:
    with TensorRTRunner(machine.plan) as runner:
        machine.cuda.failing = failing
        with pytest.raises(CapabilityError, match="CUDA reports cudaErrorMemoryAllocation in cuda"):
            runner.run({"x": np.zeros((2, 3), np.float32)})
    assert machine.cuda.memory == {}
    assert machine.cuda.calls[-1] == "cudaStreamDestroy"


def test_an_engine_that_does_not_start_gives_no_numbers(machine: Machine) -> None:
    machine.context.starts = False
    with (
        TensorRTRunner(machine.plan) as runner,
        pytest.raises(CapabilityError, match=r"could not start model\.engine"),
    ):
        runner.run({"x": np.zeros((2, 3), np.float32)})
    assert machine.cuda.memory == {}


def test_a_file_that_is_no_plan_is_refused(machine: Machine) -> None:
    machine.plan.write_bytes(b'{"metadata": 1}plan')
    with pytest.raises(InputError, match="is not an engine of this runtime, or is damaged"):
        TensorRTRunner(machine.plan).__enter__()


def test_a_plan_for_another_gpu_or_version_is_refused(machine: Machine) -> None:
    machine.trt.engine = None
    with pytest.raises(CapabilityError, match="built for another version or compute capability"):
        TensorRTRunner(machine.plan).__enter__()


def test_outside_of_with_it_refuses_and_the_gpu_is_untouched(machine: Machine) -> None:
    runner = TensorRTRunner(machine.plan)
    with pytest.raises(CapabilityError, match="not open"):
        runner.run({"x": np.zeros((2, 3), np.float32)})
    assert machine.cuda.calls == []
    with runner:
        pass
    with pytest.raises(CapabilityError, match="not open"):
        runner.run({"x": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize(
    ("runtime", "missing", "words"),
    [
        ("tensorrt-rtx", "tensorrt_rtx", r'tensorrt_rtx is not installed.*"scconv-deploy\[trt-rtx\]"'),
        ("tensorrt", "tensorrt", r'tensorrt is not installed.*"scconv-deploy\[trt\]"'),
        (
            "tensorrt-rtx",
            "cuda.bindings.runtime",
            "cuda-bindings is not installed.*pip install cuda-bindings",
        ),
    ],
)
def test_a_missing_library_is_named_with_its_line(
    machine: Machine, runtime: str, missing: str, words: str
) -> None:
    machine.modules.pop(missing, None)
    with pytest.raises(CapabilityError, match=words):
        TensorRTRunner(machine.plan, runtime).__enter__()


def test_without_a_gpu_nothing_is_even_imported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda: NoGpu("no NVIDIA GPU on this machine"))
    monkeypatch.setattr(tensorrt, "_load", lambda name: pytest.fail(f"{name} was imported"))
    assert obstacle("tensorrt") == "no NVIDIA GPU on this machine"
    with pytest.raises(CapabilityError, match=r"model\.engine cannot be run here: no NVIDIA GPU"):
        TensorRTRunner(machine.plan).__enter__()


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'onnx' is no TensorRT runtime"):
        TensorRTRunner(tmp_path / "x", "onnx")


def test_the_installed_tensorrt_rtx_has_every_attribute_the_runner_touches() -> None:
    """The one part of the contract that a machine without a GPU can check against the real thing."""
    real = pytest.importorskip(
        "tensorrt_rtx", reason='TensorRT for RTX is not installed: pip install "scconv-deploy[trt-rtx]"'
    )
    touched = {
        real: ("Logger", "Runtime", "nptype", "TensorIOMode", "EngineInvalidityDiagnostics"),
        real.Runtime: ("get_engine_validity", "deserialize_cuda_engine"),
        real.EngineInvalidityDiagnostics: ("MALFORMED_ENGINE",),
        real.ICudaEngine: tuple(n for n in dir(Engine) if not n.startswith("_")),
        real.IExecutionContext: tuple(n for n in dir(Context) if not n.startswith("_")),
    }
    missing = [
        f"{owner}.{name}" for owner, names in touched.items() for name in names if not hasattr(owner, name)
    ]
    assert missing == []


def test_device_times_are_taken_on_the_runners_own_buffers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One launch between the copies it was given computes what ``run`` computes."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    seen: list[np.ndarray] = []

    def once(device: Device, sends: Sequence[Copy], fetches: Sequence[Copy]) -> str:
        (send,), (fetch,) = sends, fetches
        for copy in (send, None, fetch):
            if copy is None:
                assert device.launch()
            else:
                device.call("cudaMemcpyAsync", copy.to, copy.source, copy.size, copy.kind, device.stream)
        seen.append(np.ctypeslib.as_array((ctypes.c_float * 6).from_address(fetch.to)).copy())
        return "times"

    monkeypatch.setattr(tensorrt, "timed_pass", once)
    with TensorRTRunner(machine.plan) as runner:
        assert runner.device_times({"x": x}) == "times"  # type: ignore[comparison-overlap]
        np.testing.assert_array_equal(seen[0].reshape(2, 3), 2 * x)
    assert machine.cuda.memory == {}
    with pytest.raises(CapabilityError, match="not open"):
        runner.device_times({"x": x})
