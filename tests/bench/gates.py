"""How many SRU gates decide otherwise in half precision: naive forms against the exact ones, and what it costs.

Teacher-forced per block, in true half arithmetic (torch, rounding after every operator; never ONNX Runtime,
which computes 16-bit types in float32 on CPU), against float64 on the same rounded inputs:

* forms: ``sigmoid`` as the paper writes it in the 16-bit type, ``sign`` (exact, all in the 16-bit type), and
  ``island`` (exact, norm and comparison in float32); on single blocks of 64 to 512 channels and on the digits
  model's own blocks with its test images, next to PyTorch's own module in that type;
* a network of the zoo with 64 to 512 channels (BatchNorm statistics of its own inputs, weights untrained),
  block by block on its own activations;
* digits end to end: top-1 agreement with PyTorch in fp32, fp16 and bf16; in fp32 the largest error of ONNX
  Runtime against float64 and against PyTorch, beside that of the naive ``torch.onnx.export``, on the test
  images and on random inputs.

Where a form gives no rate, ``<form>_failed`` says why: F1's eps of 1e-10 is 0 in float16, so that its literal
form divides by nothing where a map is constant.

    python -m tests.bench.gates
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scconv_deploy.artifacts import Json, LoweredModel, SourceModel, TensorSpec, TracedGraph
from scconv_deploy.bench.naive import naive_export
from scconv_deploy.config import Budgets, ExportConfig, Precision, default_opset, shape_ranges
from scconv_deploy.inputs import UNBOUNDED, example_tensors, settle, small_shape
from scconv_deploy.interpret.runner import TorchRunner
from scconv_deploy.parity import gates
from scconv_deploy.parity.budgets import settle as limits_of
from scconv_deploy.parity.cases import read_samples
from scconv_deploy.parity.piecewise import check_pieces
from scconv_deploy.parity.reference import Reference
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference import scconv
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import load, lower, recognise, simplify, trace
from tests.bench.machine import write_results

DIGITS = Path(__file__).parents[2] / "samples" / "digits"
FORMS = {
    "sigmoid": GraphStyle(literal_gate=True),
    "sign": GraphStyle(gate_in_half=True),
    "island": GraphStyle(),
}
CHANNELS = (64, 128, 256, 512)
FAMILIES = ("paper", "F1", "F3")
ZOO_FAMILIES = ("F1", "F3")
ZOO, ZOO_SIDE, ZOO_IMAGES, CALIBRATION = "scconv_resnet18", 64, 4, 10
GATES = 2**20
"""Gates per block: four times what an export looks at."""
RANDOM = 2000
"""Random inputs of the digits model: standard normal, where its own images lie in [0, 1]."""


def main() -> None:
    """Measure, write ``results/gates.json``, print its path."""
    torch.set_num_threads(1)
    gates.GATES = GATES
    blocks = [_single(family, channels) for family in FAMILIES for channels in CHANNELS]
    path = write_results(
        "gates",
        {
            "what": "share of SRU gates that decide otherwise than float64 on the same inputs, teacher-forced, "
            "true half arithmetic in torch; at least a million gates per block",
            "single_blocks": blocks,
            "zoo": [_zoo(family) for family in ZOO_FAMILIES],
            "digits": _digits(),
        },
    )
    print(path)


def _single(family: str, channels: int) -> Json:
    """One block with weights as training leaves them (gamma about 1, small betas)."""
    torch.manual_seed(0)
    block = scconv(family, channels).eval()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.endswith(("gamma", "weight")) and parameter.ndim != 4:
                parameter.normal_(1.0, 0.2)
            elif parameter.ndim != 4:
                parameter.normal_(0.0, 0.1)
    size = 14
    one = (1, channels, size, size)
    top = (UNBOUNDED, channels, size, size)
    spec = TensorSpec("x", "float32", ("n", channels, size, size), one, one, top)
    x = torch.relu(torch.randn(4, channels, size, size)).numpy()
    found = _forms(
        SourceModel(nn.Sequential(block).eval(), "block", "module", None, None, (spec,)), (spec,), x
    )
    return {"family": family, "channels": channels, "flip_rate": found}


def _zoo(family: str) -> Json:
    """Every block of one zoo network on its own activations, and the worst rate of each form."""
    torch.manual_seed(0)
    net = zoo.build(ZOO, family=family, num_classes=10)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim not in (2, 4) and name.endswith(("gamma", "weight")):
                parameter.normal_(1.0, 0.2)
        for _ in range(CALIBRATION):
            net(torch.randn(8, 3, ZOO_SIDE, ZOO_SIDE))
    one = (1, 3, ZOO_SIDE, ZOO_SIDE)
    spec = TensorSpec("x", "float32", ("n", *one[1:]), one, one, (UNBOUNDED, *one[1:]))
    x = torch.randn(ZOO_IMAGES, *one[1:]).numpy()
    found = _forms(SourceModel(net.eval(), ZOO, "module", None, None, (spec,)), (spec,), x)
    return {"network": ZOO, "side": ZOO_SIDE, "family": family, "worst": _worst(found), "flip_rate": found}


def _worst(found: Mapping[str, Json]) -> dict[str, Json]:
    """Precision and form -> the highest rate of all blocks."""
    worst: dict[str, Json] = {}
    for precision, rates in found.items():
        for form, by_block in rates.items() if isinstance(rates, dict) else ():
            if isinstance(by_block, dict) and not form.endswith("_failed"):
                numbers = [r for r in by_block.values() if isinstance(r, float)]
                worst[f"{precision} {form}"] = max(numbers, default=None)
    return worst


def _forms(source: SourceModel, inputs: tuple[TensorSpec, ...], x: np.ndarray) -> dict[str, Json]:
    recognition = recognise.run(source.module, seed=0)
    small = example_tensors(inputs, 0, {s.name: small_shape(s) for s in inputs})
    found: dict[str, Json] = {}
    for precision in (Precision.FP16, Precision.BF16):
        rates: dict[str, Json] = {}
        for form, style in FORMS.items():
            lowered = lower.run(source, recognition, style, small, inputs, precision)
            rates |= _rates(lowered, _graph(lowered, inputs, precision), x, form)
        found[precision.value] = rates
    return found


def _graph(lowered: LoweredModel, inputs: tuple[TensorSpec, ...], precision: Precision) -> TracedGraph:
    config = ExportConfig("onnx", precision=precision, opset=default_opset(precision))
    return simplify.run(trace.run(lowered, inputs, config), config)


def _rates(lowered: LoweredModel, graph: TracedGraph, x: np.ndarray, form: str) -> dict[str, Json]:
    names = [o.name for o in graph.outputs]
    reference = Reference(lowered.reference, graph.inputs, names)
    truth = Reference(lowered.reference, graph.inputs, names, torch.float64)
    settled = limits_of(lowered.precision, Budgets())
    checks = check_pieces(
        graph, lowered, reference, truth, [{graph.inputs[0].name: x}], settled, False
    ).checks
    counted = [(c.piece, c.gate) for c in checks if c.gate is not None]
    made: dict[str, Json] = {form: {path: gate.flip_rate for path, gate in counted}}
    made[f"{form}_outside_band"] = sum(gate.flips_outside_band for _, gate in counted)
    # Only blocks carry units; without a gate's figures the sentence says what happened instead.
    failed = {c.piece: c.sentence for c in checks if c.gate is None and c.units}
    if failed:
        made[f"{form}_failed"] = dict(failed)
    if form == "island":
        made["pytorch"] = {
            path: None if gate.pytorch_flips is None else gate.pytorch_flips / gate.gates
            for path, gate in counted
        }
    return made


def _digits() -> dict[str, Json]:
    config = ExportConfig("onnx", shapes=shape_ranges(["1x1x8x8"]))
    source = load.run(DIGITS / "model.pt", config)
    inputs = settle(source.module, source.inputs, config.shapes, None, dynamic_batch=True)
    images = read_samples(DIGITS / "test_images.npz", inputs)
    name = inputs[0].name
    recognition = recognise.run(source.module, seed=0)
    small = example_tensors(inputs, 0, {s.name: small_shape(s) for s in inputs})
    want = Reference(source.module, inputs, ["output"]).run(images)["output"]
    agreement: dict[str, Json] = {}
    for precision in (Precision.FP32, Precision.FP16, Precision.BF16):
        for form, style in FORMS.items():
            if precision is Precision.FP32 and form == "sign":
                continue
            lowered = lower.run(source, recognition, style, small, inputs, precision)
            graph = _graph(lowered, inputs, precision)
            got = _output(graph, images, precision)
            agreement[f"{precision.value} {form}"] = _agreement(want, got)
    agreement |= {
        f"{p.value} pytorch": _agreement(
            want, Reference(source.module, inputs, ["output"], t).run(images)["output"]
        )
        for p, t in ((Precision.FP16, torch.float16), (Precision.BF16, torch.bfloat16))
    }
    return {
        "images": len(images[name]),
        "top1_agreement": agreement,
        "fp32_max_abs_error": _fp32_errors(source, inputs, images),
        "flip_rate": _forms(source, inputs, images[name][:64]),
    }


def _fp32_errors(
    source: SourceModel, inputs: tuple[TensorSpec, ...], images: dict[str, np.ndarray]
) -> dict[str, Json]:
    """ONNX Runtime on the naive export and on ours, and PyTorch itself: largest error of any output."""
    recognition = recognise.run(source.module, seed=0)
    small = example_tensors(inputs, 0, {s.name: small_shape(s) for s in inputs})
    lowered = lower.run(source, recognition, GraphStyle(), small, inputs, Precision.FP32)
    ours = _graph(lowered, inputs, Precision.FP32).model.SerializeToString()
    runners = {"naive": naive_export(source.module, inputs, (2, 8), 0), "ours": ours}
    reference = Reference(source.module, inputs, ["output"])
    truth = Reference(source.module, inputs, ["output"], torch.float64)
    name = inputs[0].name
    drawn = np.random.default_rng(0).standard_normal((RANDOM, *images[name].shape[1:]))
    found: dict[str, Json] = {}
    for title, x in ((f"{len(images[name])} test images", images[name]), (f"{RANDOM} random inputs", drawn)):
        given = {name: np.asarray(x, np.float32)}
        exact, want = truth.run(given)["output"], reference.run(given)["output"]
        errors: dict[str, Json] = {"largest output": float(np.abs(exact).max())}
        errors["pytorch against float64"] = float(np.abs(want - exact).max())
        for form, model in runners.items():
            (got,) = OnnxRunner(model, threads=1).run(given).values()
            errors[f"{form} against float64"] = float(np.abs(got - exact).max())
            errors[f"{form} against pytorch"] = float(np.abs(got - want).max())
        found[title] = errors
    return found


def _output(graph: TracedGraph, images: dict[str, np.ndarray], precision: Precision) -> np.ndarray:
    if precision is Precision.FP32:
        return OnnxRunner(graph.model.SerializeToString(), threads=1).run(images)["output"]
    return TorchRunner(graph.model).run(images)["output"].astype(np.float64)


def _agreement(want: np.ndarray, got: np.ndarray) -> float:
    return float((want.argmax(axis=1) == got.argmax(axis=1)).mean())


if __name__ == "__main__":
    main()
