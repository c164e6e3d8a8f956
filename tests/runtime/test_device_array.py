"""Tensors on a GPU, in and out of a TensorRT engine: torch's own DLPack capsules, and a stand-in GPU behind them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.cuda_device import TorchDevice
from scconv_deploy.runtime.device_array import NO_STREAM, DeviceArray, is_on_gpu
from scconv_deploy.runtime.engine import Engine, open_bundle
from scconv_deploy.runtime.input_checks import check_target
from tests.runtime.bundles import write_bundle
from tests.runtime.gpu_machine import Machine, rows
from tests.runtime.test_engine_use import engine_bundle


class OnGpu:
    """A torch tensor on the CPU that says it is on a GPU, and notes for which streams it was asked."""

    def __init__(self, tensor: torch.Tensor, machine: Machine | None = None) -> None:
        self.tensor = tensor
        self.asked: list[int] = []
        self.calls = machine.cuda.calls if machine else []
        if machine:
            machine.cuda.memory[tensor.data_ptr()] = tensor.reshape(-1).view(torch.uint8)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int) -> object:
        self.asked.append(stream)
        if stream != NO_STREAM:
            self.calls.append("waits for the library")
        return self.tensor.__dlpack__()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


@pytest.fixture
def opened(machine: Machine) -> Engine:
    return open_bundle(engine_bundle(machine))


def seen(tensor: torch.Tensor) -> DeviceArray:
    return DeviceArray(OnGpu(tensor), "input 'x'")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (torch.float32, np.float32),
        (torch.float16, np.float16),
        (torch.bfloat16, ml_dtypes.bfloat16),
        (torch.float64, np.float64),
        (torch.int64, np.int64),
        (torch.uint8, np.uint8),
        (torch.bool, np.bool_),
    ],
)
def test_shape_type_and_address_are_the_tensors(kind: torch.dtype, name: type) -> None:
    whole = torch.zeros((4, 2, 3), dtype=kind)
    array = seen(whole[1:])
    assert (array.shape, array.ndim, array.dtype) == ((3, 2, 3), 3, np.dtype(name))
    assert array.nbytes == 18 * whole.element_size()
    assert array.lent_to(7)[0] == whole[1:].data_ptr() == whole.data_ptr() + 6 * whole.element_size()


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(4, 3).T, "lies in pieces"),
        (torch.zeros(4, 3)[:, ::2], "lies in pieces"),
        (torch.zeros(2, 3, dtype=torch.complex64), "has elements that NumPy has no name for"),
        (torch.zeros(2, 3, requires_grad=True), "detach it first"),
    ],
)
def test_what_cannot_be_copied_as_it_lies_is_refused(tensor: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        seen(tensor)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (0, 3), ()])
def test_axes_of_one_or_of_nothing_have_any_stride(shape: tuple[int, ...]) -> None:
    assert seen(torch.zeros(shape)).shape == shape
    assert seen(torch.zeros(3, 1).T).shape == (1, 3)


def test_the_tensor_is_kept_while_it_is_lent_and_no_longer() -> None:
    storage = torch.zeros(1000)
    alive = weakref.ref(storage.untyped_storage())
    _, owner = seen(storage).lent_to(7)
    del storage
    gc.collect()
    assert alive() is not None
    del owner
    gc.collect()
    assert alive() is None


def test_tensors_on_the_gpu_go_in_and_out_without_the_host(machine: Machine, opened: Engine) -> None:
    x, z = OnGpu(torch.from_numpy(rows(2)), machine), OnGpu(torch.zeros(2, 3), machine)
    machine.cuda.calls.clear()
    with opened:
        results: Mapping[str, Any] = opened.run(given(x), given(z, "z"))
        (stream,) = (s for s in machine.cuda.streams if s in x.asked)
    assert results["z"] is z
    np.testing.assert_array_equal(z.tensor.numpy(), 2 * rows(2))
    assert x.asked == z.asked == [NO_STREAM, stream]
    start = machine.cuda.calls.index("waits for the library")
    assert machine.cuda.calls[start : start + 6] == [
        "waits for the library",
        "copy DeviceToDevice",
        "execute",
        "waits for the library",
        "copy DeviceToDevice",
        "cudaStreamSynchronize",
    ]


def test_what_a_library_lends_is_kept_until_the_copies_are_done(
    machine: Machine, opened: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lending(OnGpu):
        """Lends a copy that nobody else holds."""

        def __dlpack__(self, stream: int) -> object:
            lent = OnGpu(self.tensor.clone(), machine)
            machine.cuda.memory[lent.tensor.data_ptr()] = bytes(lent.tensor.nbytes)
            if stream != NO_STREAM:
                alive.append(weakref.ref(lent.tensor.untyped_storage()))
            return lent.__dlpack__(stream)

    alive: list[weakref.ref[torch.UntypedStorage]] = []
    kept: list[list[bool]] = []
    wait = machine.cuda.cudaStreamSynchronize

    def waiting(stream: Any) -> tuple[object, ...]:
        kept.append([lent() is not None for lent in alive])
        return wait(stream)

    monkeypatch.setattr(machine.cuda, "cudaStreamSynchronize", waiting)
    x, z = Lending(torch.from_numpy(rows(2))), Lending(torch.zeros(2, 3))
    with opened:
        opened.run(given(x), given(z, "z"))
        machine.cuda.failing = "execute"
        machine.engine._starts = False
        with pytest.raises(CapabilityError):
            opened.run(given(x))
    assert kept[0] == [True, True]
    assert kept[1] == [False, False, True]


def test_the_host_may_have_the_results_of_a_tensor_on_the_gpu(machine: Machine, opened: Engine) -> None:
    x = OnGpu(torch.from_numpy(rows(2)), machine)
    with opened:
        np.testing.assert_array_equal(opened.run(given(x))["z"], 2 * rows(2))
    assert not any("HostToDevice" in call for call in machine.cuda.calls)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), "input 'x' must be float32, not float64"),
        (torch.zeros(9, 3), "input 'x' has 9 on axis 0"),
        (torch.zeros(3, 2).T, "lies in pieces"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_in_words(
    machine: Machine, opened: Engine, tensor: torch.Tensor, words: str
) -> None:
    with opened, pytest.raises(InputError, match=words):
        opened.run(given(OnGpu(tensor)))
    assert "execute" not in machine.cuda.calls


def test_a_target_that_does_not_fit_is_refused(machine: Machine, opened: Engine) -> None:
    with opened:
        for wrong in (OnGpu(torch.zeros(3, 3)), OnGpu(torch.zeros(2, 3, dtype=torch.float16))):
            with pytest.raises(InputError, match="the array for output 'z' must be"):
                opened.run({"x": rows(2)}, given(wrong, "z"))
        with pytest.raises(InputError, match="must be a numpy array, not Tensor"):
            opened.run({"x": rows(2)}, {"z": torch.zeros(2, 3)})  # type: ignore[dict-item]


def test_a_failed_copy_is_named_and_the_engine_still_serves(machine: Machine, opened: Engine) -> None:
    x = OnGpu(torch.from_numpy(rows(2)), machine)
    with opened:
        machine.cuda.failing = "copy DeviceToDevice"
        with pytest.raises(CapabilityError, match="in cudaMemcpyAsync"):
            opened.run(given(x))
        machine.cuda.failing = None
        np.testing.assert_array_equal(opened.run(given(x))["z"], 2 * rows(2))


def test_a_backend_on_the_cpu_refuses_it_in_words(tmp_path: Path) -> None:
    with open_bundle(write_bundle(tmp_path / "bundle"), threads=1) as engine:
        with pytest.raises(InputError, match="bring it to the CPU"):
            engine.run(given(Foreign(torch.zeros(1, 3, 8, 8))))
        x = np.zeros((1, 3, 8, 8), np.float32)
        with pytest.raises(InputError, match="must be a numpy array, not OnGpu"):
            engine.run({"x": x}, given(OnGpu(torch.zeros(1, 3, 8, 8)), "y"))


def test_without_cuda_bindings_it_is_refused_with_the_line_that_helps() -> None:
    with pytest.raises(CapabilityError, match="pip install cuda-bindings"):
        TorchDevice(torch).move(1, 2, 3, None)


@pytest.mark.parametrize(("device", "is_there"), [(1, False), (2, True), (3, False), (10, False), (13, True)])
def test_which_devices_are_an_nvidia_gpu(device: int, is_there: bool) -> None:
    class Tensor:
        def __dlpack_device__(self) -> tuple[int, int]:
            return device, 0

    assert is_on_gpu(Tensor()) is is_there
    assert not is_on_gpu([1.0])


def test_a_target_is_compared_with_the_output_it_takes() -> None:
    """The twin of the copies: a target one row short would be written beyond its end."""
    with pytest.raises(InputError, match="of shape"):
        check_target("z", seen(torch.zeros(1, 3)), (2, 3), np.dtype(np.float32))  # type: ignore[arg-type]


class Foreign(OnGpu):
    """As a library answers NumPy, which cannot reach a GPU."""

    def __dlpack__(self, **_: object) -> object:  # type: ignore[override]
        raise BufferError("cannot export a CUDA tensor to the CPU")


def given(tensor: OnGpu, name: str = "x") -> Mapping[str, Any]:
    return {name: tensor}
