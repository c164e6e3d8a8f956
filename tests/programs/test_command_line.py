"""Programs through the command line: exported, verified again, exported again, in every form users have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from scconv_deploy import cli
from tests.programs import archives
from tests.programs.archives import Host
from tests.programs.naive import C, Residual, by_dynamo, by_tracer, family_net, shaken, stripped
from tests.recognition.near_misses import NEAR_MISSES


class CommandLine:
    """Runs commands in this process; answers with their JSON object."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def __call__(self, command: str, *arguments: object, code: int = 0) -> dict[str, Any]:
        got = cli.run(command, [*map(str, arguments), "--json"])
        out, err = self.capsys.readouterr()
        assert got == code, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def export(self, source: Path, *options: str, target: str = "onnx") -> dict[str, Any]:
        """Export, then verify the bundle against the same file without saying anything again."""
        bundle = self.folder / f"bundle{len(list(self.folder.glob('bundle*')))}"
        made = self("export", source, "--target", target, "-o", bundle, *options)
        again = self("verify", bundle, source)
        assert again["verdict"] == "PASS", again
        manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
        assert manifest["verification"]["verdict"] == "PASS", made
        return {**manifest, "folder": bundle}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, capsys)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """``family_net`` keeps its models for all tests."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def saved(model: onnx.ModelProto, folder: Path, **options: Any) -> Path:
    path = folder / "old.onnx"
    onnx.save(copied(model), path, **options)  # saving external data takes the tensors out of the model
    return path


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file as converters write it: every float32 tensor, input and output as float16."""
    model = copied(model)
    graph = model.graph
    stored = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]
    for tensor in stored:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    return model


def blocks(manifest: dict[str, Any]) -> list[str]:
    return [b["path"] for b in manifest["recognition"]["blocks"]]


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return found


def test_a_graph_with_fixed_shapes(run: CommandLine, tmp_path: Path) -> None:
    source = saved(family_net("F3", "dynamo"), tmp_path)
    made = run.export(source)
    assert blocks(made) == ["layers.0"]
    assert made["inputs"][0]["shape"] == [1, 3, 8, 8]
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    assert np.abs(outputs(made["folder"] / "model.onnx", x) - outputs(source, x)).max() < 1e-5


def test_a_file_in_half_precision_built_in_half_precision(run: CommandLine, tmp_path: Path) -> None:
    made = run.export(saved(in_half(family_net("F3", "tracer")), tmp_path), "--precision", "fp16")
    assert blocks(made) == ["layers.0"]
    told = [n for n in made["notes"] if "float16" in n]
    assert len(told) == 1
    assert "in which the artifact was built" not in told[0]


def test_torchscript_needs_its_shape_said_once(run: CommandLine, tmp_path: Path) -> None:
    source = archives.traced(tmp_path / "m.pt", Host("F3").eval())
    made = run.export(source, "--input-shape", "1x3x10x12")
    assert blocks(made) == ["block"]


def test_what_we_exported_can_be_exported_again(run: CommandLine, tmp_path: Path) -> None:
    first = run.export(saved(family_net("F3", "tracer"), tmp_path))
    own = first["folder"] / "model.onnx"
    second = run.export(own)
    named = blocks(second) + [left["path"] for left in second["recognition"]["left_as_is"]]
    assert named  # its block is found, or left with a reason
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    assert np.abs(outputs(second["folder"] / "model.onnx", x) - outputs(own, x)).max() < 1e-5


def test_a_near_miss_and_a_plain_network(run: CommandLine, tmp_path: Path) -> None:
    torch.manual_seed(0)
    near = by_tracer(shaken(dict(NEAR_MISSES)["BatchNorm between"]()), (1, 8, 6, 7))
    made = run.export(saved(near, tmp_path))
    assert not any("SRU" in b and "CRU" in b for b in blocks(made))
    plain = by_tracer(shaken(Residual(nn.Conv2d(C, C, 3, padding=1))))
    made = run.export(saved(plain, tmp_path))
    assert blocks(made) == []
    assert made["recognition"]["left_as_is"] == []


def test_half_programs_say_so_once(run: CommandLine, tmp_path: Path) -> None:
    source = archives.exported(tmp_path / "m.pt2", Host("F1").half(), x=archives.X.half())
    made = run.export(source)
    assert blocks(made) == ["block"]
    assert len([n for n in made["notes"] if "half" in n or "float16" in n]) == 1


def _external(folder: Path) -> Path:
    model = family_net("F1", "tracer")
    return saved(model, folder, save_as_external_data=True, location="weights.bin", size_threshold=0)


def _optimised_by_onnxruntime(folder: Path) -> Path:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "basic.onnx")
    options.log_severity_level = 3
    model = family_net("F3", "tracer").SerializeToString()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return folder / "basic.onnx"


SOURCES: dict[str, Callable[[Path], Path]] = {
    "dynamo": lambda folder: saved(family_net("F2", "dynamo"), folder),
    "older exporter": lambda folder: saved(family_net("F2", "tracer"), folder),
    "onnxsim": lambda folder: saved(family_net("F3", "onnxsim"), folder),
    "no names": lambda folder: saved(stripped(family_net("F3", "tracer")), folder),
    "external data": _external,
    "optimised by ONNX Runtime": _optimised_by_onnxruntime,
    "half": lambda folder: saved(in_half(family_net("F1", "tracer")), folder),
    ".pt2, fixed": lambda folder: archives.exported(folder / "m.pt2", Host("F1")),
    ".pt2, free batch": lambda folder: archives.exported(folder / "m.pt2", Host("F3"), free=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--precision", "fp16")], ids=["fp32", "fp16"])
@pytest.mark.parametrize("target", ["onnx", "trt-rtx"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_form(
    source: str, target: str, options: tuple[str, ...], run: CommandLine, tmp_path: Path
) -> None:
    if target == "trt-rtx":
        pytest.importorskip("tensorrt_rtx")
    assert len(blocks(run.export(SOURCES[source](tmp_path), *options, target=target))) == 1


@pytest.mark.slow
def test_a_plain_network_with_fixed_shapes(run: CommandLine, tmp_path: Path) -> None:
    plain = by_dynamo(shaken(Residual(nn.Conv2d(C, C, 3, padding=1))))
    assert blocks(run.export(saved(plain, tmp_path))) == []
