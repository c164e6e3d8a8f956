"""A machine with a GPU, the modules, and a plan on disk: all stand-ins."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest

from scconv_deploy.runtime import cuda_device, tensorrt
from scconv_deploy.runtime.nvidia_driver import Gpu
from tests.runtime.recording_gpu import Cuda, Engine, Range
from tests.runtime.recording_modules import Rtx, Trt


class Machine:
    """Everything a test may look at or break."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.cuda = Cuda()
        self.rtx, self.trt = Rtx(None), Trt(None)
        self.holds()
        self.modules: dict[str, object] = {
            "tensorrt_rtx": self.rtx,
            "tensorrt": self.trt,
            "cuda.bindings.runtime": self.cuda,
        }
        self.plan = folder / "model.engine"
        self.plan.write_bytes(b"plan")
        for module in (tensorrt, cuda_device):
            monkeypatch.setattr(module, "load", lambda name: cast(ModuleType | None, self.modules.get(name)))
        monkeypatch.setattr(tensorrt, "probe", lambda: Gpu("L4", "sm_89", (13, 1)))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def holds(self, *profiles: Range) -> Engine:
        """The engine that a plan gives, with these profiles."""
        self.engine = Engine(self.cuda, profiles) if profiles else Engine(self.cuda)
        self.rtx.engine = self.trt.engine = self.engine
        return self.engine


def rows(count: int, first: float = 0.0) -> np.ndarray:
    """An input of the stand-in engine."""
    return (first + np.arange(count * 3, dtype=np.float32)).reshape(count, 3)
