"""The OpenVINO extension, compiled here: every gate and fuse against float64, broken twin, cache, refusals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from exporters import openvino_fused
from scconv_deploy import user_cache
from scconv_deploy.errors import CapabilityError
from scconv_deploy.kernels import openvino_extension
from scconv_deploy.runtime.openvino import OpenVINORunner
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.operator import BlockPlan
from scconv_deploy.scconv.reference import family_spec
from scconv_deploy.scconv.spec import Comparison, Fuse, Gate, Gated, Norm, Reconstruct, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Size

ov = pytest.importorskip("openvino", reason="OpenVINO is not installed")
compiled = [
    pytest.mark.slow,
    pytest.mark.skipif(openvino_extension.find_compiler() is None, reason="there is no C++ compiler here"),
]
STYLE = GraphStyle(fused=True, fused_bf16=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def block(channels: int = 24, groups: int = 4, **changes: object) -> SCConvSpec:
    spec = family_spec("F3", channels)
    assert spec.sru is not None
    assert spec.cru is not None
    fuse = {name: changes.pop(name) for name in ("fuse",) if name in changes}
    return replace(
        spec,
        sru=replace(spec.sru, groups=groups, **changes),  # type: ignore[arg-type]
        cru=replace(spec.cru, **fuse),  # type: ignore[arg-type]
    )


def made(spec: SCConvSpec, folder: Path, size: tuple[int, int] = (7, 5)) -> tuple[Path, DeploySCConv]:
    """The block as an IR with our operators, and as a module; stored in float32."""
    torch.manual_seed(1)
    assert spec.sru is not None
    assert spec.cru is not None
    channels, c = spec.sru.channels, spec.cru
    weights = {"gamma": torch.rand(channels) + 0.5, "beta": torch.randn(channels)}
    for role, conv in (("squeeze_up", c.squeeze_up), ("squeeze_low", c.squeeze_low), ("gwc", c.gwc),
                       ("pwc1", c.pwc1), ("pwc2", c.pwc2)):  # fmt: skip
        weights[f"{role}.weight"] = 0.3 * torch.randn(conv.c_out, conv.c_in // conv.groups, *conv.kernel)
        if conv.bias:
            weights[f"{role}.bias"] = torch.randn(conv.c_out)
    module = DeploySCConv(spec, weights, GraphStyle()).eval()
    assert module.cru is not None
    module.cru.fold_batch_norm(torch.rand(c.c_out) + 0.5, torch.randn(c.c_out))
    tensors = {name: t for name, t in module.state_dict().items() if t is not None}
    plan = BlockPlan(spec, STYLE, tuple(tensors))
    shape: list[Size] = ["n", channels, *size]
    nodes, constants = emit_block(plan, "x", "y", tuple(tensors), "b", shape, onnx.TensorProto.FLOAT)
    nodes.append(onnx.helper.make_node("Relu", ["y"], ["z"], name="Relu_99"))
    constants += [onnx.numpy_helper.from_array(t.numpy(), name) for name, t in tensors.items()]
    ends = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape),
        onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", c.c_out, "h", "w"]),
    ]
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("scconv", 1)]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    converted = openvino_fused.read_fused(model, openvino_extension.library())
    assert {"SRU", "CRUFuse"} <= {op.get_type_name() for op in converted.get_ops()}
    assert "Relu" not in {op.get_type_name() for op in converted.get_ops()}
    ov.save_model(converted, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml", module


def worst(spec: SCConvSpec, folder: Path, batch: int = 2) -> float:
    path, module = made(spec, folder)
    x = torch.rand(batch, spec.sru.channels, 7, 5) * 2 - 0.5  # type: ignore[union-attr]
    with torch.no_grad():
        want = module.double()(x.double()).relu().numpy()
    with OpenVINORunner(path, threads=2) as runner:
        got = runner.run({"x": x.numpy()})["z"]
    return float(np.abs(got - want).max() / np.abs(want).max())


FORMS = [
    *({"gate": gate} for gate in Gate),
    *({"gate": gate, "norm": Norm.GROUP_STD, "gated": Gated.NORMALISED} for gate in Gate),
    *({"gate": gate, "reconstruct": Reconstruct.WITHIN, "fuse": Fuse.PAIR} for gate in Gate),
    {"gate": Gate.SOFT, "comparison": Comparison.GE},
    {
        "groups": 5,
        "gate": Gate.SOFT,
        "norm": Norm.GROUP_STD,
    },  # 24 * 35 / 5 = 168 values: groups that cut channels
    {"channels": 64, "groups": 16},
]


class TestCompiled:
    """What needs the compiler, some twenty seconds."""

    pytestmark = compiled

    @pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(str(v) for v in f.values()))
    @pytest.mark.parametrize("batch", [1, 5])
    def test_every_form(self, form: dict[str, object], batch: int, cache: Path, tmp_path: Path) -> None:
        assert worst(block(**form), tmp_path, batch) < 2e-6  # type: ignore[arg-type]

    def test_a_broken_twin_is_seen(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(openvino_fused.GATES, "soft", openvino_fused.GATES["hard"])
        assert worst(block(gate=Gate.SOFT), tmp_path) > 1e-3

    def test_it_is_compiled_once(self, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
        first = openvino_extension.library()
        with caplog.at_level(logging.WARNING):
            assert openvino_extension.library() == first
        assert not caplog.records
        assert [p.name for p in user_cache.folder(openvino_extension.FOLDER_NAME).iterdir()] == [first.name]
        assert first.is_relative_to(cache)


def _instead(root: Path, compiler: str, path: Path) -> None:
    """What compiling leaves behind."""
    path.write_bytes(b"compiled here")


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Compiling writes a few bytes; the cache folder is ``tmp_path``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_extension, "find_compiler", lambda: "true")
    monkeypatch.setattr(openvino_extension, "_compile", _instead)
    monkeypatch.setattr(openvino_extension, "_UNKEPT", {})
    return tmp_path


def test_a_library_that_others_could_have_written_is_not_loaded(no_compiler: Path) -> None:
    kept = openvino_extension.library()
    kept.write_bytes(b"planted")
    assert (
        openvino_extension.library().read_bytes() == b"planted"
    )  # the user's own file is the user's business
    kept.chmod(0o666)
    assert openvino_extension.library().read_bytes() == b"compiled here"
    kept.parent.chmod(0o777)
    kept.write_bytes(b"planted")
    found = openvino_extension.library()
    assert found != kept
    assert found.read_bytes() == b"compiled here"


def test_without_a_cache_folder_each_process_compiles_its_own(
    no_compiler: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (no_compiler / "scconv-deploy").write_text("no folder")
    found = openvino_extension.library()
    assert found.read_bytes() == b"compiled here"
    assert openvino_extension.library() == found
    assert not found.is_relative_to(no_compiler)
    assert "cannot be kept" in caplog.text


def test_several_threads_compile_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_extension, "find_compiler", lambda: "true")
    runs: list[int] = []

    def compile_once(root: Path, compiler: str, path: Path) -> None:
        runs.append(1)
        path.write_bytes(b"library")

    monkeypatch.setattr(openvino_extension, "_compile", compile_once)
    workers = [threading.Thread(target=openvino_extension.library) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(runs) == 1


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_extension, "find_compiler", lambda: None)
    with pytest.raises(CapabilityError, match=r"no C\+\+ compiler here: install one .*--form plugin"):
        openvino_extension.library()


def test_a_compiler_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_extension, "find_compiler", lambda: "false")
    with pytest.raises(CapabilityError, match="false cannot compile the fused kernels"):
        openvino_extension.library()
    assert not list(tmp_path.rglob("*.so"))


def test_the_name_depends_on_the_version_and_the_compiler() -> None:
    key = openvino_extension._key
    assert key("2026.4.1", "true") == key("2026.4.1", "true")
    assert key("2026.4.1", "true") != key("2026.4.2", "true")
    assert key("2026.4.1", "true") != key("2026.4.1", "uname")


def test_which_files_ask_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<layer type="SRU" version="scconv">', encoding="utf-8")
    (tmp_path / "b.xml").write_text('<layer type="Add" version="opset1">', encoding="utf-8")
    assert openvino_extension.holds_fused_nodes(tmp_path / "a.xml")
    assert not openvino_extension.holds_fused_nodes(tmp_path / "b.xml")
    assert not openvino_extension.holds_fused_nodes(tmp_path / "absent.xml")
