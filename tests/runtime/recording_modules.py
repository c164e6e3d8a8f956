"""The modules ``tensorrt`` and ``tensorrt_rtx`` around the stand-ins of :mod:`tests.runtime.recording_gpu`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tests.runtime.recording_gpu import Engine

MALFORMED = 32


class Runtime:
    """``Runtime`` of TensorRT; every stand-in plan begins with ``plan``."""

    def __init__(self, module: Trt) -> None:
        self._module = module

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        return self._module.engine


class RtxRuntime(Runtime):
    """The one of TensorRT for RTX, which can look at a plan first."""

    def get_engine_validity(self, buffer: bytes) -> tuple[str, int]:
        if not buffer.startswith(b"plan"):
            return "INVALID", MALFORMED
        assert isinstance(self._module, Rtx)
        return ("INVALID" if self._module.invalid else "VALID"), self._module.invalid


class Trt:
    """``tensorrt``: the module's own attributes that the runner touches."""

    __version__ = "10.13.3.9"
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")

    class Logger:
        ERROR = 2

        def __init__(self, severity: int) -> None: ...

    def __init__(self, engine: Engine | None) -> None:
        self.engine = engine

    def Runtime(self, logger: object) -> Runtime:  # noqa: N802 - TensorRT's name
        return Runtime(self)

    def nptype(self, dtype: str) -> type:
        if dtype == "BF16":
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return np.float32


class Rtx(Trt):
    """``tensorrt_rtx``: with a kernel cache, its own CUDA graphs, and a look at plans before they are loaded."""

    __version__ = "1.7.1.116"
    EngineValidity = SimpleNamespace(VALID="VALID", INVALID="INVALID")
    EngineInvalidityDiagnostics = SimpleNamespace(
        VERSION_MISMATCH=1, UNSUPPORTED_CC=2, OLD_CUDA_DRIVER=4, MALFORMED_ENGINE=MALFORMED
    )
    CudaGraphStrategy = SimpleNamespace(DISABLED="DISABLED", WHOLE_GRAPH_CAPTURE="WHOLE_GRAPH_CAPTURE")
    IRuntimeCache = object

    def __init__(self, engine: Engine | None) -> None:
        super().__init__(engine)
        self.invalid = 0

    def Runtime(self, logger: object) -> Runtime:  # noqa: N802 - TensorRT's name
        return RtxRuntime(self)
