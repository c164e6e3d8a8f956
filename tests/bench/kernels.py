"""Kernels and bytes of TensorRT engines: naive export, ours and the plain twin, by precision; built, never run.

The zoo's SCConv-ResNet-50 (batch 1, 224x224) is built ahead of time for SM89: exported by ``torch.onnx.export`` with
its defaults (``naive``; in half precision the whole module cast, which also breaks the gate), through our pipeline
in the default form and in both merged forms (``ours``), and as plain ResNet-50 (``plain``). Counts are those of
:mod:`exporters.trt.report`; the roofline times are estimates from public figures.

    python -m tests.bench.kernels
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from exporters.tensorrt_engine import TensorRTRTXExporter
from exporters.trt.forms import graph_style
from scconv_deploy.artifacts import BuiltArtifact, Json, SourceModel, TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig, Precision, default_opset
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import BuildError
from scconv_deploy.inputs import example_tensors, small_shape
from scconv_deploy.quiet import quiet_exporter
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.typed import TORCH_TYPES
from scconv_deploy.stages import lower, recognise, simplify, trace
from tests.bench.machine import write_results

SHAPE = (1, 3, 224, 224)
CAPABILITY, CARD = "sm_89", "RTX 4090"
INPUT = TensorSpec("x", "float32", SHAPE, SHAPE, SHAPE, SHAPE)
HALF_AND_WHOLE = (Precision.FP32, Precision.FP16, Precision.BF16)


def main() -> None:
    """Build all, write ``results/kernels.json``, print its path."""
    torch.set_num_threads(1)
    found: dict[str, Json] = {}
    for precision in HALF_AND_WHOLE:
        config = configuration(precision)
        default = graph_style(config)
        forms = {f"ours, {n} convolutions": replace(default, cru_convolutions=n) for n in (3, 2)}
        rows: dict[str, Json] = {"naive": _naive_figures(precision)}
        rows |= {name: _figures(engine(scconv_resnet50(), precision, style)) for name, style in forms.items()}
        rows["plain ResNet-50"] = _figures(engine(plain_resnet50(), precision, default))
        rows["default"] = f"ours, {default.cru_convolutions} convolutions"
        found[precision.value] = rows
    path = write_results(
        "kernels",
        {
            "what": "kernels and bytes of TensorRT for RTX engines, built ahead of time and not executed; "
            "roofline times are estimates from public figures",
            "network": "SCConv-ResNet-50 of the zoo, untrained",
            "shape": list(SHAPE),
            "compute_capability": CAPABILITY,
            "builder": TensorRTRTXExporter().versions()["tensorrt_rtx"],
            "engines": found,
        },
    )
    print(path)


def configuration(precision: Precision) -> ExportConfig:
    """As the command line would have it for batch 1."""
    return ExportConfig(
        "trt-rtx", precision=precision, opset=default_opset(precision), compute_capabilities=(CAPABILITY,)
    )


def scconv_resnet50() -> nn.Module:
    """The zoo's default, seeded."""
    torch.manual_seed(0)
    return zoo.build("scconv_resnet50").eval()


def plain_resnet50() -> nn.Module:
    """The network it replaces."""
    torch.manual_seed(0)
    return zoo.build("resnet50").eval()


def engine(net: nn.Module, precision: Precision, style: GraphStyle) -> BuiltArtifact:
    """Through our pipeline's own stages, up to the engine."""
    config = configuration(precision)
    source = SourceModel(net, "bench", "module", None, None, (INPUT,))
    small = example_tensors((INPUT,), 0, {"x": small_shape(INPUT)})
    lowered = lower.run(source, recognise.run(net, seed=0), style, small, (INPUT,), precision)
    return build(simplify.run(trace.run(lowered, (INPUT,), config), config), precision)


def build(graph: TracedGraph, precision: Precision) -> BuiltArtifact:
    """One graph for SM89."""
    config = configuration(precision)
    config = replace(config, tensorrt=replace(config.tensorrt, card=CARD))
    with tempfile.TemporaryDirectory() as folder:
        return TensorRTRTXExporter().build(graph, config, Path(folder), Silence())


def _naive_figures(precision: Precision) -> Json:
    """Figures, or why there are none: in bf16 torch.onnx leaves folded convolution weights float32."""
    try:
        return _figures(_naive(scconv_resnet50(), precision))
    except BuildError as error:
        return {"refused": str(error)}


def _naive(net: nn.Module, precision: Precision) -> BuiltArtifact:
    """What a user gets from PyTorch alone: the module cast as a whole, exported and built."""
    dtype = TORCH_TYPES[precision]
    with torch.no_grad(), quiet_exporter(), trace.tensor_aware_sum():
        # Without the tensor-aware sum this takes 68 to 96 s; the constants it folds to are the same.
        program = torch.onnx.export(
            net.to(dtype),
            (torch.zeros(SHAPE, dtype=dtype),),
            dynamo=True,
            input_names=["x"],
            opset_version=default_opset(precision),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    model: onnx.ModelProto = program.model_proto
    spec = replace(INPUT, dtype=str(np.dtype(np.float16)) if precision is Precision.FP16 else precision.value)
    return build(TracedGraph(model, (spec,), (), default_opset(precision), ()), precision)


def _figures(built: BuiltArtifact) -> Json:
    report = built.kernel_report
    if report is None or report.roofline is None:
        raise RuntimeError(f"no kernel report: {built.notes}")
    per_block: list[Json] = [*sorted(set(report.kernels_per_block.values()))]
    return {
        "kernels": report.kernels,
        "megabytes_moved": round(report.bytes_moved / 1e6, 1),
        "layout_transposes": report.layout_transposes,
        "engine_megabytes": round(float(str(built.details["engine_bytes"])) / 1e6, 1),
        "per_block": per_block,
        "roofline_us": {CARD: report.roofline.time_us},
        "gflop": round(report.roofline.flops / 1e9, 2),
    }


if __name__ == "__main__":
    main()
