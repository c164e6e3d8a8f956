"""CUDA through torch: real torch tensors and copies, on the CPU, behind torch.cuda's names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import ml_dtypes
import numpy as np
import pytest
import torch

from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime import cuda_device
from scconv_deploy.runtime.cuda_device import BindingsDevice, TorchDevice, find_device
from scconv_deploy.runtime.engine_options import EngineOptions
from scconv_deploy.runtime.tensorrt import TensorRTRunner
from tests.runtime.gpu_machine import Machine, rows


class TorchOnCpu:
    """torch whose device "cuda" is the CPU; every tensor's memory is known to the stand-in engine."""

    uint8 = torch.uint8
    from_numpy = staticmethod(torch.from_numpy)

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.cuda = SimpleNamespace(
            Stream=self._stream,
            stream=self._on,
            is_available=lambda: True,
            CUDAGraph=self._new,
            graph=self._capture,
        )
        self.replays = 0
        self.failing = ""

    def empty(self, size: int, dtype: torch.dtype, device: str) -> torch.Tensor:
        assert device == "cuda"
        if self.failing == "empty":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        tensor = torch.empty(size, dtype=dtype)
        self._machine.cuda.memory[tensor.data_ptr()] = tensor
        return tensor

    def _stream(self) -> Any:
        (stream,) = self._machine.cuda.cudaStreamCreateWithFlags(1)[1:]
        return SimpleNamespace(cuda_stream=int(cast(Any, stream)), real=stream, synchronize=lambda: None)

    @contextlib.contextmanager
    def _on(self, stream: Any) -> Iterator[None]:
        yield

    def _new(self) -> Any:
        def replay() -> None:
            self.replays += 1
            for work in graph.work:
                work()

        graph = SimpleNamespace(work=[], replay=replay, reset=lambda: None)
        return graph

    @contextlib.contextmanager
    def _capture(self, graph: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        work: list[Callable[[], None]] = []
        stream.real.captured = work
        try:
            yield
        finally:
            stream.real.captured = None
        if self.failing == "capture":
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")
        graph.work = work


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Without cuda-bindings, with torch."""
    made = Machine(monkeypatch, tmp_path)
    del made.modules["cuda.bindings.runtime"]
    made.modules["torch"] = TorchOnCpu(made)
    return made


def torch_of(machine: Machine) -> TorchOnCpu:
    found = machine.modules["torch"]
    assert isinstance(found, TorchOnCpu)
    return found


def test_an_engine_runs_through_torch_where_cuda_bindings_are_absent(machine: Machine) -> None:
    with TensorRTRunner(machine.plan) as runner:
        for count in (2, 4, 1):
            np.testing.assert_array_equal(runner.run({"x": rows(count)})["z"], 2 * rows(count))
        fixed = rows(2)
        fixed.flags.writeable = False
        np.testing.assert_array_equal(runner.run({"x": fixed})["z"], 2 * fixed)


def test_graphs_through_torch(machine: Machine) -> None:
    with TensorRTRunner(machine.plan, "tensorrt", EngineOptions(cuda_graphs=True)) as runner:
        for first in range(5):
            np.testing.assert_array_equal(runner.run({"x": rows(2, first)})["z"], 2 * rows(2, first))
    assert torch_of(machine).replays == 3


def test_a_capture_that_torch_refuses_is_a_note(machine: Machine) -> None:
    torch_of(machine).failing = "capture"
    with TensorRTRunner(machine.plan, "tensorrt", EngineOptions(cuda_graphs=True)) as runner:
        for first in range(4):
            np.testing.assert_array_equal(runner.run({"x": rows(2, first)})["z"], 2 * rows(2, first))
        (refusal,) = runner.graph_refusals()
    assert refusal == (
        "torch reports a CUDA error in capturing a graph: CUDA error: operation not permitted when stream is capturing"
    )


def test_out_of_memory_comes_back_in_words(machine: Machine) -> None:
    with TensorRTRunner(machine.plan) as runner:
        torch_of(machine).failing = "empty"
        with pytest.raises(
            CapabilityError, match=r"torch reports a CUDA error in allocating 24 bytes: CUDA out of"
        ):
            runner.run({"x": rows(2)})
        torch_of(machine).failing = ""
        np.testing.assert_array_equal(runner.run({"x": rows(2)})["z"], 2 * rows(2))


def test_device_times_need_cuda_bindings(machine: Machine) -> None:
    with (
        TensorRTRunner(machine.plan) as runner,
        pytest.raises(CapabilityError, match="pip install cuda-bindings"),
    ):
        runner.device_times({"x": rows(2)})


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.bool_])
def test_bytes_are_bytes_whatever_the_type(machine: Machine, kind: type) -> None:
    device = TorchDevice(torch_of(machine))
    stream = device.open_stream()
    given: np.ndarray = np.arange(12).reshape(3, 4).astype(kind)
    buffer = device.allocate(100)
    device.send(buffer, given, stream)
    back = np.zeros_like(given)
    device.fetch(back, buffer, stream)
    device.wait(stream)
    assert back.tobytes() == given.tobytes()


def test_which_way_to_cuda(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(find_device(), TorchDevice)
    torch_of(machine).cuda.is_available = lambda: False
    assert find_device() is None
    machine.modules["cuda.bindings.runtime"] = machine.cuda
    assert isinstance(find_device(), BindingsDevice)


def test_a_module_whose_libraries_do_not_load_counts_as_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_cuda.py").write_text("raise OSError('libcudart.so.13: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    assert cuda_device.load("broken_cuda") is None
    assert isinstance(cuda_device.load("sys"), ModuleType)
    assert "torch" in sys.modules
