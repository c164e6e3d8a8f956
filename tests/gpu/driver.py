"""The CUDA driver as something that launches kernels on NumPy arrays; see ``tests/kernels/cuda/operators.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from scconv_deploy.kernels.launch import Launch
from scconv_deploy.kernels.ptx import KernelSpec, compile_ptx
from scconv_deploy.runtime.cuda_kernel import Kernel, call, driver

ROUNDS = 7


class CudaDriver:
    """One context on the first GPU. A context manager; ``name`` is the GPU's."""

    def __init__(self, cuda: ModuleType | None = None) -> None:
        """Raises CapabilityError: no driver, or no GPU."""
        self.cuda = cuda or driver()
        call(self.cuda, "cuInit", 0)
        self.device = call(self.cuda, "cuDeviceGet", 0)
        self.context = call(self.cuda, "cuDevicePrimaryCtxRetain", self.device)
        call(self.cuda, "cuCtxSetCurrent", self.context)
        self.name = call(self.cuda, "cuDeviceGetName", 128, self.device).rstrip(b"\0").decode()
        self._kernels: dict[KernelSpec, Kernel] = {}

    def __enter__(self) -> CudaDriver:
        return self

    def __exit__(self, *error: object) -> None:
        for kernel in self._kernels.values():
            kernel.close()
        call(self.cuda, "cuDevicePrimaryCtxRelease", self.device)

    def kernel(self, spec: KernelSpec) -> Kernel:
        """Compiled and loaded once."""
        if spec not in self._kernels:
            ptx = compile_ptx(spec)
            self._kernels[spec] = Kernel(ptx.text.encode(), ptx.entry, self.cuda)
        return self._kernels[spec]

    def launch(
        self,
        spec: KernelSpec,
        grid: int,
        block: int,
        inputs: Sequence[np.ndarray],
        extras: Sequence[int],
        outputs: Sequence[np.ndarray],
    ) -> None:
        """Copy in, run once, copy out."""
        sources, results = [self.upload(a) for a in inputs], [self.upload(a) for a in outputs]
        try:
            self.kernel(spec).launch(Launch(spec, grid, block, tuple(extras)), sources, results, 0)
            call(self.cuda, "cuCtxSynchronize")
            for array, address in zip(outputs, results, strict=True):
                call(self.cuda, "cuMemcpyDtoH", array.ctypes.data, address, array.nbytes)
        finally:
            self.free((*sources, *results))

    def upload(self, array: np.ndarray) -> int:
        """A copy on the device; its address."""
        address = self.empty(array.nbytes)
        call(self.cuda, "cuMemcpyHtoD", address, array.ctypes.data, array.nbytes)
        return address

    def empty(self, size: int) -> int:
        """Device memory."""
        return int(call(self.cuda, "cuMemAlloc", max(1, size)))

    def free(self, addresses: Sequence[int]) -> None:
        """Give it back."""
        for address in addresses:
            call(self.cuda, "cuMemFree", address)

    def copy(self, to: int, source: int, size: int) -> None:
        """Device to device, asynchronously."""
        call(self.cuda, "cuMemcpyDtoDAsync", to, source, size, 0)

    def milliseconds(self, work: Callable[[], Any], times: int = 20) -> float:
        """The fastest of several rounds, per run of ``work``; launches alone, without copies to the host."""
        begin, end = (call(self.cuda, "cuEventCreate", 0) for _ in range(2))
        found = []
        for _ in range(ROUNDS):
            call(self.cuda, "cuEventRecord", begin, 0)
            for _ in range(times):
                work()
            call(self.cuda, "cuEventRecord", end, 0)
            call(self.cuda, "cuEventSynchronize", end)
            found.append(float(call(self.cuda, "cuEventElapsedTime", begin, end)) / times)
        for event in (begin, end):
            call(self.cuda, "cuEventDestroy", event)
        return min(found)
