"""Repositories for Triton's own backends and for its python backend, read back by Triton's own protobuf."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

import scconv_deploy
from scconv_deploy.errors import InputError
from scconv_deploy.packaging import model_config as mc
from scconv_deploy.packaging.triton import write_triton
from scconv_deploy.runtime.golden import read_golden
from scconv_deploy.runtime.manifest import read_manifest
from tests.runtime.bundles import read, write_manifest
from tests.serve.bundles import LARGEST, SHAPE, write_bundle

pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")


def parsed(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), pb2.ModelConfig())


def test_a_free_batch_becomes_max_batch_size(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "net")
    folder = write_triton(bundle, tmp_path / "repository")
    assert folder == tmp_path / "repository" / "net"
    found = parsed(folder)
    assert (found.name, found.backend, found.max_batch_size) == ("net", "onnxruntime", LARGEST)
    assert [(i.name, i.data_type, list(i.dims)) for i in found.input] == [("x", pb2.TYPE_FP32, list(SHAPE))]
    assert [(o.name, list(o.dims)) for o in found.output] == [("y", list(SHAPE))]
    assert found.HasField("dynamic_batching")
    assert [g.kind for g in found.instance_group] == [pb2.ModelInstanceGroup.KIND_CPU]
    (warm,) = found.model_warmup
    given = warm.inputs["x"]
    data = (folder / "warmup" / given.input_data_file).read_bytes()
    golden, _ = read_golden(bundle)
    assert np.array_equal(np.frombuffer(data, np.float32).reshape(given.dims), golden["x"][0])
    assert (folder / "1" / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()


def test_a_fixed_batch_is_a_plain_axis(tmp_path: Path) -> None:
    folder = write_triton(write_bundle(tmp_path / "net", batch=2), tmp_path / "r")
    found = parsed(folder)
    assert found.max_batch_size == 0
    assert list(found.input[0].dims) == [2, *SHAPE]
    assert not found.HasField("dynamic_batching")
    assert list(found.model_warmup[0].inputs["x"].dims) == [2, *SHAPE]


def test_the_python_backend_carries_the_whole_bundle(tmp_path: Path) -> None:
    folder = write_triton(write_bundle(tmp_path / "net"), tmp_path / "r", python=True, name="other")
    assert parsed(folder).backend == "python"
    assert folder.name == "other"
    with scconv_deploy.open(folder / "1" / "bundle", threads=1, verify="golden") as engine:
        assert engine.input_names == ("x",)
    source = (folder / "1" / "model.py").read_text()
    assert compile(source, "model.py", "exec")
    assert "class TritonPythonModel" in source


@pytest.mark.parametrize(
    ("runtime", "stored", "wanted", "kind"),
    [
        ("tensorrt", ["model.engine"], {"model.plan"}, "KIND_GPU"),
        ("openvino", ["model.xml", "model.bin"], {"model.xml", "model.bin"}, "KIND_CPU"),
    ],
)
def test_other_backends_want_other_names(
    runtime: str, stored: list[str], wanted: set[str], kind: str, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "net")
    for name in stored:
        (bundle / name).write_bytes(name.encode())
    write_manifest(bundle, read(bundle) | {"runtime": runtime})
    folder = write_triton(bundle, tmp_path / "r")
    assert {p.name for p in (folder / "1").iterdir()} == wanted
    found = parsed(folder)
    assert found.backend == runtime
    assert found.instance_group[0].kind == getattr(pb2.ModelInstanceGroup, kind)
    assert found.optimization.cuda.graphs == (runtime == "tensorrt")


def test_what_triton_cannot_serve_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "net")
    write_manifest(bundle, read(bundle) | {"runtime": "tensorrt-rtx"})
    with pytest.raises(InputError, match="--package triton-python"):
        write_triton(bundle, tmp_path / "r")
    (bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(InputError, match="altered or damaged"):
        write_triton(bundle, tmp_path / "r", python=True)
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_it_is_replaced_only_when_asked_and_a_strangers_folder_never(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "net")
    write_triton(bundle, tmp_path / "r")
    with pytest.raises(InputError, match="--force"):
        write_triton(bundle, tmp_path / "r")
    write_triton(bundle, tmp_path / "r", force=True)
    assert json.loads((tmp_path / "r" / "manifest.json").read_text())["package"] == "triton"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work").write_text("x")
    with pytest.raises(InputError, match="left alone"):
        write_triton(bundle, tmp_path / "mine", force=True)


def test_the_protobuf_accepts_nonsense_that_our_checks_refuse(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "net")
    good = mc.model_config("net", read_manifest(bundle), read_golden(bundle)[0])
    mc.check(good)
    (x,) = good.inputs
    for broken, words in (
        (dataclasses.replace(good, name="a/b"), "is no name"),
        (dataclasses.replace(good, inputs=()), "need names"),
        (dataclasses.replace(good, inputs=(x, x)), "need names"),
        (dataclasses.replace(good, inputs=(dataclasses.replace(x, dims=(3, 0, 4)),)), "above 0, or -1"),
        (dataclasses.replace(good, inputs=(dataclasses.replace(x, dims=(3, -2, 4)),)), "above 0, or -1"),
        (dataclasses.replace(good, warm_up={"x": (3, 4)}), "the warm-up of input 'x'"),
        (dataclasses.replace(good, warm_up={"x": (3, 4, 5)}), "the warm-up of input 'x'"),
        (dataclasses.replace(good, warm_up={}), "the warm-up of input 'x'"),
    ):
        text_format.Parse(mc.text(broken), pb2.ModelConfig())
        with pytest.raises(InputError, match=words):
            mc.check(broken)


def test_names_with_quotes_and_slashes_survive(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "net")
    manifest = read_manifest(bundle)
    odd = 'a "b"/c'
    manifest["inputs"][0]["name"] = odd
    config = mc.model_config("net", manifest, {odd: read_golden(bundle)[0]["x"]})
    found = text_format.Parse(mc.text(config), pb2.ModelConfig())
    assert found.input[0].name == odd
    assert "/" not in found.model_warmup[0].inputs[odd].input_data_file
