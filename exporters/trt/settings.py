"""A build request -> a builder configuration in which every setting was read back.

``set_flag`` and its like never raise: a setting that this version ignores simply stays as it was. So each one
is read back, and a builder that did not take it is an error rather than a surprise. What is known beforehand
not to work is refused before (:mod:`exporters.trt.refusals`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from exporters.trt.capability import member
from exporters.trt.platform import Platform
from scconv_deploy.artifacts import Json, TensorSpec
from scconv_deploy.errors import BuildError
from scconv_deploy.tensorrt_options import Compatibility, Pool, TensorRTOptions

POOLS = {
    Pool.WORKSPACE: "WORKSPACE",
    Pool.DLA_SRAM: "DLA_MANAGED_SRAM",
    Pool.DLA_LOCAL_DRAM: "DLA_LOCAL_DRAM",
    Pool.DLA_GLOBAL_DRAM: "DLA_GLOBAL_DRAM",
    Pool.TACTIC_SHARED_MEM: "TACTIC_SHARED_MEMORY",
}
"""Members of ``MemoryPoolType``."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build, besides the graph.

    ``capabilities`` is empty where the builder targets this machine's GPU. ``at_optimum`` builds for the optimum
    shapes alone, as if nothing were dynamic. ``plugins`` are functions by name (``"package.module:function"``),
    called with the TensorRT module before the graph is parsed (:mod:`exporters.trt.registration`).
    ``block_paths`` are the SCConv blocks, for messages.
    """

    inputs: tuple[TensorSpec, ...]
    capabilities: tuple[str, ...] = ()
    options: TensorRTOptions = field(default_factory=TensorRTOptions)
    at_optimum: bool = False
    plugins: tuple[str, ...] = ()
    block_paths: tuple[str, ...] = ()


class _Settings:
    """What was asked and what reads back, side by side."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.read: dict[str, Json] = {}

    def expect(self, name: str, read: Json, wanted: Json) -> None:
        """Remember what reads back; BuildError where it is not what was wanted."""
        if read != wanted:
            raise BuildError(
                f"{self._platform.product} did not take the setting {name}={wanted}: it reads back as {read}; "
                "this version cannot build what was asked for"
            )
        self.read[name] = read


def configure(platform: Platform, config: Any, network: Any, request: BuildRequest) -> dict[str, Json]:
    """Set everything that does not depend on shapes; return what was read back, for the manifest.

    Raises:
        BuildError: the builder did not take a setting.
    """
    module, options = platform.module, request.options
    settings = _Settings(platform)
    strongly = module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    settings.expect("strongly_typed", bool(network.get_flag(strongly)), True)
    # Always set, either way: TensorRT's own default is on, which rounds the inputs of FP32 products to 10 bits
    # of mantissa, and that is not the function that was verified.
    flag = module.BuilderFlag.TF32
    (config.set_flag if options.tf32 else config.clear_flag)(flag)
    settings.expect("tf32", bool(config.get_flag(flag)), options.tf32)
    verbosity = options.profiling_verbosity.name
    config.profiling_verbosity = getattr(module.ProfilingVerbosity, verbosity)
    settings.expect("profiling_verbosity", config.profiling_verbosity.name, verbosity)
    for name in flags(options):
        flag = getattr(module.BuilderFlag, name)
        config.set_flag(flag)
        settings.expect(name.lower(), bool(config.get_flag(flag)), True)
    for pool, size in options.pools.items():
        kind = getattr(module.MemoryPoolType, POOLS[pool])
        config.set_memory_pool_limit(kind, size)
        settings.expect(f"{pool.name.lower()}_bytes", config.get_memory_pool_limit(kind), size)
    _numbers(module, config, options, settings)
    if platform.ahead_of_time:
        config.num_compute_capabilities = len(request.capabilities)
        for index, capability in enumerate(request.capabilities):
            config.set_compute_capability(getattr(module.ComputeCapability, member(capability)), index)
        count = config.num_compute_capabilities
        read: list[Json] = [config.get_compute_capability(i).name for i in range(count)]
        settings.expect("compute_capabilities", read, [member(c) for c in request.capabilities])
    return settings.read


def flags(options: TensorRTOptions) -> tuple[str, ...]:
    """Members of ``BuilderFlag`` that the options turn on, TF32 apart."""
    asked = {
        "VERSION_COMPATIBLE": options.version_compatible,
        "STRIP_PLAN": options.strip_weights,
        "REFIT": options.refit,
        "WEIGHT_STREAMING": options.weight_streaming,
    }
    return tuple(name for name, given in asked.items() if given)


def _numbers(module: Any, config: Any, options: TensorRTOptions, settings: _Settings) -> None:
    """Settings that are attributes: assigned, then read. Left alone where nothing was asked: on RTX even
    reading the hardware compatibility level is logged as an error."""
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
        settings.expect(
            "builder_optimization_level", config.builder_optimization_level, options.optimization_level
        )
    if options.max_aux_streams is not None:
        config.max_aux_streams = options.max_aux_streams
        settings.expect("max_aux_streams", config.max_aux_streams, options.max_aux_streams)
    if options.hardware_compatibility is not Compatibility.NONE:
        name = options.hardware_compatibility.name
        config.hardware_compatibility_level = getattr(module.HardwareCompatibilityLevel, name)
        settings.expect("hardware_compatibility_level", config.hardware_compatibility_level.name, name)
