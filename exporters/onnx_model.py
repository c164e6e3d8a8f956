"""``--target onnx``: the simplified graph -> ``model.onnx``, executed here by ONNX Runtime.

``--form plugin`` writes SRU and the fuse as ``scconv::`` nodes with model-local functions in standard
operators: the file runs anywhere, and faster where our kernels are loaded (``scconv_deploy.open`` does that).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from scconv_deploy.artifacts import BuiltArtifact, Json, TracedGraph
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Progress, QuantForm
from scconv_deploy.errors import CapabilityError, InputError, VerificationError
from scconv_deploy.graph.precision import block_types, model_precision
from scconv_deploy.kernels import loader
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv.dense_y1 import BLOCK
from scconv_deploy.scconv.style import GraphStyle

ALWAYS = 2**31
"""More channels per group than any convolution has: the dense form wherever it is possible."""

ARTIFACT = "model.onnx"
FUSED_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
PACKAGES = ("onnx", "onnxruntime", "onnxsim", "onnxscript")


class OnnxExporter:
    """A portable file of standard operators."""

    target = "onnx"
    summary = "portable ONNX file of standard operators; runs in ONNX Runtime"
    dynamic_batch = True
    forms = (Form.STANDARD, Form.PLUGIN)
    # Unsigned activations and signed weights are what VNNI and AMX multiply (U8S8), and a zero point of 0 behind a
    # ReLU lets ONNX Runtime drop the ReLU.
    quantised: Mapping[Precision, QuantForm] = MappingProxyType(
        {Precision.INT8: QuantForm("uint8", outputs=True, rest=(Precision.FP32,))}
    )

    def check(self, config: ExportConfig) -> tuple[str, ...]:
        """Everything this target needs is in the base install; the kernels only make the result faster.

        Raises:
            InputError: ``--form plugin`` in a precision that the operators do not have.
        """
        if config.form is not Form.PLUGIN:
            return ()
        if config.precision not in FUSED_PRECISIONS:
            raise InputError(
                f"--form plugin exists in fp32, fp16 and int8, not in {config.precision.value}; "
                "leave --form out, or use one of those"
            )
        built = loader.instruction_set()
        if built is None:
            return (
                "the fused kernels are not built here: the model is verified on the functions' standard "
                f"operators, and runs on them here ({loader.REBUILD})",
            )
        return (f"the fused kernels run here in their {built} build",)

    def style(self, config: ExportConfig) -> GraphStyle:
        """No ``Where`` (slow in ONNX Runtime on CPU), no Concat of large tensors, whole blocks in every group."""
        fused = config.form is Form.PLUGIN
        # Measured in fp32. In 16 bits the summed weights round once more (digits: top-1 0.9956 under one unit in the
        # last place, where two convolutions keep 1.000), and codes of int8 would share one range.
        dense = BLOCK if config.precision is Precision.FP32 else 0
        return GraphStyle(shared_rest=True, dense_y1_below=dense, fused=fused)

    def candidate_styles(self, config: ExportConfig) -> Mapping[str, GraphStyle]:
        """What ``--autotune`` times beside :meth:`style`: Y1 in one convolution or two, the halves' common term, and
        fewer convolutions. What a block cannot take is written in its other form, and equal forms are timed once."""
        rule = self.style(config)
        return {
            "grouped Y1": replace(rule, dense_y1_below=0),
            "dense Y1": replace(rule, dense_y1_below=ALWAYS),
            "separate branches": replace(rule, shared_rest=False),
            "grouped Y1, separate branches": replace(rule, dense_y1_below=0, shared_rest=False),
            "dense Y1, separate branches": replace(rule, dense_y1_below=ALWAYS, shared_rest=False),
            "three convolutions": replace(rule, cru_convolutions=3),
        }

    def build(
        self, graph: TracedGraph, config: ExportConfig, folder: Path, progress: Progress
    ) -> BuiltArtifact:
        """Write the file; the precision, and that of every block, is read from the file's own types.

        Raises:
            VerificationError: the file just written cannot be read back.
        """
        del progress
        path = folder / ARTIFACT
        path.write_bytes(graph.model.SerializeToString())
        model = _read_back(path)
        return BuiltArtifact(
            files=(path,),
            runtime="onnxruntime",
            precision_built=model_precision(model) or config.precision.value,
            precision_per_block=block_types(model, graph.block_paths),
            tool_versions=self.versions(),
            not_executed=_not_executed(path),
            notes=_notes(config.precision),
            details={"operators": _operators(graph), "nodes": len(graph.model.graph.node)},
        )

    def versions(self) -> Mapping[str, str]:
        """Installed versions of the ONNX tools."""
        found = {}
        for package in PACKAGES:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found


def _read_back(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except (OSError, DecodeError) as error:
        raise VerificationError(f"{path.name} was written but cannot be read back: {error}") from error


def _not_executed(path: Path) -> str | None:
    """Found by opening the file, not by version: a later ONNX Runtime may have the kernels."""
    try:
        with OnnxRunner(path, threads=1):
            return None
    except CapabilityError as error:
        return f"not executed: {error}"
    except InputError:
        return None  # a file that ONNX Runtime refuses for another reason is verify's to judge


def _notes(precision: Precision) -> tuple[str, ...]:
    if precision is not Precision.FP16:
        return ()
    return (
        "ONNX Runtime on CPU computes fp16 operators in fp32 and rounds their results, so what runs here is more "
        "exact than fp16 on a GPU",
    )


def _operators(graph: TracedGraph) -> dict[str, Json]:
    counts: dict[str, int] = {}
    for node in graph.model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return {name: counts[name] for name in sorted(counts)}
