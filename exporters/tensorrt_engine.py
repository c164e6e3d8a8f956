"""``--target trt`` and ``--target trt-rtx``: the simplified graph -> ``model.engine``, and what was built.

The engine is the builder's plan, byte for byte, with nothing in front of it; beside it lies ``model.onnx``,
the exact graph it was built from. The steps are in :mod:`exporters.trt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from exporters.trt import capability, platform
from exporters.trt.build import Plan, build_plan
from exporters.trt.graph import self_contained, serialise
from exporters.trt.layers import Kernel, read_kernels
from exporters.trt.platform import TENSORRT, TENSORRT_RTX, Platform
from exporters.trt.report import is_static, report
from exporters.trt.settings import BuildRequest
from exporters.trt.types import precision_built, roles_built, types_per_block
from scconv_deploy.artifacts import BuiltArtifact, Json, KernelReport, TracedGraph
from scconv_deploy.config import ExportConfig, Form
from scconv_deploy.contracts import Progress
from scconv_deploy.errors import BuildError, InputError
from scconv_deploy.runtime.nvidia_driver import Gpu
from scconv_deploy.runtime.tensorrt import obstacle
from scconv_deploy.scconv.style import GraphStyle

ENGINE = "model.engine"
GRAPH = "model.onnx"


class TensorRTExporter:
    """TensorRT where it and a GPU are here, else TensorRT for RTX ahead of time."""

    target = "trt"
    summary = "TensorRT engine; without a GPU built ahead of time by TensorRT for RTX"
    dynamic_batch = False
    modules: tuple[str, ...] = (TENSORRT, TENSORRT_RTX)

    def check(self, config: ExportConfig) -> tuple[str, ...]:
        """Refuse early what cannot be built; say which TensorRT was taken and why.

        Raises:
            CapabilityError: neither TensorRT can build here; the message holds the line to install one.
            InputError: the form, or precision and compute capability together, cannot be built.
        """
        chosen = platform.choose(self.target)
        if config.form is Form.PLUGIN:
            raise InputError(f"--target {self.target} takes standard operators only; leave out --form plugin")
        capabilities = _capabilities(chosen, config)
        return (f"{chosen.reason}: {', '.join(capabilities)}",)

    def style(self, config: ExportConfig) -> GraphStyle:
        """The form with the fewest kernels, then the fewest bytes.

        The zoo's SCConv-ResNet-50 (224x224, batch 1) through the whole pipeline, FP32, SM89, RTX 1.7.1,
        2026-11-22; kernels and MB moved, counted as :mod:`exporters.trt.report` says (a naive export of a
        like net: 241 and 293.1; the plain ResNet-50: 58 and 217.6):

        ===========  =================  ================
        concat_fuse  merged_y2 = False  merged_y2 = True
        ===========  =================  ================
        False        270, 281.8         270, 283.2
        True         221, 260.6         234, 283.2
        ===========  =================  ================

        In half precision (concat_fuse, merged_y2 = False), with SRU's norm and comparison as a float32 island or
        in the type itself (``gate_in_half``):

        =====  =============  =============  ==================
        type   island         gate in half   plain, naive
        =====  =============  =============  ==================
        fp16   227, 140.9     220, 131.8     57, 109; 234, 160
        bf16   237, 155.9     224, 139.7
        =====  =============  =============  ==================

        The island is taken: it flips no gate (0 of 2 million at each of C = 64 to 512, against 0.002 % in fp16
        and 0.017 % in bf16), and the builder itself warns of a norm in fp16 ("Detected layernorm nodes in FP16"),
        whose accumulation nobody has seen on a GPU here.

        ``where_mask`` changes neither number, for all three gates (the gate is one kernel in both forms);
        ``Where`` needs fewer operations per element.
        """
        del config
        return GraphStyle(where_mask=True, merged_y2=False, concat_fuse=True)

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
        onnx = serialise(self_contained(graph.model))
        named = capabilities if chosen.ahead_of_time else ()
        request = BuildRequest(graph.inputs, named, config.workspace_mib)
        plan = build_plan(chosen, onnx, request, progress)
        kernels, missing = _kernels(chosen, plan)
        measured, unmeasured = _kernel_report(chosen, onnx, graph, request, kernels, progress)
        engine, source = folder / ENGINE, folder / GRAPH
        engine.write_bytes(plan.data)
        source.write_bytes(onnx)
        details: dict[str, Json] = {
            "compute_capabilities": list(capabilities),
            "profile": plan.profile,
            "settings": plan.settings,
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
            notes=(*missing, *unmeasured, *plan.warnings),
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


def _kernel_report(
    chosen: Platform,
    onnx: bytes,
    traced: TracedGraph,
    request: BuildRequest,
    kernels: tuple[Kernel, ...],
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
            fixed = build_plan(chosen, onnx, replace(request, at_optimum=True), progress)
            at_optimum = read_kernels(fixed.layers or "")
        made = report(kernels, traced.block_paths, at_optimum)
        return replace(made, types_per_block=types_per_block(kernels, traced.block_paths)), ()
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
