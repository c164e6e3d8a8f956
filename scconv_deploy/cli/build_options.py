"""The options of TensorRT's builder, under trtexec's names: their types and help, and texts -> TensorRTOptions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from scconv_deploy.errors import InputError
from scconv_deploy.tensorrt_options import (
    Compatibility,
    Keep,
    TensorRTOptions,
    Verbosity,
    one_of,
    pool_sizes,
)

ProfileShapes = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        metavar="[NAME:]MIN/OPT/MAX[,...]",
        help="A further optimisation profile (TensorRT). Repeatable; a request must fit one of them.",
    ),
]
MemPoolSize = Annotated[
    list[str] | None,
    typer.Option(
        "--memPoolSize",
        metavar="POOL:SIZE[,...]",
        help="Limits of the builder's memory pools (TensorRT): workspace, tacticSharedMem, dlaSRAM, "
        "dlaLocalDRAM, dlaGlobalDRAM. MiB, or with B, K, M, G.",
    ),
]
OptimizationLevel = Annotated[
    int | None,
    typer.Option(
        "--builderOptimizationLevel",
        metavar="0..5",
        help="0 builds fastest, 5 searches longest for the fastest engine (TensorRT only; builder's default: 3).",
    ),
]
TimingCacheFile = Annotated[
    str | None,
    typer.Option(
        "--timingCacheFile",
        metavar="FILE",
        help="Kernel timings to start from and to add to (TensorRT only).",
    ),
]
HardwareCompatibility = Annotated[
    str | None,
    typer.Option(
        "--hardwareCompatibilityLevel",
        metavar="{none|ampere+|sameComputeCapability}",
        help="Other GPUs that the engine may run on (TensorRT only).",
    ),
]
VersionCompatible = Annotated[
    bool,
    typer.Option(
        "--versionCompatible", "--vc", help="The engine runs in later versions too (TensorRT only)."
    ),
]
StripWeights = Annotated[
    bool,
    typer.Option(
        "--stripWeights", help="Leave the weights out of the engine (TensorRT; needs an NVIDIA driver)."
    ),
]
Refit = Annotated[
    bool,
    typer.Option(
        "--refit",
        help="Weights of the built engine can be replaced (TensorRT; needs an NVIDIA driver).",
    ),
]
WeightStreaming = Annotated[
    bool,
    typer.Option("--allowWeightStreaming", help="Weights may stay in host memory while it runs (TensorRT)."),
]
MaxAuxStreams = Annotated[
    int | None,
    typer.Option("--maxAuxStreams", metavar="N", help="Most streams beside the main one (TensorRT)."),
]
ProfilingVerbosity = Annotated[
    str | None,
    typer.Option(
        "--profilingVerbosity",
        metavar="{layer_names_only|detailed|none}",
        help="What the engine says about its kernels (TensorRT). Default: detailed.",
    ),
]
Tf32 = Annotated[
    bool,
    typer.Option(
        "--tf32/--noTF32",
        help="FP32 products round their inputs to 10 bits (TensorRT). Off: it is not the function verified.",
    ),
]
Builds = Annotated[
    int,
    typer.Option(
        "--builds", metavar="N", help="Build N engines, report the spread, keep the best (TensorRT)."
    ),
]
KeepBy = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="{size|kernels|bytes|time}",
        help="What makes the best of several builds; time needs a GPU. Default: time, without a GPU kernels.",
    ),
]

CardName = Annotated[
    str | None,
    typer.Option(
        "--card",
        metavar="NAME",
        help="GPU for the roofline estimate in the report, such as L4, A10 or 'RTX 4090' (TensorRT). "
        "Default: one of the engine's compute capability.",
    ),
]


def tensorrt_options(
    *,
    workspace: int | None,
    mem_pool_size: Sequence[str] | None,
    optimization_level: int | None,
    timing_cache_file: str | None,
    hardware_compatibility: str | None,
    version_compatible: bool,
    strip_weights: bool,
    refit: bool,
    weight_streaming: bool,
    max_aux_streams: int | None,
    profiling_verbosity: str | None,
    tf32: bool,
    builds: int,
    keep: str | None,
    card: str | None = None,
) -> TensorRTOptions:
    """Option texts -> the checked vocabulary.

    Raises:
        InputError: a value is unknown or out of range, options contradict each other, or the timing cache is
            no file.
    """
    cache = None if timing_cache_file is None else Path(timing_cache_file)
    if cache is not None and cache.is_dir():
        raise InputError(f"--timingCacheFile '{cache}' is a folder; give a file, which need not exist yet")
    if cache is not None and not cache.absolute().parent.is_dir():
        raise InputError(
            f"--timingCacheFile '{cache}' cannot be written: there is no folder '{cache.parent}'"
        )
    level = hardware_compatibility or Compatibility.NONE.value
    verbosity = profiling_verbosity or Verbosity.DETAILED.value
    return TensorRTOptions(
        pools=pool_sizes(mem_pool_size or (), workspace),
        optimization_level=optimization_level,
        timing_cache=cache,
        hardware_compatibility=one_of("hardware compatibility level", level, Compatibility),
        version_compatible=version_compatible,
        strip_weights=strip_weights,
        refit=refit,
        weight_streaming=weight_streaming,
        max_aux_streams=max_aux_streams,
        profiling_verbosity=one_of("profiling verbosity", verbosity, Verbosity),
        tf32=tf32,
        builds=builds,
        keep=None if keep is None else one_of("--keep", keep, Keep),
        card=card,
    )
