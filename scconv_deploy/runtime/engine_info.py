"""An open engine -> what runs it, on what, and what it takes and gives."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LIBRARIES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}
"""Runtime -> the module that an open engine has imported."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """``library`` is the runtime's version; ``device`` the provider, device or GPU that computes.

    ``artifact`` is the file that runs: after a fallback the graph, and ``fallback`` says why. ``kernels`` runs
    the model's fused nodes (None: it has none), on tensors in the ``layout`` "NCHW", "NCHW8c" or "NCHW16c" (None:
    no kernel of ours runs); ``whole_blocks`` of the model's SCConv blocks are one kernel each. ``notes`` are facts of
    the open engine (caches, graphs).
    """

    runtime: str
    library: str | None
    device: str
    artifact: str
    precision: str | None
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    kernels: str | None = None
    fallback: str | None = None
    notes: tuple[str, ...] = ()
    layout: str | None = None
    whole_blocks: int = 0


def describe(
    manifest: Mapping[str, Any],
    runtime: str,
    artifact: str,
    provider: str | None,
    runner: object,
    fallback: str | None,
) -> EngineInfo:
    """What an open engine is; all parts of a runner that say more are optional."""
    module = sys.modules.get(LIBRARIES.get(runtime, runtime))
    library = getattr(module, "__version__", None)
    refusals = getattr(runner, "graph_refusals", tuple)
    return EngineInfo(
        runtime=runtime,
        library=None if library is None else str(library),
        device=str(getattr(runner, "device", None) or provider or _usual_device(runtime)),
        artifact=artifact,
        precision=(manifest.get("precision") or {}).get("asked"),
        inputs=tuple(manifest["inputs"]),
        outputs=tuple(manifest["outputs"]),
        kernels=getattr(runner, "kernels", None),
        fallback=fallback,
        layout=getattr(runner, "layout", None),
        whole_blocks=getattr(runner, "whole_blocks", 0),
        notes=(*getattr(runner, "notes", ()), *(f"not captured as a CUDA graph: {r}" for r in refusals())),
    )


def _usual_device(runtime: str) -> str:
    return {"onnxruntime": "CPUExecutionProvider", "openvino": "CPU"}.get(runtime, "GPU")
