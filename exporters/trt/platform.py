"""Target name + what is installed + what GPU is here -> which TensorRT builds, and why.

Two products share one Python API: ``tensorrt`` builds for the GPU it runs on, ``tensorrt_rtx`` builds ahead
of time for named compute capabilities and needs no GPU. Features are found with ``hasattr``, never by
version number.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.cuda_device import load
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu, probe

TENSORRT = "tensorrt"
TENSORRT_RTX = "tensorrt_rtx"
INSTALL_RTX = 'pip install "scconv-deploy[trt-rtx]"'
PRODUCTS = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT for RTX"}


@dataclass(frozen=True, slots=True)
class Platform:
    """The chosen builder. ``reason`` is a whole sentence for the user; ``gpu`` is this machine's."""

    module: ModuleType
    gpu: Gpu | NoGpu
    reason: str

    @property
    def ahead_of_time(self) -> bool:
        """True where plans are built for named compute capabilities, without a GPU."""
        return self.module.__name__ == TENSORRT_RTX

    @property
    def product(self) -> str:
        """Product and version, as in "TensorRT for RTX 1.7.1.116"."""
        return f"{PRODUCTS[self.module.__name__]} {version_of(self.module)}"

    @property
    def runtime(self) -> str:
        """The name under which the bundle remembers its runtime."""
        return "tensorrt-rtx" if self.ahead_of_time else "tensorrt"


def version_of(module: ModuleType) -> str:
    """``module.__version__``."""
    return str(module.__version__)


def versions(*names: str) -> dict[str, str]:
    """Installed versions by module name; a module that does not import is left out."""
    loaded = {name: load(name) for name in names}
    return {name: version_of(module) for name, module in loaded.items() if module is not None}


def choose(target: str) -> Platform:
    """``trt``: TensorRT where it and a GPU are here, else TensorRT for RTX. ``trt-rtx``: always RTX.

    Raises:
        CapabilityError: no builder can work here; the message holds the one line to install one.
    """
    gpu = probe()
    if target == "trt-rtx":
        return _ahead_of_time(gpu, "")
    tensorrt = load(TENSORRT)
    if tensorrt is not None and isinstance(gpu, Gpu):
        reason = (
            f"TensorRT {version_of(tensorrt)} builds for this machine's {gpu.name} ({gpu.compute_capability})"
        )
        return Platform(tensorrt, gpu, reason)
    if tensorrt is None:
        why = "TensorRT is not installed"
    else:
        why = f"TensorRT {version_of(tensorrt)} needs a GPU to build and there is none here"
    return _ahead_of_time(gpu, why)


def _ahead_of_time(gpu: Gpu | NoGpu, why: str) -> Platform:
    rtx = load(TENSORRT_RTX)
    if rtx is None:
        because = (
            f"{why}, and TensorRT for RTX is not installed" if why else "TensorRT for RTX is not installed"
        )
        raise CapabilityError(f"{because}; install it with: {INSTALL_RTX}")
    doing = f"TensorRT for RTX {version_of(rtx)} builds ahead of time for named compute capabilities"
    return Platform(rtx, gpu, f"{why}, so {doing}" if why else doing)
