"""Rewiring for the blocked layout: exact on every graph, refused in words, and wrong rewirings are seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from scconv_deploy.kernels import loader
from scconv_deploy.runtime.blocked import NotBlockedError, use_blocks
from scconv_deploy.runtime.graph_file import GraphFile
from scconv_deploy.runtime.upgrade import block_of_convolutions
from tests.runtime.blocked_models import SIZE, with_convolutions

pytestmark = pytest.mark.skipif(loader.library() is None, reason=f"no fused kernels: {loader.REBUILD}")
LIMIT = 1e-5


def start(
    source: str | bytes, optimise: bool, is_kept: bool = True, written_to: Path | None = None
) -> ort.InferenceSession:
    """A session with the kernels, as the runner opens it."""
    del is_kept
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(loader.library()))
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if written_to is not None:
        options.optimized_model_filepath = str(written_to)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def block() -> int:
    return block_of_convolutions(start)


def optimised(model: onnx.ModelProto, folder: Path) -> tuple[ort.InferenceSession, GraphFile]:
    session = start(model.SerializeToString(), True, written_to=folder / "optimised.onnx")
    return session, GraphFile((folder / "optimised.onnx").read_bytes())


def run(session: ort.InferenceSession, batch: int = 2) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(batch, 16, *SIZE)).astype(np.float32)
    out: np.ndarray = session.run(None, {"x": x})[0]
    return out


def error(want: np.ndarray, have: np.ndarray) -> float:
    return float(np.abs(want - have).max() / np.abs(want).max())


def kinds(graph: GraphFile) -> Counter[str]:
    return Counter(node.op_type for node in graph.nodes)


@pytest.mark.parametrize("sru", ["SRU_soft", "SRU_hard_std_ge_within", "SRU_static", "SRU_complement_soft"])
@pytest.mark.parametrize("groups", [1, 4, 32])
def test_a_block_between_convolutions_loses_its_reorders(
    sru: str, groups: int, block: int, tmp_path: Path
) -> None:
    model = with_convolutions(tmp_path / "model.onnx", sru=sru, groups=groups)
    planar, graph = optimised(model, tmp_path)
    before = kinds(graph)
    assert before["ReorderOutput"] == 4
    assert before["ReorderInput"] >= 3
    assert use_blocks(graph, block) == 2
    after = kinds(graph)
    assert after["ReorderOutput"] == 1  # the model's own output
    assert after["ReorderInput"] == before["ReorderInput"] - 3
    blocked = start(graph.to_bytes(), False)
    for batch in (0, 1, 2, 5):
        want, have = run(planar, batch), run(blocked, batch)
        assert want.shape == have.shape
        assert batch == 0 or error(want, have) < LIMIT


@pytest.mark.parametrize(
    ("ending", "operator", "gone"),
    [
        ("Relu", "CRUFuse_joint_affine_relu", "Relu"),
        ("Add", "CRUFuse_joint_affine_add", "Add"),
        ("AddRelu", "CRUFuse_joint_affine_add_relu", "Add"),
        ("Broadcast", "CRUFuse_joint_affine", ""),
        ("", "CRUFuse_joint_affine", ""),
    ],
)
def test_what_follows_the_fuse_goes_into_it(
    ending: str, operator: str, gone: str, block: int, tmp_path: Path
) -> None:
    planar, graph = optimised(with_convolutions(tmp_path / "model.onnx", ending), tmp_path)
    use_blocks(graph, block)
    made = kinds(graph)
    assert made[operator] == 1
    assert made[gone] == 0
    assert made["Add"] == (ending == "Broadcast")
    assert error(run(planar), run(start(graph.to_bytes(), False))) < LIMIT


def test_an_add_of_shapes_that_may_differ_stays(block: int, tmp_path: Path) -> None:
    model = with_convolutions(tmp_path / "model.onnx", "Add")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].Clear()
    planar, graph = optimised(model, tmp_path)
    use_blocks(graph, block)
    assert kinds(graph)["Add"] == 1
    assert error(run(planar), run(start(graph.to_bytes(), False))) < LIMIT


def test_types_of_rewired_values_are_kept(block: int, tmp_path: Path) -> None:
    """Without them ONNX Runtime copies the residual of the convolution behind instead of adding in place."""
    _, graph = optimised(with_convolutions(tmp_path / "model.onnx"), tmp_path)
    use_blocks(graph, block)
    written = onnx.ModelProto.FromString(graph.to_bytes())
    known = {v.name for v in written.graph.value_info if v.type.tensor_type.HasField("shape")}
    ours = [n for n in written.graph.node if n.domain == "scconv"]
    assert len(ours) == 2
    assert {name for node in ours for name in node.output} <= known


def test_a_value_that_is_also_read_planar_is_given_back(block: int, tmp_path: Path) -> None:
    """The fuse's result as an output of the model, and the SRU's input read by a planar operator."""
    model = with_convolutions(tmp_path / "model.onnx")
    model.graph.node.append(onnx.helper.make_node("ReduceMax", ["x0"], ["top"], keepdims=1))
    value = onnx.helper.make_tensor_value_info
    model.graph.output.extend([value("mixed", 1, None), value("top", 1, None)])
    planar, graph = optimised(model, tmp_path)
    assert use_blocks(graph, block) == 2
    blocked = start(graph.to_bytes(), False)
    x = np.random.default_rng(1).normal(size=(2, 16, *SIZE)).astype(np.float32)
    for want, have in zip(planar.run(None, {"x": x}), blocked.run(None, {"x": x}), strict=True):
        assert error(want, have) < LIMIT


def test_neighbours_that_gain_only_together(block: int, tmp_path: Path) -> None:
    """fuse -> SRU -> fuse without a convolution between; one fuse input comes from a planar operator."""
    model = with_convolutions(tmp_path / "model.onnx")
    nodes = {n.output[0]: n for n in model.graph.node}
    nodes["y"].input[0] = "second"
    planar_node = onnx.helper.make_node("HardSwish", ["y2"], ["swished"])
    nodes["mixed"].input[1] = "swished"
    sru = onnx.NodeProto()
    sru.CopyFrom(nodes["y_a"])
    sru.name, sru.input[0], sru.output[0], sru.output[1] = "again", "last", "z_a", "z_b"
    up = onnx.helper.make_node("Conv", ["z_a", "w1"], ["up2"], kernel_shape=[1, 1])
    low = onnx.helper.make_node("Conv", ["z_b", "w2"], ["low2"], kernel_shape=[1, 1])
    end = onnx.helper.make_node("Concat", ["up2", "low2"], ["second"], axis=1)
    model.graph.node.extend([planar_node, sru, up, low, end])
    del model.graph.value_info[:]
    session, graph = optimised(model, tmp_path)
    assert use_blocks(graph, block) == 3
    assert error(run(session), run(start(graph.to_bytes(), False))) < LIMIT


@pytest.mark.parametrize(("width", "groups"), [(24, 4), (20, 5)])
def test_channels_that_do_not_fill_blocks_are_refused(width: int, groups: int, tmp_path: Path) -> None:
    model = with_convolutions(tmp_path / "model.onnx", width=width, groups=groups)
    _, graph = optimised(model, tmp_path)
    before = kinds(graph)
    with pytest.raises(NotBlockedError, match="no scconv node stands"):
        use_blocks(graph, 16)
    # What goes into the fuse does so first, and is as exact in the planar layout.
    assert kinds(graph)["ReorderInput"] == before["ReorderInput"]


def test_a_graph_without_our_nodes_is_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    ends = [value("x", 1, [1])], [value("y", 1, [1])]
    model = onnx.helper.make_model(onnx.helper.make_graph([relu], "g", *ends))
    with pytest.raises(NotBlockedError, match="no scconv node in"):
        use_blocks(GraphFile(model.SerializeToString()), 16)


def _swap_halves(graph: GraphFile) -> None:
    sru = next(n for n in graph.nodes if n.op_type.startswith("SRU"))
    sru.outputs.reverse()


def _one_piece_twice(graph: GraphFile) -> None:
    fuse = next(n for n in graph.nodes if n.op_type.startswith("CRUFuse"))
    fuse.inputs[1] = fuse.inputs[0]


def _lose_relu(graph: GraphFile) -> None:
    fuse = next(n for n in graph.nodes if n.op_type.endswith("_relu"))
    fuse.op_type = fuse.op_type.removesuffix("_relu")


def _lose_block(graph: GraphFile) -> None:
    sru = next(n for n in graph.nodes if n.op_type.startswith("SRU"))
    sru.rest.pop()


@pytest.mark.parametrize("broken", [_swap_halves, _one_piece_twice, _lose_relu, _lose_block])
def test_broken_rewirings_are_seen(broken, block: int, tmp_path: Path) -> None:
    planar, graph = optimised(with_convolutions(tmp_path / "model.onnx"), tmp_path)
    use_blocks(graph, block)
    broken(graph)
    assert error(run(planar), run(start(graph.to_bytes(), False))) > 1e-2
