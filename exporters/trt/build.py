"""ONNX bytes and a request -> the plan's bytes, the layer log, and every setting as it was read back.

One code path for TensorRT and TensorRT for RTX. The network is always strongly typed: precision is a property
of the graph, and the builder may not change it. This runs in the process that builds
(:mod:`exporters.trt.child`); exporters call :mod:`exporters.trt.process`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exporters.trt import timing_cache
from exporters.trt.diagnosis import cannot_start, refused_by_builder, refused_by_parser, tidy
from exporters.trt.logger import recording
from exporters.trt.platform import Platform
from exporters.trt.profiles import set_shapes
from exporters.trt.registration import register
from exporters.trt.settings import BuildRequest, configure
from exporters.trt.watch import BuildState, monitor, run_watched
from scconv_deploy.artifacts import Json
from scconv_deploy.contracts import Progress

PARSING = "importing the graph"


@dataclass(frozen=True, slots=True)
class Plan:
    """A built engine. ``layers`` is the builder's ``Layers:`` message, None where it wrote none; ``profile``
    holds one list per optimisation profile, empty where all is static."""

    data: bytes
    layers: str | None
    settings: dict[str, Json]
    profile: list[Json]
    seconds: float
    warnings: tuple[str, ...]


def build_plan(
    platform: Platform,
    onnx: bytes,
    request: BuildRequest,
    progress: Progress,
    heard: Callable[[str], None] | None = None,
) -> Plan:
    """Register plugins, parse, set the settings and the profiles, build.

    Args:
        platform: which TensorRT.
        onnx: a serialised model that went through :func:`exporters.trt.graph.self_contained`.
        request: shapes, compute capabilities, options and plugins.
        progress: hears how far the build is; its KeyboardInterrupt cancels the build.
        heard: told every message of the builder at once, for the case that this process dies.

    Raises:
        BuildError: the parser or the builder refused; the message names the node where one is known.
        CapabilityError: the builder cannot even start on this machine, or needs what is not here.
    """
    module = platform.module
    with recording(module, heard) as (logger, messages):
        try:
            builder = module.Builder(logger)
        except (TypeError, RuntimeError) as error:  # pybind11: "factory function returned nullptr"
            raise cannot_start(platform, messages.errors[0] if messages.errors else str(error)) from error
        plugins = register(request.plugins, module)

        def empty() -> Any:
            return builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))

        progress.update(PARSING)
        network = empty()
        parser = module.OnnxParser(network, logger)
        if not parser.parse(onnx):

            def fresh() -> tuple[Any, Any]:
                other = empty()
                return other, module.OnnxParser(other, logger)

            raise refused_by_parser(platform, parser, fresh, onnx, request)
        config = builder.create_builder_config()
        settings = configure(platform, config, network, request)
        profile = set_shapes(builder, config, network, request)
        cache_file = request.options.timing_cache
        cache = None if cache_file is None else timing_cache.attach(config, cache_file)
        state = BuildState()
        if hasattr(config, "progress_monitor"):
            config.progress_monitor = monitor(module, state)
        started = time.perf_counter()
        built = run_watched(
            lambda: builder.build_serialized_network(network, config),
            state,
            _label(platform, request),
            progress,
        )
        seconds = time.perf_counter() - started
        if built is None:
            raise refused_by_builder(platform, messages.errors, request)
        if cache_file is not None:
            timing_cache.save(config, cache, cache_file)
            settings["timing_cache"] = str(cache_file)
        del plugins  # they had to outlive the build
        return Plan(
            bytes(built), messages.layers(), settings, profile, seconds, tuple(map(tidy, messages.warnings))
        )


def _label(platform: Platform, request: BuildRequest) -> str:
    if request.at_optimum:
        return "building again at the optimum shapes, for the kernel report"
    return f"building with {platform.product}"
