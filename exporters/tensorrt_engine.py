"""``--target trt`` and ``--target trt-rtx``: the simplified graph -> ``model.engine``, and what was built.

The engine is the builder's plan, byte for byte, with nothing in front of it; beside it lies ``model.onnx``,
the exact graph it was built from. The steps are in :mod:`exporters.trt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from onnx import ModelProto

from exporters.trt import capability, cards, platform, plugin, refusals
from exporters.trt.attribution import cost_per_module
from exporters.trt.build import Plan
from exporters.trt.builds import Best, build_several, judge_of
from exporters.trt.forms import graph_style
from exporters.trt.graph import self_contained, serialise
from exporters.trt.layers import Kernel, read_kernels
from exporters.trt.linear_as_convolution import linear_as_convolution
from exporters.trt.platform import TENSORRT, TENSORRT_RTX, Platform
from exporters.trt.plugin_graph import plugin_graph
from exporters.trt.process import BuildProcess, building
from exporters.trt.report import is_static, report
from exporters.trt.roofline import roofline
from exporters.trt.settings import BuildRequest
from exporters.trt.types import precision_built, roles_built, types_per_block
from scconv_deploy.artifacts import BuiltArtifact, Json, KernelReport, TracedGraph
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Progress, QuantForm
from scconv_deploy.errors import BuildError
from scconv_deploy.runtime.nvidia_driver import Gpu
from scconv_deploy.runtime.tensorrt import obstacle
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tensorrt_options import Keep, Verbosity

ENGINE = "model.engine"
GRAPH = "model.onnx"


class TensorRTExporter:
    """TensorRT where it and a GPU are here, else TensorRT for RTX ahead of time."""

    target = "trt"
    summary = "TensorRT engine; without a GPU built ahead of time by TensorRT for RTX"
    dynamic_batch = False
    # fp16 around the convolutions: half the bytes of fp32.
    quantised: Mapping[Precision, QuantForm] = MappingProxyType(
        {
            Precision.INT8: QuantForm("int8", outputs=False, rest=(Precision.FP16, Precision.FP32)),
            Precision.FP8: QuantForm("float8_e4m3fn", outputs=False, rest=(Precision.FP16, Precision.FP32)),
        }
    )
    takes_tensorrt_options = True
    forms = (Form.STANDARD, Form.PLUGIN)
    modules: tuple[str, ...] = (TENSORRT, TENSORRT_RTX)

    def check(self, config: ExportConfig) -> tuple[str, ...]:
        """Refuse early what cannot be built; say which TensorRT was taken and why.

        Raises:
            CapabilityError: neither TensorRT can build here (the message holds the line to install one), or it
                cannot honour an option.
            InputError: the form, or precision and compute capability together, cannot be built.
        """
        chosen = platform.choose(self.target)
        capabilities = _capabilities(chosen, config)
        cards.choose(
            config.tensorrt.card, capabilities
        )  # an unknown card is refused before anything is built
        plugins = plugin.check(chosen, config.precision) if config.form is Form.PLUGIN else ()
        return (
            f"{chosen.reason}: {', '.join(capabilities)}",
            *plugins,
            *refusals.refuse(chosen, config.tensorrt),
        )

    def style(self, config: ExportConfig) -> GraphStyle:
        """The forms with the fewest kernels and bytes, measured: :mod:`exporters.trt.forms`."""
        return graph_style(config)

    def build(
        self, graph: TracedGraph, config: ExportConfig, folder: Path, progress: Progress
    ) -> BuiltArtifact:
        """Write ``model.engine`` and ``model.onnx`` into ``folder``.

        Raises:
            BuildError: the parser or the builder refused; the message names the node where one is known.
            CapabilityError, InputError: as :meth:`check`.
        """
        chosen = platform.choose(self.target)
        capabilities = _capabilities(chosen, config)
        with_plugins = config.form is Form.PLUGIN
        model = _for_capabilities(self_contained(graph.model, with_plugins), config, capabilities)
        onnx = serialise(plugin_graph(model) if with_plugins else model)
        named = capabilities if chosen.ahead_of_time else ()
        registered = (plugin.REGISTER,) if with_plugins else ()
        request = BuildRequest(
            graph.inputs, named, config.tensorrt, plugins=registered, block_paths=graph.block_paths
        )
        refusals.refuse(chosen, config.tensorrt)
        with building(chosen, folder) as process:
            best = _best(chosen, process, onnx, request, progress)
            plan, explained = _explained(process, onnx, request, best.plan, progress)
            kernels, missing = _kernels(chosen, plan)
            card = cards.choose(config.tensorrt.card, capabilities)
            measured, unmeasured = _kernel_report(
                chosen, process, onnx, graph, request, kernels, card, progress
            )
        engine, source = folder / ENGINE, folder / GRAPH
        engine.write_bytes(plan.data)
        # With plugins, the file is the graph before its exact rewrite: its blocks can still be cut out and judged.
        source.write_bytes(serialise(model) if with_plugins else onnx)
        details: dict[str, Json] = {
            "compute_capabilities": list(capabilities),
            "profile": plan.profile,
            "settings": plan.settings,
            "builds": best.spread,
            "build_seconds": round(plan.seconds, 3),
            "engine_bytes": len(plan.data),
            "builder": chosen.product,
        }
        return BuiltArtifact(
            files=(engine, source),
            runtime=chosen.runtime,
            precision_built=precision_built(kernels) if kernels else config.precision.value,
            tool_versions={chosen.module.__name__: platform.version_of(chosen.module)},
            not_executed=_not_executed(chosen, capabilities),
            kernel_report=measured,
            details=details,
            notes=(*filter(None, (best.note, explained)), *missing, *unmeasured, *plan.warnings),
            precision_per_block=roles_built(kernels, graph.block_paths) if kernels else {},
        )

    def versions(self) -> Mapping[str, str]:
        """Installed versions of what this target can build with."""
        return platform.versions(*self.modules)


class TensorRTRTXExporter(TensorRTExporter):
    """Always TensorRT for RTX, ahead of time."""

    target = "trt-rtx"
    summary = "TensorRT for RTX engine, built ahead of time for named compute capabilities"
    modules = (TENSORRT_RTX,)


def _capabilities(chosen: Platform, config: ExportConfig) -> tuple[str, ...]:
    """What the plan is for: named compute capabilities ahead of time, else this machine's GPU."""
    if isinstance(chosen.gpu, Gpu) and not chosen.ahead_of_time:
        return capability.only_here(config.compute_capabilities, chosen.gpu)
    return capability.choose(config.compute_capabilities, config.precision, chosen.module)


def _for_capabilities(model: ModelProto, config: ExportConfig, capabilities: tuple[str, ...]) -> ModelProto:
    """Turing has no FP32 matrix product, but the convolution that computes the same."""
    if capability.TURING not in capabilities or config.precision is not Precision.FP32:
        return model
    return linear_as_convolution(model)


def _kernels(chosen: Platform, plan: Plan) -> tuple[tuple[Kernel, ...], tuple[str, ...]]:
    """The engine's kernels, or a note that says why they are not known: a log must not cost the engine."""
    if plan.layers is None:
        return (), (f"{chosen.product} wrote no layer log, so there is no kernel report",)
    try:
        kernels = read_kernels(plan.layers)
        precision_built(kernels)  # refuses types this version does not know
    except ValueError as error:
        return (), (_unreadable(chosen, error),)
    return kernels, ()


def _best(
    chosen: Platform, process: BuildProcess, onnx: bytes, request: BuildRequest, progress: Progress
) -> Best:
    """The plan: the only one, or the best of several by the criterion asked for."""
    count = request.options.builds
    if count == 1:
        return Best(process.plan(onnx, request, progress), {}, "")
    keep = refusals.keep_by(chosen, request.options)
    if keep in (Keep.KERNELS, Keep.BYTES):  # which are read from what only a detailed build says
        request = _detailed(request)
    judge = judge_of(keep, chosen.runtime, request.inputs, process.scratch)
    return build_several(count, keep, lambda: process.plan(onnx, request, progress), judge)


def _explained(
    process: BuildProcess, onnx: bytes, request: BuildRequest, plan: Plan, progress: Progress
) -> tuple[Plan, str]:
    """The plan with its layer log. A build with less than detailed verbosity logs none, so one is made for it."""
    if request.options.profiling_verbosity is Verbosity.DETAILED:
        return plan, ""
    described = process.plan(onnx, _detailed(request), progress)
    return replace(plan, layers=described.layers), (
        "the kernel report is that of a second build with detailed profiling verbosity, which the engine lacks"
    )


def _detailed(request: BuildRequest) -> BuildRequest:
    return replace(request, options=replace(request.options, profiling_verbosity=Verbosity.DETAILED))


def _kernel_report(
    chosen: Platform,
    process: BuildProcess,
    onnx: bytes,
    traced: TracedGraph,
    request: BuildRequest,
    kernels: tuple[Kernel, ...],
    card: cards.Card | None,
    progress: Progress,
) -> tuple[KernelReport | None, tuple[str, ...]]:
    """The report, or a note that says why there is none.

    Bytes need every dimension, and a dynamic engine has free ones. So it is built once more for its optimum
    shapes alone (0.05 s for a small net, 1.5 s for SCConv-ResNet-50); only bytes are read from that build.
    """
    if not kernels:
        return None, ()
    try:
        at_optimum = None
        if not is_static(kernels):
            fixed = process.plan(onnx, _detailed(replace(request, at_optimum=True)), progress)
            at_optimum = read_kernels(fixed.layers or "")
        made = report(kernels, traced.block_paths, at_optimum)
        return replace(
            made,
            types_per_block=types_per_block(kernels, traced.block_paths),
            modules=cost_per_module(kernels, traced.block_paths, at_optimum),
            roofline=None if card is None else roofline(at_optimum or kernels, card),
        ), ()
    except (ValueError, BuildError) as error:
        return None, (_unreadable(chosen, error),)


def _unreadable(chosen: Platform, error: Exception) -> str:
    return f"the layer log of {chosen.product} could not be read, so there is no kernel report: {error}"


def _not_executed(chosen: Platform, capabilities: tuple[str, ...]) -> str | None:
    """None where this machine can run the engine, else the reason as one sentence."""
    reason = obstacle(chosen.runtime)
    if reason is None and isinstance(chosen.gpu, Gpu) and chosen.gpu.compute_capability not in capabilities:
        reason = f"this machine's {chosen.gpu.name} is {chosen.gpu.compute_capability}"
    if reason is None:
        return None
    how = "built ahead of time" if chosen.ahead_of_time else "built"
    return f"{how} for {', '.join(capabilities)}; not executed: {reason}"
