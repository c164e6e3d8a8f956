"""PTX -> a kernel that the CUDA driver launches on a stream, through cuda-bindings.

The arguments are packed as the driver wants them: device addresses, 32-bit integers, device addresses. Unproved on
a GPU as of 2026-11-22; ``python -m tests.gpu.check`` runs exactly this code where there is one.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from scconv_deploy.errors import CapabilityError, first_line
from scconv_deploy.kernels.launch import Launch

INSTALL = "pip install cuda-bindings"


def driver() -> ModuleType:
    """cuda-bindings' driver interface. Raises CapabilityError where it is missing."""
    try:
        return importlib.import_module("cuda.bindings.driver")
    except (ImportError, OSError, RuntimeError) as error:
        raise CapabilityError(
            f"running our kernels needs cuda-bindings, which cannot be imported ({first_line(error)}); "
            f"install it with: {INSTALL}"
        ) from error


def call(cuda: ModuleType, function: str, *arguments: object) -> Any:
    """One driver call; its result, or CapabilityError with the name of the CUDA error."""
    try:
        status, *values = getattr(cuda, function)(*arguments)
    except RuntimeError as error:  # cuda-bindings opens the driver's library at the first call
        raise CapabilityError(f"the CUDA driver cannot be opened: {first_line(error)}") from error
    if int(status) != 0:
        raise CapabilityError(f"the CUDA driver reports {getattr(status, 'name', status)} in {function}")
    return values[0] if values else None


class Kernel:
    """One entry point, loaded into the current CUDA context."""

    def __init__(self, ptx: bytes, entry: str, cuda: ModuleType | None = None) -> None:
        """Raises CapabilityError: the driver is missing, or refuses the PTX."""
        self._cuda = cuda or driver()
        # The driver reads up to a zero byte.
        self._module = call(self._cuda, "cuModuleLoadData", ptx.rstrip(b"\0") + b"\0")
        self._function = call(self._cuda, "cuModuleGetFunction", self._module, entry.encode())

    def launch(self, launch: Launch, inputs: Sequence[int], outputs: Sequence[int], stream: int) -> None:
        """Start it; ``inputs`` and ``outputs`` are device addresses in the kernel's order."""
        cells: list[Any] = [ctypes.c_void_p(int(address)) for address in inputs]
        cells += [ctypes.c_int(int(value)) for value in launch.extras]
        cells += [ctypes.c_void_p(int(address)) for address in outputs]
        pointers = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
        grid = (int(launch.grid), 1, 1)
        call(
            self._cuda,
            "cuLaunchKernel",
            self._function,
            *grid,
            *(launch.block, 1, 1),
            0,
            stream,
            ctypes.addressof(pointers),
            0,
        )

    def close(self) -> None:
        """Unload it; nothing may be running."""
        call(self._cuda, "cuModuleUnload", self._module)
