"""Ten ways in which an export can be wrong, as edits of one block in an ONNX graph, and two that are benign.

Each in three precisions, with verdict, located unit and operator as ``--bisect`` finds it, as a table:

    python -m tests.parity.faults
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from scconv_deploy.config import Precision
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.verdicts import ParityReport, Verdict
from tests.parity.nets import Ready, copied, ready, verified


def nodes(model: onnx.ModelProto, path: str, *kinds: str) -> list[onnx.NodeProto]:
    """Nodes of these operators under a module path; there must be one."""
    found = [n for n in model.graph.node if belongs_to(n.name, path) and (not kinds or n.op_type in kinds)]
    assert found, f"no {' or '.join(kinds)} in {path}: this fault would break nothing"
    return found


def array_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A copy of a constant."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    return np.array(onnx.numpy_helper.to_array(tensor))


def new_constant(model: onnx.ModelProto, name: str, array: np.ndarray) -> str:
    """One more constant; nothing that others read is changed."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return name


def insert(model: onnx.ModelProto, before: onnx.NodeProto, *made: onnx.NodeProto) -> None:
    """New nodes in front of another."""
    at = list(model.graph.node).index(before)
    for offset, node in enumerate(made):
        model.graph.node.insert(at + offset, node)


def strictness(model: onnx.ModelProto, path: str) -> None:
    """``>`` for ``>=`` and the reverse."""
    gate = nodes(model, path, "Greater", "GreaterOrEqual")[0]
    gate.op_type = {"Greater": "GreaterOrEqual", "GreaterOrEqual": "Greater"}[gate.op_type]


def wrong_way_round(model: onnx.ModelProto, path: str) -> None:
    """``<`` for ``>``."""
    nodes(model, path, "Greater", "GreaterOrEqual")[0].op_type = "Less"


def swapped_halves(model: onnx.ModelProto, path: str) -> None:
    """The SRU's halves reach each other's squeeze."""
    up, low = (nodes(model, f"{path}.cru.{role}", "Conv")[0] for role in ("squeeze_up", "squeeze_low"))
    up.input[0], low.input[0] = low.input[0], up.input[0]


def missing_bias(model: onnx.ModelProto, path: str) -> None:
    """GWC without its bias."""
    conv = nodes(model, f"{path}.cru.gwc", "Conv")[0]
    assert len(conv.input) == 3
    del conv.input[2]


def wrong_eps(model: onnx.ModelProto, path: str) -> None:
    """1e-3 for 1e-5."""
    norm = nodes(model, path, "InstanceNormalization")[0]
    next(a for a in norm.attribute if a.name == "epsilon").f = 1e-3


def joint_for_pair(model: onnx.ModelProto, path: str) -> None:
    """One softmax over all 2C pooled values, for a softmax per pair."""
    first, second = nodes(model, f"{path}.cru", "Sigmoid")
    forth = next(n for n in model.graph.node if first.input[0] in n.output)
    channels = np.array([16, 16])
    inner = [f"{path}.cru/{kind}_fault" for kind in ("Concat", "Softmax", "Split")]
    joint = onnx.helper.make_node("Concat", list(forth.input), ["joint"], name=inner[0], axis=1)
    soft = onnx.helper.make_node("Softmax", ["joint"], ["weights"], name=inner[1], axis=1)
    halves = new_constant(model, "of_each", channels)
    split = onnx.helper.make_node(
        "Split", ["weights", halves], [first.output[0], second.output[0]], name=inner[2], axis=1
    )
    insert(model, first, joint, soft, split)
    model.graph.node.remove(first)
    model.graph.node.remove(second)


def stale_norm(model: onnx.ModelProto, path: str) -> None:
    """The BatchNorm behind the block was folded with statistics of an earlier epoch."""
    last = nodes(model, path)[-1]
    assert last.op_type == "Add"
    old = array_of(model, last.input[1])
    last.input[1] = new_constant(model, "stale", (old.astype(np.float32) * 1.5 + 0.25).astype(old.dtype))


def transposed_squeeze(model: onnx.ModelProto, path: str) -> None:
    """The squeeze's weight written column by column."""
    conv = nodes(model, f"{path}.cru.squeeze_up", "Conv")[0]
    old = array_of(model, conv.input[1])
    shape = old.shape
    turned = old.reshape(shape[1], shape[0]).T.reshape(shape)
    conv.input[1] = new_constant(model, "turned", np.ascontiguousarray(turned))


def wrong_groups(model: onnx.ModelProto, path: str) -> None:
    """The norm over two groups, for four."""
    norm = nodes(model, path, "InstanceNormalization")[0]
    flat = next(n for n in model.graph.node if norm.input[0] in n.output)
    assert flat.op_type == "Reshape"
    flat.input[1] = new_constant(model, "two_groups", np.array([0, 2, -1]))
    kind = array_of(model, norm.input[1]).dtype
    norm.input[1] = new_constant(model, "ones", np.ones(2, kind))
    norm.input[2] = new_constant(model, "zeros", np.zeros(2, kind))


def half_gate(model: onnx.ModelProto, path: str) -> None:
    """The gate as a converter to half precision writes it: ``sigmoid(s) > 0.5`` in fp16."""
    gate = nodes(model, path, "Greater", "GreaterOrEqual")[0]
    half = onnx.TensorProto.FLOAT16
    cast = onnx.helper.make_node("Cast", [gate.input[0]], ["s_half"], name=f"{path}.sru/Cast_fault", to=half)
    soft = onnx.helper.make_node("Sigmoid", ["s_half"], ["r_half"], name=f"{path}.sru/Sigmoid_fault")
    insert(model, gate, cast, soft)
    gate.input[0] = "r_half"
    gate.input[1] = new_constant(model, "half_of_one", np.array(0.5, np.float16))


def not_a_number(model: onnx.ModelProto, path: str) -> None:
    """One NaN among the weights of PWC1."""
    conv = nodes(model, f"{path}.cru.pwc1", "Conv")[0]
    broken = array_of(model, conv.input[1])
    broken[0, 0, 0, 0] = np.nan
    conv.input[1] = new_constant(model, "broken", broken)


def one_ulp(model: onnx.ModelProto) -> None:
    """Benign: every floating weight is moved to its neighbour, up or down by the toss of a coin."""
    generator = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).copy()
        sizes = {"float32": np.int32, "float16": np.int16, "bfloat16": np.int16}
        if array.dtype.name not in sizes:
            continue
        bits = array.view(sizes[array.dtype.name])
        steps = generator.choice([-1, 1], size=bits.shape).astype(bits.dtype)
        moved = np.where(bits == 0, bits, bits + steps).astype(bits.dtype).view(array.dtype)
        tensor.CopyFrom(onnx.numpy_helper.from_array(moved.reshape(array.shape), tensor.name))


def shifted_threshold(model: onnx.ModelProto, share: float) -> None:
    """Benign where tiny: the comparisons' constant is moved by ``share`` of a normalised value of 1."""
    bounds = {n.input[1] for n in model.graph.node if n.op_type in ("Greater", "GreaterOrEqual")}
    for tensor in model.graph.initializer:
        if tensor.name in bounds:
            array = onnx.numpy_helper.to_array(tensor)
            moved = (array.astype(np.float64) + share).astype(array.dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))


Fault = Callable[[onnx.ModelProto, str], None]
FAULTS: list[tuple[Fault, str, str, str]] = [
    (strictness, "hard.0", "SRU", "Greater"),
    (strictness, "flat.0", "SRU", "Greater"),
    (wrong_way_round, "soft.0", "SRU", "Less"),
    (swapped_halves, "soft.0", "CRU", "squeeze_"),
    (missing_bias, "flat.0", "CRU", "gwc/Conv"),
    (wrong_eps, "hard.0", "SRU", "InstanceNormalization"),
    (wrong_eps, "soft.0", "SRU", "InstanceNormalization"),
    (joint_for_pair, "hard.0", "CRU", "Concat"),
    (stale_norm, "soft.0", "CRU", "Add"),
    (transposed_squeeze, "hard.0", "CRU", "squeeze_up/Conv"),
    (wrong_groups, "soft.0", "SRU", "InstanceNormalization"),
    (half_gate, "hard.0", "SRU", "Cast"),
    (half_gate, "soft.0", "SRU", "Cast"),
    (not_a_number, "flat.0", "CRU", "pwc1/Conv"),
]
"""The fault, the block it is put in, the unit that must be named, and words of the operator's name."""
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16)


def main() -> None:
    """Print the table; the good export and the benign ones first."""
    table = Table("fault", "precision", "verdict", "located", "operator")
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            made = ready(precision)
            model = copied(made.graph)
            _row(table, "none", precision, _judged(made, model, folder))
            one_ulp(model)
            _row(table, "none: every weight off by one ulp", precision, _judged(made, model, folder))
            model = copied(made.graph)
            shifted_threshold(model, 2.4e-7)
            _row(table, "none: threshold off by 2.4e-7", precision, _judged(made, model, folder))
        for fault, path, *_ in FAULTS:
            for precision in PRECISIONS:
                made = ready(precision)
                model = copied(made.graph)
                fault(model, path)
                name = f"{fault.__name__.replace('_', ' ')} in {path}"
                _row(table, name, precision, _judged(made, model, folder))
    Console(width=140).print(table)


def _judged(made: Ready, model: onnx.ModelProto, folder: str) -> ParityReport:
    return verified(made, model, Path(folder), bisect=True)


def _row(table: Table, name: str, precision: Precision, report: ParityReport) -> None:
    broken = next((p for p in report.pieces if p.verdict is Verdict.FAIL), None)
    unit = operator = "-"
    if broken is not None:
        units = [u.unit for u in broken.units if u.verdict is Verdict.FAIL]
        unit, operator = ".".join([broken.piece, *units[:1]]), broken.operator or "-"
    table.add_row(name, precision.value, report.verdict.value, unit, operator)


if __name__ == "__main__":
    main()
