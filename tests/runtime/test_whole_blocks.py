"""Networks opened with whole blocks as one node: the same function as planar, or the next best way, and said so."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scconv_deploy.kernels import loader
from scconv_deploy.runtime import block_fusion, upgrade
from scconv_deploy.runtime.block_fusion import fuse_blocks
from scconv_deploy.runtime.blocked import use_blocks
from scconv_deploy.runtime.engine import open_bundle
from scconv_deploy.runtime.engine_options import EngineOptions
from scconv_deploy.runtime.graph_file import GraphFile
from scconv_deploy.runtime.onnx import PLANAR, OnnxRunner
from scconv_deploy.scconv.spec import Comparison, Fuse, Gate, Gated, Norm, Reconstruct, Y2Order
from tests.runtime.block_models import Case, image, model_of, write
from tests.runtime.bundles import write_manifest
from tests.runtime.test_block_fusion import CASES
from tests.runtime.test_blocked import start

pytestmark = pytest.mark.skipif(loader.library() is None, reason=f"no fused kernels: {loader.REBUILD}")
LIMIT = 1e-4


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def error(want: np.ndarray, have: np.ndarray) -> float:
    assert want.shape == have.shape
    return float(np.abs(want - have).max(initial=0) / np.abs(want).max(initial=1e-30))


def agree(case: Case, model: Path, batches: tuple[int, ...] = (1, 2, 5), threads: int = 1) -> OnnxRunner:
    """The runner that an application gets, compared with the file as it is."""
    planar = OnnxRunner(model, threads=threads, use_blocks=False)
    runner = OnnxRunner(model, threads=threads)
    free = [axis for axis, size in enumerate(case.shape) if isinstance(size, str)]
    sizes = [(7, 9), (14, 3), (1, 1)] if 1 in free else [(7, 9)]
    for batch in batches if 0 in free else (2,):
        for size in sizes:
            x = {"x": image(case, batch, size)}
            assert error(planar.run(x)["y"], runner.run(x)["y"]) < LIMIT, (batch, size)
    return runner


@pytest.mark.parametrize("name", CASES)
def test_every_case_agrees_with_planar(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    runner = agree(case, write(case, tmp_path / "model.onnx"))
    assert runner.whole_blocks == 1
    assert runner.layout in ("NCHW8c", "NCHW16c")
    assert runner.notes == (f"fused nodes work in the layout {runner.layout}; 1 SCConv block is one node",)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.builds(
        Case,
        channels=st.sampled_from([64, 96]),
        squeezed=st.tuples(st.sampled_from([4, 16, 32]), st.sampled_from([8, 16, 21, 32])),
        up=st.sampled_from([16, 32, 48]),
        gwc_groups=st.sampled_from([1, 2, 4]),
        kernel=st.sampled_from([1, 3, 5]),
        bias=st.booleans(),
        dense=st.booleans(),
        affine=st.booleans(),
        y2=st.sampled_from(Y2Order),
        fuse=st.sampled_from(Fuse),
        gate=st.sampled_from([Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT]),
        comparison=st.sampled_from(Comparison),
        gated=st.sampled_from(Gated),
        reconstruct=st.sampled_from(Reconstruct),
        norm=st.sampled_from(Norm),
        groups=st.sampled_from([1, 4, 16]),
        shape=st.sampled_from([("N", 7, 9), (2, 7, 9), ("N", "H", "W")]),
        ending=st.sampled_from(["", "relu", "add", "addrelu"]),
        seed=st.integers(0, 9),
    ),
    st.sampled_from([1, 2]),
)
def test_any_network_agrees_with_planar(tmp_path: Path, case: Case, threads: int) -> None:
    runner = agree(case, write(case, tmp_path / "model.onnx"), (1, 3), threads)
    assert runner.whole_blocks == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_at_the_same_time_do_not_disturb_each_other(threads: int, tmp_path: Path) -> None:
    case = Case(channels=128, up=64, squeezed=(32, 32), bias=True)
    runner = OnnxRunner(write(case, tmp_path / "model.onnx"), threads=threads)
    assert runner.whole_blocks == 1
    inputs = [{"x": image(case, batch)} for batch in (1, 2, 3, 9)] * 8
    want = [runner.run(x)["y"] for x in inputs[:4]]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: runner.run(x)["y"], inputs))
    for i, have in enumerate(results):
        np.testing.assert_array_equal(have, want[i % 4])


def test_a_batch_of_none(tmp_path: Path) -> None:
    case = Case()
    agree(case, write(case, tmp_path / "model.onnx"), (0,))


@pytest.mark.parametrize(
    "case",
    [Case(dilation=2), Case(stride=2), Case(channels=40, up=20), Case(up=20)],
    ids=["dilated GWC", "strided squeezes", "channels that fill no blocks", "pieces that fill no blocks"],
)
def test_other_blocks_stay_several_nodes(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        runner = agree(case, write(case, tmp_path / "model.onnx"))
    assert runner.whole_blocks == 0
    assert "several nodes stay several at b.cru/CRUFuse_joint_affine" in caplog.text
    assert not [r for r in caplog.records if r.levelno > logging.INFO]


def test_an_intermediate_that_is_also_an_output_is_still_given(tmp_path: Path) -> None:
    model = model_of(Case())
    inner = next(n for n in model.graph.node if "squeeze_up" in n.name).output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(inner, 1, None))
    onnx.save(model, tmp_path / "model.onnx")
    x = {"x": image(Case())}
    want = OnnxRunner(tmp_path / "model.onnx", threads=1, use_blocks=False).run(x)
    runner = OnnxRunner(tmp_path / "model.onnx", threads=1)
    assert (runner.whole_blocks, runner.layout != PLANAR) == (0, True)
    for name, have in runner.run(x).items():
        assert error(want[name], have) < LIMIT


def rewired(case: Case, folder: Path) -> GraphFile:
    """What is loaded in the end: fused, optimised by ONNX Runtime, rewired."""
    block = upgrade.block_of_convolutions(start)
    graph = GraphFile(model_of(case).SerializeToString())
    fuse_blocks(graph, block)
    start(graph.to_bytes(), True, written_to=folder / "optimised.onnx")
    made = GraphFile((folder / "optimised.onnx").read_bytes())
    use_blocks(made, block)
    return made


@pytest.mark.parametrize(
    ("ending", "fuse"),
    [
        ("relu", "CRUFuse_joint_affine_relu"),
        ("add", "CRUFuse_joint_affine_add"),
        ("addrelu", "CRUFuse_joint_affine_add_relu"),
        ("", "CRUFuse_joint_affine"),
    ],
)
def test_what_follows_a_block_goes_into_it(ending: str, fuse: str, tmp_path: Path) -> None:
    graph = rewired(Case(ending=ending), tmp_path)
    (node,) = (n for n in graph.nodes if n.op_type == "Block")
    assert node.text("fuse") == fuse
    kinds = Counter(n.op_type for n in graph.nodes)
    assert not {"Relu", "Add"} & set(kinds)
    # What is left are the network's own ends.
    assert (kinds["Block"], kinds["ReorderInput"], kinds["ReorderOutput"]) == (1, 1, 1)


def test_a_block_between_planar_operators_is_rewired_all_the_same(tmp_path: Path) -> None:
    case = Case(ending="")
    model = model_of(case)
    for node in model.graph.node:
        if node.output[0] == "x1":
            node.op_type, node.input[:] = "HardSwish", ["x0"]
        if node.output[0] == "x0":
            node.op_type, node.domain = "Concat", ""
            node.input[:] = ["x", "x", "x", "x"]
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("axis", 1))
    end = model.graph.node[-1]
    del end.attribute[:]
    end.CopyFrom(onnx.helper.make_node("Softsign", ["mixed"], ["y"]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = case.channels
    onnx.save(model, tmp_path / "model.onnx")
    assert agree(case, tmp_path / "model.onnx").whole_blocks == 1


def _groups_lost(graph: GraphFile, block: int) -> tuple[int, list[str]]:
    count, left = fuse_blocks(graph, block)
    next(n for n in graph.nodes if n.op_type == "Block").set_integer("groups", 1)
    return count, left


def _squeezes_exchanged(graph: GraphFile, block: int) -> tuple[int, list[str]]:
    count, left = fuse_blocks(graph, block)
    inputs = next(n for n in graph.nodes if n.op_type == "Block").inputs
    inputs[3], inputs[5] = inputs[5], inputs[3]
    return count, left


def _too_few_inputs(graph: GraphFile, block: int) -> tuple[int, list[str]]:
    count, left = fuse_blocks(graph, block)
    next(n for n in graph.nodes if n.op_type == "Block").inputs.pop()
    return count, left


def _unknown_form(graph: GraphFile, block: int) -> tuple[int, list[str]]:
    count, left = fuse_blocks(graph, block)
    next(n for n in graph.nodes if n.op_type == "Block").set_text("sru", "SRU_softer")
    return count, left


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_groups_lost, "differs from the planar one"),
        (_squeezes_exchanged, "differs from the planar one"),
        (_too_few_inputs, "inputs are given and"),
        (_unknown_form, "there is no SRU_softer"),
    ],
)
def test_a_broken_whole_block_leaves_the_fused_nodes_on_blocks(
    broken: Callable[[GraphFile, int], tuple[int, list[str]]],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(block_fusion, "fuse_blocks", broken)
    case = Case()
    with caplog.at_level(logging.INFO):
        runner = agree(case, write(case, tmp_path / "model.onnx"))
    assert (runner.whole_blocks, runner.layout != PLANAR) == (0, True)
    assert "no whole blocks: " in caplog.text
    assert said in caplog.text


def test_where_neither_works_the_file_is_run_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing(graph: GraphFile, block: int) -> int:
        graph.nodes.pop()
        return block

    monkeypatch.setattr(upgrade, "use_blocks", nothing)
    case = Case()
    with caplog.at_level(logging.INFO):
        runner = agree(case, write(case, tmp_path / "model.onnx"))
    assert (runner.whole_blocks, runner.layout) == (0, PLANAR)
    for sentence in ("no whole blocks: ", "no fused nodes: ", "stays in the planar layout: "):
        assert sentence in caplog.text


def test_a_library_without_the_operator_is_given_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loader, "block_version", lambda: block_fusion.VERSION + 1)
    monkeypatch.setattr(block_fusion, "fuse_blocks", None)
    case = Case()
    with caplog.at_level(logging.INFO):
        runner = agree(case, write(case, tmp_path / "model.onnx"))
    assert (runner.whole_blocks, runner.layout != PLANAR) == (0, True)
    assert "this library of kernels has none for a whole block" in caplog.text


def test_what_is_in_use_is_remembered_and_told(tmp_path: Path) -> None:
    case = Case()
    (tmp_path / "bundle").mkdir()
    write(case, tmp_path / "bundle" / "model.onnx")
    entry = {"name": "x", "dtype": "float32", "shape": ["N", 16, 7, 9]}
    ends = {k: [1, 16, 7, 9] for k in ("minimum", "optimum", "maximum")}
    facts = {"schema_version": 1, "artifact": "model.onnx", "runtime": "onnxruntime"}
    manifest = {**facts, "inputs": [entry | ends], "outputs": [{"name": "y"}], "files": {}}
    write_manifest(tmp_path / "bundle", manifest)
    for _ in range(2):  # made, then read
        with open_bundle(tmp_path / "bundle", threads=1) as engine:
            info, want = engine.info, engine(image(case, 1))
            assert (info.layout in ("NCHW8c", "NCHW16c"), info.whole_blocks) == (True, 1)
            assert info.notes[0].endswith("1 SCConv block is one node")
    with open_bundle(tmp_path / "bundle", threads=1, options=EngineOptions(layout="planar")) as engine:
        info, have = engine.info, engine(image(case, 1))
        assert (info.layout, info.whole_blocks) == (PLANAR, 0)
        assert info.notes == ("fused nodes work in the layout NCHW",)
    assert isinstance(want, np.ndarray)
    assert isinstance(have, np.ndarray)
    assert 0 < error(want, have) < LIMIT
