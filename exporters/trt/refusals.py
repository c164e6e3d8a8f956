"""Platform + options -> a refusal in words before anything is built, or what the user should know.

What is here was seen with TensorRT for RTX 1.7.1 (2026-11-22): without a driver its builder fails on REFIT and
STRIP_PLAN inside code generation, VERSION_COMPATIBLE opens a library that the wheel lacks, hardware
compatibility and the timing cache do nothing, and every optimisation level gives the same bytes
(SCConv-ResNet-50 at 0, 3 and 5).
"""

from __future__ import annotations

from exporters.trt.platform import Platform
from exporters.trt.settings import flags
from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.nvidia_driver import NoGpu
from scconv_deploy.runtime.tensorrt import obstacle
from scconv_deploy.tensorrt_options import Compatibility, Keep, Pool, TensorRTOptions

DLA_POOLS = (Pool.DLA_SRAM, Pool.DLA_LOCAL_DRAM, Pool.DLA_GLOBAL_DRAM)


def refuse(platform: Platform, options: TensorRTOptions) -> tuple[str, ...]:
    """Refuse what this platform cannot do; return notes on what it takes without effect.

    Raises:
        CapabilityError: an option that this platform cannot honour, with the reason and what to do.
    """
    for option, given, reason in _impossible(platform, options):
        if given:
            raise CapabilityError(f"{platform.product} cannot honour {option}: {reason}; leave {option} out")
    notes = []
    if platform.ahead_of_time and options.optimization_level is not None:
        notes.append(
            f"{platform.product} takes --builderOptimizationLevel and builds the same engine at every level: "
            "what it optimises for a GPU is decided where the engine is loaded"
        )
    if options.tf32:
        notes.append(
            "TF32 is on: FP32 products round their inputs to 10 bits of mantissa on the GPU, so the engine is "
            "held to the limits named tf32 there, not to those of fp32"
        )
    return tuple(notes)


def _impossible(platform: Platform, options: TensorRTOptions) -> list[tuple[str, bool, str]]:
    """(option, was it asked for and is impossible, why), most telling first."""
    rtx = platform.ahead_of_time
    no_driver = isinstance(platform.gpu, NoGpu)
    reason = platform.gpu.reason if isinstance(platform.gpu, NoGpu) else ""
    here = f"its builder needs an NVIDIA driver for that even ahead of time, and here there is {reason}"
    lacking = [name for name in flags(options) if not hasattr(platform.module.BuilderFlag, name)]
    compatible = options.hardware_compatibility is not Compatibility.NONE
    streams = options.max_aux_streams or 0
    return [
        (
            "--timingCacheFile",
            rtx and options.timing_cache is not None,
            "it times no kernels when it builds, and its timing cache does nothing; it keeps a cache at run time",
        ),
        (
            "--hardwareCompatibilityLevel",
            rtx and compatible,
            "it has no such levels; name the GPUs to build for with --compute-capability",
        ),
        (
            "--hardwareCompatibilityLevel",
            compatible and not _has_level(platform, options),
            f"it has no level '{options.hardware_compatibility.value}'",
        ),
        (
            "--versionCompatible",
            rtx and options.version_compatible,
            "its wheel lacks the lean runtime that such an engine is run by; build it again for each version",
        ),
        ("--refit", rtx and no_driver and options.refit, here),
        ("--stripWeights", rtx and no_driver and options.strip_weights, here),
        (
            "--maxAuxStreams",
            rtx and no_driver and streams > 0,
            f"it assigns streams with the NVIDIA driver only, and here there is {reason}; 0 is possible",
        ),
        (
            "--memPoolSize",
            rtx and any(pool in options.pools for pool in DLA_POOLS),
            "it is built without DLA, so it has no dlaSRAM, dlaLocalDRAM or dlaGlobalDRAM",
        ),
        (
            "--keep time",
            options.keep is Keep.TIME and obstacle(platform.runtime) is not None,
            f"an engine can be timed only where it runs ({obstacle(platform.runtime)})",
        ),
        (
            _FLAGS.get(lacking[0], lacking[0]) if lacking else "",
            bool(lacking),
            f"this version has no {lacking[0] if lacking else ''}",
        ),
    ]


def _has_level(platform: Platform, options: TensorRTOptions) -> bool:
    levels = getattr(platform.module, "HardwareCompatibilityLevel", None)
    return hasattr(levels, options.hardware_compatibility.name)


_FLAGS = {
    "VERSION_COMPATIBLE": "--versionCompatible",
    "STRIP_PLAN": "--stripWeights",
    "REFIT": "--refit",
    "WEIGHT_STREAMING": "--allowWeightStreaming",
}


def keep_by(platform: Platform, options: TensorRTOptions) -> Keep:
    """By what the best build is chosen: as asked, else time where the engine runs here, else kernels."""
    if options.keep is not None:
        return options.keep
    return Keep.KERNELS if obstacle(platform.runtime) else Keep.TIME
