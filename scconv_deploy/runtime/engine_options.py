"""How a TensorRT engine is to be run: contexts, CUDA graphs, the kernel cache, memory for weights."""

from __future__ import annotations

from dataclasses import dataclass

from scconv_deploy.errors import InputError

LARGEST = 64


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of ``scconv_deploy.open`` that only TensorRT engines have; every default is the careful choice.

    ``contexts``: how many calls may run at the same time; each costs the engine's activation memory once more, and
    further calls wait. ``cuda_graphs``: replay a shape's kernels as one launch from its third call on. Off by
    default: unproved on a GPU as of 2026-11-22. ``runtime_cache``: keep kernels that TensorRT for RTX compiled for
    this GPU in the user's cache folder, so that the next start is faster. ``weight_budget``: bytes of weights that
    stay on the GPU, for an engine built with weight streaming; None lets TensorRT choose.

    Raises:
        InputError: a number out of range.
    """

    contexts: int = 1
    cuda_graphs: bool = False
    runtime_cache: bool = True
    weight_budget: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.contexts <= LARGEST:
            raise InputError(f"contexts is 1 to {LARGEST}, not {self.contexts}")
        if self.weight_budget is not None and self.weight_budget < 0:
            raise InputError(f"weight_budget is a number of bytes, at least 0, not {self.weight_budget}")
