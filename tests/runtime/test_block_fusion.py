"""A block as one node: its packed constants compute the exported graph, wrong ones do not, refusals are sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto as Model

from scconv_deploy.runtime.block_fusion import fuse_blocks
from scconv_deploy.runtime.graph_file import GraphFile
from scconv_deploy.scconv.spec import Comparison, Fuse, Gate, Gated, Norm, Reconstruct, Y2Order
from tests.runtime.block_models import Case, image, model_of
from tests.runtime.block_reference import block

B = 16
LIMIT = 1e-4
"""float32 against float64, relative to the largest value; a broken twin is off by more than 1e-2."""


def fused(model: Model, width: int = B) -> tuple[Model, int, list[str]]:
    graph = GraphFile(model.SerializeToString())
    count, left = fuse_blocks(graph, width)
    return onnx.ModelProto.FromString(graph.to_bytes()), count, left


def whole(model: Model) -> onnx.NodeProto:
    (node,) = (n for n in model.graph.node if n.op_type == "Block")
    return node


def constants(model: Model) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def error(model: Model, made: Model, case: Case) -> float:
    """Of the block's own result, from its own input."""
    asked = Model()
    asked.CopyFrom(model)
    (read,) = whole(made).input[:1]
    (given_out,) = whole(made).output
    asked.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in (read, given_out))
    session = ort.InferenceSession(asked.SerializeToString(), providers=["CPUExecutionProvider"])
    x, want = session.run([read, given_out], {"x": image(case)})
    have = block(whole(made), constants(made), x)
    return float(np.abs(have - want).max() / np.abs(want).max())


CASES = {
    "paper": Case(),
    "dense Y1": Case(dense=True),
    "four groups": Case(gwc_groups=4),
    "four groups, dense Y1": Case(gwc_groups=4, dense=True),
    "groups narrower than a block": Case(gwc_groups=8),
    "GWC without groups": Case(gwc_groups=1),
    "biases": Case(bias=True),
    "biases, dense Y1": Case(bias=True, dense=True),
    "a quarter up": Case(up=16, bias=True),
    "three quarters up": Case(up=48, squeezed=(32, 16)),
    "uneven squeezes": Case(squeezed=(16, 32)),
    "squeezed to half a block": Case(squeezed=(8, 8), bias=True),
    "squeezed to odd sizes": Case(squeezed=(12, 20), gwc_groups=4, bias=True),
    "squeezed to 24, dense Y1": Case(squeezed=(24, 8), gwc_groups=4, dense=True),
    "32 channels": Case(channels=32, up=16, squeezed=(8, 8)),
    "identity first": Case(y2=Y2Order.LOW_PWC2),
    "PWC2 alone": Case(y2=Y2Order.PWC2_ONLY, bias=True),
    "pair": Case(fuse=Fuse.PAIR),
    "no BatchNorm": Case(affine=False),
    "hard, at least": Case(gate=Gate.HARD, comparison=Comparison.GE),
    "complement": Case(gate=Gate.COMPLEMENT_SOFT),
    "static": Case(gate=Gate.STATIC),
    "static, normalised": Case(gate=Gate.STATIC, gated=Gated.NORMALISED),
    "normalised, within": Case(gated=Gated.NORMALISED, reconstruct=Reconstruct.WITHIN),
    "standard deviation": Case(norm=Norm.GROUP_STD, groups=16),
    "5x5": Case(kernel=5, gwc_groups=4),
    "1x1": Case(kernel=1),
    "128 channels": Case(channels=128, up=64, squeezed=(32, 32), dense=True),
    "fixed batch": Case(shape=(2, 7, 9)),
    "free height and width": Case(shape=("N", "H", "W")),
}


@pytest.mark.parametrize("name", CASES)
def test_packed_constants_compute_the_exported_graph(name: str) -> None:
    case = CASES[name]
    model = model_of(case)
    made, count, left = fused(model)
    assert (count, left) == (1, [])
    assert not [n for n in made.graph.node if n.op_type.startswith(("SRU_", "CRUFuse_"))]
    assert sum(n.op_type == "Conv" for n in made.graph.node) == 2
    assert error(model, made, case) < LIMIT


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.builds(
        Case,
        squeezed=st.tuples(st.sampled_from([16, 32, 48]), st.sampled_from([4, 16, 23, 32])),
        up=st.sampled_from([16, 32, 48]),
        gwc_groups=st.sampled_from([1, 2, 4, 16]),
        kernel=st.sampled_from([1, 3, 5]),
        bias=st.booleans(),
        dense=st.booleans(),
        affine=st.booleans(),
        y2=st.sampled_from(Y2Order),
        fuse=st.sampled_from(Fuse),
        gate=st.sampled_from(Gate),
        gated=st.sampled_from(Gated),
        reconstruct=st.sampled_from(Reconstruct),
        norm=st.sampled_from(Norm),
        groups=st.sampled_from([1, 4, 64]),
        seed=st.integers(0, 9),
    )
)
def test_any_block(case: Case) -> None:
    if case.gate is Gate.STATIC:
        case = replace(case, comparison=Comparison.GT)
    model = model_of(case)
    made, count, left = fused(model)
    assert (count, left) == (1, [])
    assert error(model, made, case) < LIMIT


@pytest.mark.parametrize(
    ("case", "facts"),
    [
        (Case(), {"gwc_groups": 2, "kernel": 3, "y2_copied_from": 48, "channels": 64, "groups": 4}),
        (Case(gwc_groups=4, dense=True), {"gwc_groups": 4, "y2_copied_from": 48}),
        (Case(gwc_groups=8, dense=True), {"gwc_groups": 4}),
        (Case(gwc_groups=1), {"gwc_groups": 1}),
        (Case(y2=Y2Order.LOW_PWC2), {"y2_copied_from": 64}),
        (Case(y2=Y2Order.PWC2_ONLY), {"y2_copied_from": 64}),
        (Case(squeezed=(16, 32)), {"y2_copied_from": 32}),
        (Case(squeezed=(12, 20), gwc_groups=4), {"gwc_groups": 4, "y2_copied_from": 64}),
        (Case(kernel=5), {"kernel": 5, "gwc_groups": 2}),
        (Case(fuse=Fuse.PAIR, gate=Gate.HARD), {"fuse": b"CRUFuse_pair_affine", "sru": b"SRU_hard"}),
        (Case(affine=False), {"fuse": b"CRUFuse_joint", "block": B}),
    ],
)
def test_what_the_kernel_is_told(case: Case, facts: dict[str, object]) -> None:
    node = whole(fused(model_of(case))[0])
    told = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert {name: told[name] for name in facts} == facts


def test_pwc1_is_zero_where_its_taps_went_into_gwc() -> None:
    made, _, _ = fused(model_of(Case()))
    gwc, pwc1 = (constants(made)[name] for name in whole(made).input[7:9])
    assert gwc.shape == (4, 3, 3, 8, B)
    assert pwc1.shape == (4, 16, B)
    assert not pwc1[:2, :8].any()
    assert not pwc1[2:, 8:].any()
    assert pwc1[:2, 8:].all()
    assert pwc1[2:, :8].all()


Edit = Callable[[Model], None]


def _attribute(name: str, value: int) -> Edit:
    def edit(model: Model) -> None:
        (found,) = (a for a in whole(model).attribute if a.name == name)
        found.i = value

    return edit


def _swap(first: int, second: int) -> Edit:
    def edit(model: Model) -> None:
        inputs = whole(model).input
        inputs[first], inputs[second] = inputs[second], inputs[first]

    return edit


def _change(at: int, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    def edit(model: Model) -> None:
        (tensor,) = (t for t in model.graph.initializer if t.name == whole(model).input[at])
        array = np.ascontiguousarray(change(onnx.numpy_helper.to_array(tensor)))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

    return edit


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(_swap(3, 5), id="halves swapped"),
        pytest.param(_attribute("groups", 1), id="SRU's groups"),
        pytest.param(_change(9, np.zeros_like), id="Y1's bias lost"),
        pytest.param(_change(4, np.zeros_like), id="a squeeze's bias lost"),
        pytest.param(_change(8, np.zeros_like), id="PWC1 lost"),
        pytest.param(_change(7, lambda w: w[:, ::-1]), id="GWC upside down"),
        pytest.param(_change(7, lambda w: w.swapaxes(1, 2)), id="GWC turned over"),
        pytest.param(_change(7, lambda w: w[..., ::-1]), id="lanes the other way"),
        pytest.param(_change(7, lambda w: np.roll(w, 2, axis=0)), id="groups exchanged"),
        pytest.param(_change(10, lambda w: w.swapaxes(1, 2)), id="Y2 packed (O/b, b, I)"),
    ],
)
def test_broken_twins(broken: Edit) -> None:
    case = Case(bias=True)
    model = model_of(case)
    made, _, _ = fused(model)
    assert error(model, made, case) < LIMIT
    broken(made)
    assert error(model, made, case) > 1e-2


def test_an_identity_of_other_channels_is_no_copy() -> None:
    case = Case()
    model = model_of(case)
    (tensor,) = (t for t in model.graph.initializer if "y2" in t.name)
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[48:] = np.roll(array[48:], 1, axis=0)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    made, _, _ = fused(model)
    (told,) = (a.i for a in whole(made).attribute if a.name == "y2_copied_from")
    assert told == 64
    assert error(model, made, case) < LIMIT
    _attribute("y2_copied_from", 48)(made)
    assert error(model, made, case) > 1e-2


def test_a_wrong_number_of_groups() -> None:
    """GWC of two groups read as if of one: the same number of weights, for twice the outputs."""
    case = Case(dense=True)
    model = model_of(case)
    made, _, _ = fused(model)
    _attribute("gwc_groups", 4)(made)
    _change(7, lambda w: w[:, :, :, ::2])(made)
    assert error(model, made, case) > 1e-2


def _two_calls() -> Model:
    """The block again behind itself, with the same constants."""
    model = model_of(Case(ending=""))
    nodes = [n for n in model.graph.node if "/" in n.name]
    last = next(n for n in model.graph.node if n.input[0] == "mixed")
    last.input[0] = "again_mixed"
    inner = {v for n in nodes for v in n.output}
    for node in nodes:
        again = onnx.NodeProto()
        again.CopyFrom(node)
        again.name = f"again/{node.name}"
        again.input[:] = [f"again_{v}" if v in inner else "mixed" if v == "x1" else v for v in node.input]
        again.output[:] = [f"again_{v}" for v in node.output]
        model.graph.node.append(again)
    return model


def test_a_module_called_twice_has_its_constants_once() -> None:
    made, count, _ = fused(_two_calls())
    first, second = (n for n in made.graph.node if n.op_type == "Block")
    assert count == 2
    assert list(first.input[1:]) == list(second.input[1:])
    read = {name for n in made.graph.node for name in n.input}
    assert set(constants(made)) <= read


def test_constants_that_others_read_stay_and_all_others_go() -> None:
    model = model_of(Case())
    weight = next(n for n in model.graph.node if n.op_type == "Conv" and "squeeze_up" in n.name).input[1]
    model.graph.node.append(onnx.helper.make_node("Identity", [weight], ["shown"]))
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("shown"))
    made, count, _ = fused(model)
    read = {name for n in made.graph.node for name in n.input}
    assert count == 1
    assert weight in constants(made)
    assert set(constants(made)) <= read


def test_weights_in_the_other_encoding() -> None:
    case = Case(bias=True)
    model = model_of(case)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.float_data.extend(onnx.numpy_helper.to_array(tensor).ravel().tolist())
            tensor.ClearField("raw_data")
    made, count, _ = fused(model)
    assert count == 1
    assert error(model, made, case) < LIMIT


def test_blocks_of_eight() -> None:
    case = Case(squeezed=(16, 8))
    model = model_of(case)
    made, count, _ = fused(model, 8)
    assert count == 1
    assert error(model, made, case) < LIMIT
