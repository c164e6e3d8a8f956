"""ONNX bytes and a request -> the plan's bytes, the layer log, and every setting as it was read back.

One code path for TensorRT and TensorRT for RTX. The network is always strongly typed: precision is a property
of the graph, and the builder may not change it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from exporters.trt.logger import Messages, recording
from exporters.trt.platform import Platform
from exporters.trt.settings import BuildRequest, configure, set_shapes
from exporters.trt.watch import BuildState, monitor, run_watched
from scconv_deploy.artifacts import Json
from scconv_deploy.contracts import Progress
from scconv_deploy.errors import BuildError, CapabilityError


@dataclass(frozen=True, slots=True)
class Plan:
    """A built engine. ``layers`` is the builder's ``Layers:`` message, None where it wrote none."""

    data: bytes
    layers: str | None
    settings: dict[str, Json]
    profile: list[Json]
    seconds: float
    warnings: tuple[str, ...]


def build_plan(platform: Platform, onnx: bytes, request: BuildRequest, progress: Progress) -> Plan:
    """Parse, set the profile and the settings, build.

    Args:
        platform: which TensorRT.
        onnx: a serialised model that went through :func:`exporters.trt.graph.self_contained`.
        request: shapes, compute capabilities and limits.
        progress: hears how far the build is; its KeyboardInterrupt cancels the build.

    Raises:
        BuildError: the parser or the builder refused; the message names the node where one is known.
        CapabilityError: the builder cannot even start on this machine.
    """
    module = platform.module
    with recording(module) as (logger, messages):
        try:
            builder = module.Builder(logger)
        except (TypeError, RuntimeError) as error:  # pybind11: "factory function returned nullptr"
            said = messages.errors[0] if messages.errors else str(error)
            raise CapabilityError(
                f"{platform.product} cannot start its builder here: {_tidy(said)}"
            ) from error
        network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = module.OnnxParser(network, logger)
        if not parser.parse(onnx):
            raise _refused_by_parser(platform, parser)
        config = builder.create_builder_config()
        settings = configure(platform, config, network, request)
        profile = set_shapes(builder, config, network, request)
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
            raise _refused_by_builder(platform, messages, request)
        return Plan(
            bytes(built), messages.layers(), settings, profile, seconds, tuple(map(_tidy, messages.warnings))
        )


def _label(platform: Platform, request: BuildRequest) -> str:
    if request.at_optimum:
        return "building again at the optimum shapes, for the kernel report"
    return f"building with {platform.product}"


def _refused_by_parser(platform: Platform, parser: Any) -> BuildError:
    """Every error the parser kept, those that name a node first."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    named = [e for e in errors if e.node_name() or e.node_operator()]
    sentences = []
    for error in named or errors:
        node = f"node '{error.node_name()}' ({error.node_operator()}): " if error in named else ""
        sentences.append(node + _reason(error.desc()))
    if not sentences:
        sentences.append("it gave no reason")
    return BuildError(f"{platform.product} cannot import the graph: {'; '.join(sentences)}")


def _reason(description: str) -> str:
    # For an operator it has no converter for, the parser's description is its failed check: "false".
    if description in ("", "false"):
        return "this operator is not supported"
    return description


def _refused_by_builder(platform: Platform, messages: Messages, request: BuildRequest) -> BuildError:
    text = " ".join(_tidy(e) for e in messages.errors) or "it gave no reason"
    if "OutOfMemory" in text or "workspace" in text.lower():
        size = re.search(r"size was (\d+)", text)
        needs = f" (it asked for {int(size[1]) / 2**20:.0f} MiB)" if size else ""
        limit = (
            "the builder's default"
            if request.workspace_mib is None
            else f"a workspace of {request.workspace_mib} MiB"
        )
        return BuildError(
            f"{platform.product} cannot build the engine within {limit}{needs}; give a larger --workspace, "
            f"or smaller maximum shapes"
        )
    return BuildError(f"{platform.product} refused the graph: {text}")


def _tidy(message: str) -> str:
    """Without the source location at the end, which says nothing to a user."""
    return re.sub(r"\s*In \w+ at \S+:\d+\)?$", "", message.strip()).removesuffix("(")
