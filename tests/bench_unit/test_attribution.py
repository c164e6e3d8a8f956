"""Optimised graphs as ONNX Runtime writes them -> the exported node each of their nodes comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from scconv_deploy.bench.attribution import exported_names, inlined, place, scope, unit
from scconv_deploy.bench.block_graphs import block_graph
from scconv_deploy.config import Form
from scconv_deploy.runtime.onnx import OPTIMISED, OnnxRunner

Node = tuple[str, str, Sequence[str], Sequence[str]]


def graph(*nodes: Node) -> onnx.ModelProto:
    made = [onnx.helper.make_node(op, list(i), list(o), name=name) for name, op, i, o in nodes]
    return onnx.helper.make_model(onnx.helper.make_graph(made, "g", [], []))


EXPORTED = graph(
    ("stem/Conv_0", "Conv", ["x", "w0"], ["c0"]),
    ("stem.act/Relu_1", "Relu", ["c0"], ["r0"]),
    ("a.conv/Conv_2", "Conv", ["r0", "w1"], ["c1"]),
    ("a.short/Conv_3", "Conv", ["r0", "w2"], ["c2"]),
    ("a/Add_4", "Add", ["c1", "c2"], ["s"]),
    ("a.act/Relu_5", "Relu", ["s"], ["y"]),
)


def test_a_blocked_convolution_that_took_its_relu_in_is_the_convolution() -> None:
    found = exported_names(graph(("r0_nchwc", "Conv", ["x", "k"], ["t0"])), EXPORTED)
    assert found == {"r0_nchwc": "stem/Conv_0"}


def test_of_two_convolutions_behind_an_addition_the_one_not_named_otherwise() -> None:
    optimised = graph(
        ("c2_nchwc", "Conv", ["t0", "k"], ["t1"]),
        ("y_nchwc", "Conv", ["t0", "k", "", "t1"], ["t2"]),
    )
    assert exported_names(optimised, EXPORTED) == {"c2_nchwc": "a.short/Conv_3", "y_nchwc": "a.conv/Conv_2"}


def test_a_fused_convolution_keeps_its_name_and_a_value_names_an_unnamed_one() -> None:
    optimised = graph(
        ("stem/Conv_0", "FusedConv", ["x", "w0"], ["r0"]),
        ("fused 17", "FusedConv", ["r0", "w1"], ["c1"]),
    )
    assert exported_names(optimised, EXPORTED) == {
        "stem/Conv_0": "stem/Conv_0",
        "fused 17": "a.conv/Conv_2",
    }


def test_a_layout_change_belongs_to_the_planar_neighbour() -> None:
    exported = graph(
        ("before/Conv_0", "Conv", ["x", "w"], ["c"]),
        ("b.sru/Mul_1", "Mul", ["c", "k"], ["m"]),
        ("after/Conv_2", "Conv", ["m", "w"], ["y"]),
    )
    optimised = graph(
        ("c_nchwc", "Conv", ["x", "k0"], ["t0"]),
        ("ReorderOutput_token_7", "ReorderOutput", ["t0"], ["c"]),
        ("b.sru/Mul_1", "Mul", ["c", "k"], ["m"]),
        ("ReorderInput", "ReorderInput", ["m"], ["t1"]),
        ("y_nchwc", "Conv", ["t1", "k1"], ["t2"]),
        ("ReorderOutput", "ReorderOutput", ["t2"], ["y"]),
    )
    found = exported_names(optimised, exported)
    assert found["ReorderOutput_token_7"] == found["ReorderInput"] == "b.sru/Mul_1"
    # At the end of the graph nobody planar asked; it stays with the convolution.
    assert found["ReorderOutput"] == "after/Conv_2"


def test_what_a_function_body_left_behind_goes_where_all_its_readers_are_and_else_nowhere() -> None:
    exported = graph(("b.sru/SRU_0", "SRU", ["x"], ["p", "q"]), ("c/Add_1", "Add", ["p", "z"], ["y"]))
    optimised = graph(
        ("lonely", "Neg", ["x"], ["n"]),
        ("inner", "Sigmoid", ["x"], ["i"]),
        ("last", "Mul", ["i", "x"], ["p"]),
        ("c/Add_1", "Add", ["p", "z"], ["y"]),
    )
    found = exported_names(optimised, exported)
    assert found["last"] == found["inner"] == "b.sru/SRU_0"
    assert "lonely" not in found


def test_places_are_whole_path_components_and_the_longest_wins() -> None:
    paths = ("a.b", "a.b.c")
    assert place("a.b/Mul_1", paths) == "a.b"
    assert place("a.b.c.sru/Mul_1", paths) == "a.b.c"
    assert place("a.bc/Mul_1", paths) is None
    assert place("Mul_1", ("",)) == ""
    assert (unit("a.b.sru/Mul_1", "a.b"), unit("a.b.cru.gwc/Conv_1", "a.b")) == ("SRU", "CRU")
    assert unit("a.b/Concat_1", "a.b") is None
    assert unit("a.b.srux/Mul_1", "a.b") is None
    assert unit("sru/Mul_1", "") == "SRU"
    assert (unit("a.b.SRU.gn/Mul_1", "a.b"), unit("SRU/Mul_1", "a.b")) == ("SRU", None)
    assert scope("Mul_1") == ""


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("use_kernels", [True, False])
def test_every_node_that_onnxruntime_really_makes_of_a_block_is_placed(
    tmp_path: Path, form: Form, use_kernels: bool
) -> None:
    exported = block_graph("F3", form, (1, 64, 8, 8), 0)
    if not use_kernels:
        exported = inlined(exported)
    with OnnxRunner(
        exported.SerializeToString(), threads=1, use_kernels=use_kernels, profile=tmp_path
    ) as runner:
        runner.run({"x": np.ones((1, 64, 8, 8), np.float32)})
        runner.end_profiling()
    optimised = onnx.load(tmp_path / OPTIMISED)
    found = exported_names(optimised, exported)
    assert "" not in found
    assert {n.name for n in optimised.graph.node} == set(found)
    assert {unit(f, "block") for f in found.values()} == {"SRU", "CRU"}
