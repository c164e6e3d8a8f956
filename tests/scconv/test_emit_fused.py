"""Blocks written with ``scconv::`` operators compute the reference, with the kernels and without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx
import onnxruntime as ort
import pytest
import torch

from scconv_deploy.kernels import loader
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.fused_ops import DOMAIN, attach_functions, declare_domain
from scconv_deploy.scconv.operator import BlockCall
from scconv_deploy.scconv.reference import ReferenceSCConv, constants
from scconv_deploy.scconv.spec import Comparison, Fuse, Gate, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv import test_emit
from tests.scconv.axes import SHAPES, base, cru, sru
from tests.scconv.test_deploy import edge_module, reference_of
from tests.scconv.test_emit import BROKEN, SPECIFICATIONS, TOLERANCE, deploy_of

FUSED = GraphStyle(fused=True)
CASES = (((1, 8, 8),), ((2, 5, 7), (3, 1, 6)))


def model_of(deploy: DeploySCConv, opset: int = 20, dtype: int = onnx.TensorProto.FLOAT) -> onnx.ModelProto:
    """A graph of nothing but this block, with functions, checked in full."""
    call = BlockCall(deploy.float())
    names = [f"b:{name}" for name in call.plan.constants]
    nodes, small = emit_block(call.plan, "x", "y", names, "b", ("n", deploy.spec.c_in, "h", "w"), dtype)
    stored = [
        onnx.numpy_helper.from_array(tensor.detach().numpy(), name)
        for name, tensor in zip(names, call.buffers(), strict=True)
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "block",
        [value("x", dtype, ["n", deploy.spec.c_in, "h", "w"])],
        [value("y", dtype, ["n", "c", "h2", "w2"])],
        [*stored, *small],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=9)
    declare_domain(model)
    if dtype == onnx.TensorProto.FLOAT:
        attach_functions(model)
        onnx.checker.check_model(model, full_check=True)
    return model


def fused_kinds(model: onnx.ModelProto) -> list[str]:
    return [n.op_type.split("_")[0] for n in model.graph.node if n.domain == DOMAIN]


def error_of(
    model: onnx.ModelProto, module: ReferenceSCConv, monkeypatch, x: torch.Tensor | None = None
) -> float:
    """The larger of the two errors: with the kernels (where they are built), and on the functions."""
    plain = test_emit.error_of(model, module, SHAPES, x)
    library = loader.library()
    if library is None:
        return plain

    def with_kernels(given: onnx.ModelProto) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.register_custom_ops_library(str(library))
        return ort.InferenceSession(given.SerializeToString(), options, providers=["CPUExecutionProvider"])

    with monkeypatch.context() as patched:
        patched.setattr(test_emit, "session", with_kernels)
        return max(plain, test_emit.error_of(model, module, SHAPES, x))


def wanted(spec: SCConvSpec) -> list[str]:
    """The operators a block should have, in order."""
    units = {"SRU": spec.sru is not None, "CRUFuse": spec.cru is not None}
    constant = spec.sru is not None and spec.sru.gate is not Gate.STATIC and not 0 < spec.sru.threshold < 1
    found = [name for name, there in units.items() if there and not (name == "SRU" and constant)]
    return found[::-1] if spec.order.value == "cru_sru" else found


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_every_axis_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECIFICATIONS[name]
    module = reference_of(spec)
    opset = (18, 20, 21, 23)[list(SPECIFICATIONS).index(name) % 4]
    model = model_of(deploy_of(module, FUSED), opset)
    assert fused_kinds(model) == wanted(spec)
    assert error_of(model, module, monkeypatch) <= TOLERANCE


class Behind(torch.nn.Module):
    """A block with ``y -> scale * y + shift`` behind it."""

    def __init__(self, inner: ReferenceSCConv, scale: torch.Tensor, shift: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.spec = inner, inner.spec
        self.scale, self.shift = scale.view(-1, 1, 1), shift.view(-1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.inner(x) * self.scale + self.shift
        return made


@pytest.mark.parametrize("fuse", Fuse)
def test_a_folded_batch_norm(fuse: Fuse, monkeypatch: pytest.MonkeyPatch) -> None:
    module = reference_of(cru(fuse=fuse))
    deploy = deploy_of(module, FUSED)
    scale, shift = torch.linspace(-2, 2, 8), torch.linspace(1, -1, 8)
    assert deploy.cru is not None
    deploy.cru.fold_batch_norm(scale, shift)
    model = model_of(deploy)
    assert model.graph.node[-1].op_type == f"CRUFuse_{fuse.value}_affine"
    assert error_of(model, Behind(module, scale, shift), monkeypatch) <= TOLERANCE  # type: ignore[arg-type]
    assert error_of(model, module, monkeypatch) > BROKEN


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("gate", [Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT])
def test_gates_on_the_threshold(gate: Gate, comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    module = edge_module(gate, comparison)
    model = model_of(deploy_of(module, FUSED))
    assert error_of(model, module, monkeypatch) <= TOLERANCE
    # The twin takes the other comparison: half of the gates stand on the threshold.
    other = {Comparison.GT: Comparison.GE, Comparison.GE: Comparison.GT}[comparison]
    twin = DeploySCConv(sru(gate=gate, comparison=other), constants(module), FUSED)
    assert error_of(model_of(twin), module, monkeypatch) > BROKEN


def _edit(kind: str, change: Callable[[onnx.NodeProto], None]) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        change(next(n for n in model.graph.node if n.op_type.startswith(kind)))

    return edit


def _swap(node: onnx.NodeProto) -> None:
    node.output[0], node.output[1] = node.output[1], node.output[0]


def _attribute(name: str, value: float) -> Callable[[onnx.NodeProto], None]:
    def change(node: onnx.NodeProto) -> None:
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return change


@pytest.mark.parametrize(
    "broken",
    [
        _edit("SRU", _swap),
        _edit("SRU", _attribute("groups", 1)),
        _edit("SRU", _attribute("logit", 0.3)),
        _edit("SRU", _attribute("epsilon", 0.9)),
        _edit("CRUFuse", lambda n: n.input.__setitem__(1, n.input[0])),
    ],
    ids=["swapped halves", "groups", "logit", "epsilon", "one piece twice"],
)
def test_broken_twins(broken: Callable[[onnx.ModelProto], None], monkeypatch: pytest.MonkeyPatch) -> None:
    module = reference_of(sru(groups=4))
    model = model_of(deploy_of(module, FUSED))
    assert error_of(model, module, monkeypatch) <= TOLERANCE
    broken(model)
    assert error_of(model, module, monkeypatch) > BROKEN


@pytest.mark.parametrize(
    ("style", "dtype", "kinds"),
    [
        (GraphStyle(), onnx.TensorProto.FLOAT, []),
        (FUSED, onnx.TensorProto.BFLOAT16, []),
        (FUSED, onnx.TensorProto.FLOAT16, ["SRU", "CRUFuse"]),
        (replace(FUSED, gate_in_half=True), onnx.TensorProto.FLOAT16, ["CRUFuse"]),
        (replace(FUSED, literal_gate=True), onnx.TensorProto.FLOAT, ["CRUFuse"]),
    ],
)
def test_what_is_no_operator_is_written_in_the_standard_form(
    style: GraphStyle, dtype: int, kinds: list[str]
) -> None:
    assert fused_kinds(model_of(deploy_of(reference_of(base()), style), dtype=dtype)) == kinds
