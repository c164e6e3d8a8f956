"""A build request -> a builder configuration in which every setting was read back.

``set_flag`` and its like never raise: a setting that this version ignores simply stays as it was. So each one
is read back, and a builder that did not take it is an error rather than a surprise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exporters.trt.capability import member
from exporters.trt.platform import Platform
from scconv_deploy.artifacts import Json, TensorSpec
from scconv_deploy.errors import BuildError

MIB = 2**20


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build, besides the graph.

    ``capabilities`` is empty where the builder targets this machine's GPU. ``workspace_mib`` None leaves the
    builder's default. ``at_optimum`` builds for the optimum shapes alone, as if nothing were dynamic.
    """

    inputs: tuple[TensorSpec, ...]
    capabilities: tuple[str, ...] = ()
    workspace_mib: int | None = None
    at_optimum: bool = False


def configure(platform: Platform, config: Any, network: Any, request: BuildRequest) -> dict[str, Json]:
    """Set everything that does not depend on shapes; return what was read back, for the manifest.

    Raises:
        BuildError: the builder did not take a setting.
    """
    module = platform.module
    # Off: TF32 rounds the inputs of FP32 products to 10 bits, which is not the function that was verified.
    config.clear_flag(module.BuilderFlag.TF32)
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    read: dict[str, Json] = {
        "strongly_typed": bool(network.get_flag(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)),
        "tf32": bool(config.get_flag(module.BuilderFlag.TF32)),
        "profiling_verbosity": config.profiling_verbosity.name,
    }
    wanted: dict[str, Json] = {"strongly_typed": True, "tf32": False, "profiling_verbosity": "DETAILED"}
    if request.workspace_mib is not None:
        pool = module.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, request.workspace_mib * MIB)
        read["workspace_bytes"] = config.get_memory_pool_limit(pool)
        wanted["workspace_bytes"] = request.workspace_mib * MIB
    if platform.ahead_of_time:
        config.num_compute_capabilities = len(request.capabilities)
        for index, name in enumerate(request.capabilities):
            config.set_compute_capability(getattr(module.ComputeCapability, member(name)), index)
        count = config.num_compute_capabilities
        read["compute_capabilities"] = [config.get_compute_capability(i).name for i in range(count)]
        wanted["compute_capabilities"] = [member(name) for name in request.capabilities]
    for name, value in wanted.items():
        if read[name] != value:
            raise BuildError(
                f"{platform.product} did not take the setting {name}={value}: it reads back as {read[name]}; "
                "this version cannot build what was asked for"
            )
    return read


def set_shapes(builder: Any, config: Any, network: Any, request: BuildRequest) -> list[Json]:
    """Give dynamic inputs their optimisation profile; return it for the manifest (empty where all is static).

    Raises:
        BuildError: an input is dynamic and has no range, or its range does not fit the graph.
    """
    specs = {spec.name: spec for spec in request.inputs}
    profile = builder.create_optimization_profile()
    described: list[Json] = []
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        spec = specs.get(tensor.name)
        if spec is None or not (spec.minimum and spec.optimum and spec.maximum):
            raise BuildError(
                f"input '{tensor.name}' has dynamic axes ({_written(shape)}) and no range; "
                "give --minShapes, --optShapes and --maxShapes for it"
            )
        _must_fit(spec, shape)
        if request.at_optimum:
            tensor.shape = spec.optimum
            continue
        profile.set_shape(spec.name, spec.minimum, spec.optimum, spec.maximum)
        if [tuple(s) for s in profile.get_shape(spec.name)] != [spec.minimum, spec.optimum, spec.maximum]:
            raise BuildError(f"the builder did not take the range of input '{spec.name}'")
        described.append(
            {
                "input": spec.name,
                "min": list(spec.minimum),
                "opt": list(spec.optimum),
                "max": list(spec.maximum),
            }
        )
    if described and config.add_optimization_profile(profile) < 0:
        raise BuildError(f"the builder refused the optimisation profile {described}")
    return described


def _must_fit(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    for label, given in (("minimum", spec.minimum), ("optimum", spec.optimum), ("maximum", spec.maximum)):
        fits = len(given) == len(shape) and all(d in (-1, g) for d, g in zip(shape, given, strict=True))
        if not fits:
            raise BuildError(
                f"the {label} shape {_written(given)} of input '{spec.name}' does not fit the graph, "
                f"where it is {_written(shape)} (? is free)"
            )


def _written(shape: tuple[int, ...]) -> str:
    return "x".join("?" if d == -1 else str(d) for d in shape)
