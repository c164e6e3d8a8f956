"""From a file to a session in the blocked layout: what comes out is the same function, or the planar session."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from scconv_deploy.kernels import loader
from scconv_deploy.runtime import upgrade, upgrade_cache
from scconv_deploy.runtime.blocked import NotBlockedError, use_blocks
from scconv_deploy.runtime.graph_file import GraphFile
from scconv_deploy.runtime.onnx import PLANAR, STANDARD, OnnxRunner
from scconv_deploy.runtime.upgrade import block_of_convolutions, check_agreement, open_upgraded
from tests.runtime.blocked_models import SIZE, with_convolutions
from tests.runtime.test_blocked import start

pytestmark = pytest.mark.skipif(loader.library() is None, reason=f"no fused kernels: {loader.REBUILD}")
X = {"x": np.random.default_rng(3).normal(size=(2, 16, *SIZE)).astype(np.float32)}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    with_convolutions(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def entries(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob(f"cache/scconv-deploy/onnxruntime/*{upgrade_cache.SUFFIX}"))


def test_a_file_is_opened_in_blocks_and_gives_the_same(model: Path, tmp_path: Path) -> None:
    with OnnxRunner(model, threads=1, use_blocks=False) as planar:
        assert planar.layout == PLANAR
        want = planar.run(X)["y"]
    assert not entries(tmp_path)
    for _ in range(2):  # made, then read
        with OnnxRunner(model, threads=1) as runner:
            assert runner.layout in ("NCHW8c", "NCHW16c")
            assert runner.notes == (
                f"fused nodes work in the layout {runner.layout}; 1 SCConv block is one node",
            )
            assert runner.kernels in ("avx512", "avx2", "plain")
            np.testing.assert_allclose(runner.run(X)["y"], want, rtol=1e-4, atol=1e-5)
    assert len(entries(tmp_path)) == 1


def test_the_second_time_nothing_is_rewired(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    OnnxRunner(model, threads=1)

    def never(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(upgrade, "use_blocks", never)
    assert OnnxRunner(model, threads=2).layout != PLANAR


@pytest.mark.parametrize("change", ["model", "version", "library", "cpu"])
def test_what_an_upgrade_hangs_on(
    change: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = loader.library()
    assert library is not None
    open_upgraded(model, library, start, "1.0")
    version = "1.0"
    if change == "model":
        with_convolutions(model, seed=1)
    elif change == "version":
        version = "1.1"
    elif change == "library":
        copy = tmp_path / "other.so"
        copy.write_bytes(library.read_bytes() + b"\0")
        library = copy
    else:
        monkeypatch.setattr(upgrade, "cpu", lambda: "another")
    open_upgraded(model, library, start, version)
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "text"])
def test_a_damaged_entry_is_made_anew(
    damage: str, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    OnnxRunner(model, threads=1)
    (file,) = entries(tmp_path)
    whole = file.read_bytes()
    broken = bytearray(whole)
    broken[len(broken) // 2] ^= 1
    file.write_bytes({"cut": whole[:-9], "flipped": bytes(broken), "emptied": b"", "text": b"hello"}[damage])
    with caplog.at_level(logging.WARNING), OnnxRunner(model, threads=1) as runner:
        assert runner.layout != PLANAR
    # ONNX Runtime numbers its values anew each time, so the bytes may differ.
    again = upgrade_cache.read(file)
    assert again is not None
    assert again.graph
    assert ("damaged" in caplog.text) == (damage != "emptied")


@pytest.mark.parametrize("options", [{"optimise": False}, {"use_kernels": False}, {"use_blocks": False}])
def test_it_can_be_turned_off(options: dict[str, bool], model: Path, tmp_path: Path) -> None:
    with OnnxRunner(model, threads=1, **options) as runner:
        assert runner.layout == (PLANAR if options.get("use_kernels", True) else None)
        assert runner.kernels == STANDARD or runner.layout
    with OnnxRunner(model.read_bytes(), threads=1) as runner:
        assert runner.layout == PLANAR
    assert not entries(tmp_path)


def test_a_refusal_is_logged_remembered_and_leaves_the_planar_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_convolutions(tmp_path / "model.onnx", width=24)
    for _ in range(2):
        with caplog.at_level(logging.INFO), OnnxRunner(tmp_path / "model.onnx", threads=1) as runner:
            assert runner.layout == PLANAR
            assert runner.kernels != STANDARD
            runner.run(X)
        assert "stays in the planar layout: no scconv node stands" in caplog.text
        caplog.clear()
        monkeypatch.setattr(upgrade, "_upgrade", None)
    assert not [r for r in caplog.records if r.levelno > logging.INFO]


def _halves_swapped(graph: GraphFile, block: int) -> int:
    count = use_blocks(graph, block)
    next(n for n in graph.nodes if n.op_type.startswith("SRU")).outputs.reverse()
    return count


def _relu_lost(graph: GraphFile, block: int) -> int:
    count = use_blocks(graph, block)
    fuse = next(n for n in graph.nodes if n.op_type.endswith("_relu"))
    fuse.op_type = fuse.op_type.removesuffix("_relu")
    return count


def _no_graph(graph: GraphFile, block: int) -> int:
    graph.nodes.pop()
    return block


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_halves_swapped, "differs from the planar one"),
        (_relu_lost, "differs from"),
        (_no_graph, "planar layout"),
    ],
)
def test_a_broken_twin_is_not_used(
    broken: Any, said: str, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upgrade, "use_blocks", broken)
    with caplog.at_level(logging.INFO), OnnxRunner(model, threads=1) as runner:
        assert runner.layout == PLANAR
    assert said in caplog.text


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO), OnnxRunner(model, threads=1) as runner:
        assert runner.layout != PLANAR
        runner.run(X)
    assert "cannot be written" in caplog.text


def test_an_entry_that_cannot_be_loaded_leaves_the_planar_session(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    OnnxRunner(model, threads=1)
    (file,) = entries(tmp_path)
    upgrade_cache.write(file, upgrade_cache.Entry(b"no model", 16))
    with caplog.at_level(logging.WARNING), OnnxRunner(model, threads=1) as runner:
        assert runner.layout == PLANAR
        runner.run(X)
    assert "cannot be opened" in caplog.text


def test_a_profile_is_of_the_blocked_graph(model: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with OnnxRunner(model, threads=1, profile=tmp_path) as runner:
            runner.run(X)
            profile = runner.end_profiling().read_text(encoding="utf-8")
    assert '"op_name" : "Block"' in profile
    optimised = onnx.load(tmp_path / "optimised.onnx")
    assert "Block" in {n.op_type for n in optimised.graph.node}
    assert len(list(tmp_path.glob("profile*.json"))) == 2


class _Fixed:
    """A session whose results are made up."""

    def __init__(self, session: Any, change: Any) -> None:
        self._session, self._change, self.runs = session, change, 0

    def run(self, names: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.runs += 1
        return [self._change(y.copy(), self.runs) for y in self._session.run(names, given)]


def _one_value_off_once(y: np.ndarray, runs: int) -> np.ndarray:
    y[0, 0, 0, 0] += np.abs(y).max() * (runs == 1)
    return y


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        (lambda y, _: y, True),
        (lambda y, _: y * np.float32(1 + 1e-5), True),
        (_one_value_off_once, True),  # a gate of one input, not of three
        (lambda y, _: y * np.float32(1.01), False),
        (lambda y, _: np.roll(y, 1, axis=3), False),
        (lambda y, _: y[:1], False),
        (lambda y, _: y * np.float32(np.nan), False),
    ],
)
def test_agreement(change: Any, agrees: bool, model: Path) -> None:
    session = start(str(model), True)
    if agrees:
        check_agreement(session, _Fixed(session, change))
        return
    with pytest.raises(NotBlockedError, match="differs"):
        check_agreement(session, _Fixed(session, change))


def test_a_model_that_takes_no_random_numbers_is_refused() -> None:
    text = '<ir_version: 9, opset_import: ["": 20]> g (int64[N] x) => (int64[N] y) { y = Identity(x) }'
    session = start(onnx.parser.parse_model(text).SerializeToString(), True)
    with pytest.raises(NotBlockedError, match="nothing to compare on"):
        check_agreement(session, session)


def test_free_heights_and_widths_are_tried(tmp_path: Path) -> None:
    model = with_convolutions(tmp_path / "model.onnx")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].Clear()
    onnx.save(model, tmp_path / "model.onnx")
    with OnnxRunner(tmp_path / "model.onnx", threads=1) as runner:
        assert runner.layout != PLANAR
        runner.run(X)


def test_onnx_runtime_is_asked_for_its_block() -> None:
    assert block_of_convolutions(start) in (8, 16)


def test_an_order_that_the_kernels_do_not_know_is_refused() -> None:
    with pytest.raises(NotBlockedError, match="do not know"):
        block_of_convolutions(lambda *_, **__: _Fixed(start_probe(), lambda y, _: y[..., ::-1]))


def start_probe() -> Any:
    text = '<ir_version: 9, opset_import: ["": 20]> g (float[N, C, H, W] x) => (float[N, C, H, W] y) { y = Relu(x) }'
    return start(onnx.parser.parse_model(text).SerializeToString(), True)
