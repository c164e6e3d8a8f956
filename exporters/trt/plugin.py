"""``--form plugin``: what has to be registered where a graph with our operators is built.

Named by :data:`REGISTER` in a build request and called in the process that builds
(:mod:`exporters.trt.registration`). TensorRT for RTX gets ``IPluginV3`` plugins, TensorRT from 10.9 on ahead-of-time
ones (:mod:`exporters.trt.plugin_quick`), whose engines need neither Python nor the plugin.
"""

from __future__ import annotations

from types import ModuleType

from exporters.trt import plugin_quick
from exporters.trt.platform import TENSORRT_RTX, Platform
from scconv_deploy.config import Precision
from scconv_deploy.errors import InputError
from scconv_deploy.kernels import ptx
from scconv_deploy.runtime import tensorrt_plugin

REGISTER = "exporters.trt.plugin:register"
PRECISIONS = (Precision.FP32, Precision.FP16)


def register(module: ModuleType) -> list[object]:
    """Register every operator with the TensorRT that builds; keep what is returned alive.

    Raises:
        CapabilityError: NVRTC is not installed, or this TensorRT has no ahead-of-time plugins.
    """
    if module.__name__ == TENSORRT_RTX:
        return tensorrt_plugin.register(module)
    return plugin_quick.register(module)


def check(chosen: Platform, precision: Precision) -> tuple[str, ...]:
    """Refuse early what cannot be built with plugins; returns notes.

    Raises:
        InputError: the fused operators do not exist in this precision.
        CapabilityError: as :func:`register`.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"--form plugin exists in fp32 and fp16, not in {precision.value}; leave --form out, or use one of those"
        )
    compiler = ptx.compiler()
    if chosen.module.__name__ == TENSORRT_RTX:
        return (
            f"SRU and fuse are our CUDA kernels, compiled by {compiler}; the engine's process must have "
            "scconv-deploy and cuda-bindings, and no GPU has run them yet",
        )
    plugin_quick.require(chosen.module)
    return (
        f"SRU and fuse are our CUDA kernels, compiled ahead of time by {compiler}; no GPU has run them yet",
    )
