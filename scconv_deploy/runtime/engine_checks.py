"""A plan, or the engine loaded from it -> what it is and whether it can run here, in words."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.dtypes import BFLOAT16, numpy_dtype

INVALID = {
    "VERSION_MISMATCH": "it was built by another version",
    "UNSUPPORTED_CC": "it was not built for this GPU's compute capability",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old; update it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old; update it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "CUDA_ERROR": "CUDA or its driver is not installed correctly",
}
"""Members of ``EngineInvalidityDiagnostics``, as reasons."""


def stream_weights(engine: Any, budget: int | None) -> tuple[str, ...]:
    """Set how many bytes of weights stay on the GPU, for an engine built with weight streaming.

    Raises:
        CapabilityError: a budget was given and the engine has none, or did not take it.
    """
    if not engine.streamable_weights_size:
        if budget is not None:
            raise CapabilityError("this engine was not built with weight streaming; leave weight_budget out")
        return ()
    if not hasattr(engine, "weight_streaming_budget_v2"):
        raise CapabilityError("this engine streams its weights, for which TensorRT 10.1 or later is needed")
    chosen = engine.get_weight_streaming_automatic_budget() if budget is None else budget
    engine.weight_streaming_budget_v2 = chosen
    if engine.weight_streaming_budget_v2 != chosen:
        raise CapabilityError(
            f"the engine did not take the weight budget {chosen}: it reads back as "
            f"{engine.weight_streaming_budget_v2} of {engine.streamable_weights_size} bytes"
        )
    return (f"{chosen} of {engine.streamable_weights_size} bytes of weights stay on the GPU",)


def refuse_invalid(trt: ModuleType, runtime: Any, data: bytes, plan: Path) -> None:
    """Ask TensorRT for RTX what it thinks of a plan before it is loaded.

    Raises:
        InputError: the file is no plan, or damaged.
        CapabilityError: it cannot run on this machine, with every reason it gives.
    """
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, found = runtime.get_engine_validity(data)
    bits = int(found)
    if bits & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
        raise InputError(f"{plan} is not an engine of this runtime, or is damaged")
    if validity != trt.EngineValidity.INVALID:
        return
    known = {name: getattr(trt.EngineInvalidityDiagnostics, name, None) for name in INVALID}
    reasons = [INVALID[name] for name, bit in known.items() if bit is not None and bits & int(bit)]
    raise CapabilityError(f"{plan.name} cannot be run here: {'; '.join(reasons) or 'it gave no reason'}")


def dtype_of(trt: ModuleType, engine: Any, name: str) -> np.dtype[Any]:
    """The NumPy type of a tensor of the engine; InputError where NumPy has none."""
    stored = engine.get_tensor_dtype(name)
    if stored == getattr(trt, BFLOAT16, None):  # nptype has no answer for it
        return numpy_dtype(BFLOAT16)
    try:
        found: np.dtype[Any] = np.dtype(trt.nptype(stored))
    except TypeError as error:
        raise InputError(f"tensor '{name}' is {stored}, a type NumPy does not have") from error
    return found
