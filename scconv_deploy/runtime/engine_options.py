"""How an engine is to be run: its layout in ONNX Runtime; contexts, graphs, caches and memory in TensorRT."""

from __future__ import annotations

from dataclasses import dataclass

from scconv_deploy.errors import InputError

LARGEST = 64
AUTO, PLANAR = "auto", "planar"
LAYOUTS = (AUTO, PLANAR)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of ``scconv_deploy.open`` that only some engines have; every default is the careful choice.

    In ONNX Runtime, for a model with fused nodes on the CPU:
    ``layout``: ``"auto"`` lets them, and whole SCConv blocks as one node, work in the blocked layout where that is
    possible here and agrees with the file as it is (made at the first load, then kept in the user's cache folder;
    ``engine.info`` says what is in use). ``"planar"`` runs the file as it is: nothing is rewired, compared or
    kept, so that the first load is faster and each call slower.

    In TensorRT:
    ``contexts``: how many calls may run at the same time; each costs the engine's activation memory once more, and
    further calls wait. ``cuda_graphs``: replay a shape's kernels as one launch from its third call on. Off by
    default: unproved on a GPU as of 2026-11-22. ``runtime_cache``: keep kernels that TensorRT for RTX compiled for
    this GPU in the user's cache folder, so that the next start is faster. ``weight_budget``: bytes of weights that
    stay on the GPU, for an engine built with weight streaming; None lets TensorRT choose.

    Raises:
        InputError: a number out of range, or an unknown layout.
    """

    contexts: int = 1
    cuda_graphs: bool = False
    runtime_cache: bool = True
    weight_budget: int | None = None
    layout: str = AUTO

    def __post_init__(self) -> None:
        if not 1 <= self.contexts <= LARGEST:
            raise InputError(f"contexts is 1 to {LARGEST}, not {self.contexts}")
        if self.weight_budget is not None and self.weight_budget < 0:
            raise InputError(f"weight_budget is a number of bytes, at least 0, not {self.weight_budget}")
        if self.layout not in LAYOUTS:
            raise InputError(f"layout='{self.layout}' is unknown; choose one of {', '.join(LAYOUTS)}")
