"""Hostile and damaged ONNX files: one sentence each, nothing opened outside the folder, nothing allocated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import InputError
from scconv_deploy.programs.onnx_file import load
from scconv_deploy.programs.reading import read_model

Model = onnx.ModelProto


def plain() -> Model:
    """``y = x + w``, both 1x2x2x2."""
    w = numpy_helper.from_array(np.ones((1, 2, 2, 2), np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 2, 2, 2)) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"], name="add")], "g", [x], [y], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external(location: str, **facts: str) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **facts}.items():
            tensor.external_data.add(key=key, value=value)

    return change


def gigantic(model: Model) -> None:
    model.graph.initializer[0].dims[:] = [1 << 20, 1 << 20, 4, 4]


def negative(model: Model) -> None:
    model.graph.initializer[0].dims[:] = [1, -2, 2, 2]


def short(model: Model) -> None:
    model.graph.initializer[0].raw_data = b"\0" * 12


def strings(model: Model) -> None:
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"text"]))


def odd_type(model: Model) -> None:
    model.graph.initializer[0].data_type = 99


def unwired(model: Model) -> None:
    model.graph.node[0].input[1] = "nothing"


def cyclic(model: Model) -> None:
    model.graph.node[0].input[1] = "z"
    model.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))


def made_twice(model: Model) -> None:
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y"]))


def foreign(model: Model) -> None:
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def control_flow(model: Model) -> None:
    body = helper.make_graph([], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=body, else_branch=body))


def too_old(model: Model) -> None:
    model.opset_import[0].version = 6


def no_inputs(model: Model) -> None:
    del model.graph.input[:]
    model.graph.node[0].input[0] = "w"


def no_outputs(model: Model) -> None:
    del model.graph.output[:]


def no_nodes(model: Model) -> None:
    del model.graph.node[:]


def unknown_operator(model: Model) -> None:
    model.graph.node[0].op_type = "Levitate"


def shapeless(model: Model) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


CASES: dict[str, tuple[Callable[[Model], None], str]] = {
    "gigantic": (gigantic, "damaged or hostile"),
    "negative extent": (negative, "negative extent"),
    "too few bytes": (short, "12"),
    "strings": (strings, "strings"),
    "unknown type": (odd_type, "unknown type 99"),
    "unwired": (unwired, "no valid ONNX model"),
    "cyclic": (cyclic, "no valid ONNX model"),
    "made twice": (made_twice, "no valid ONNX model"),
    "foreign domain": (foreign, "com.microsoft::Add"),
    "control flow": (control_flow, "If"),
    "opset 6": (too_old, "opset 6"),
    "no inputs": (no_inputs, "no inputs"),
    "no outputs": (no_outputs, "no outputs"),
    "no nodes": (no_nodes, "no nodes"),
    "unknown operator": (unknown_operator, "Levitate"),
    "no shape": (shapeless, "shape"),
    "absolute location": (external("/etc/passwd"), "own folder"),
    "parent location": (external("../secret.bin"), "own folder"),
    "backslash": (external("..\\secret.bin"), "own folder"),
    "no location": (external(""), "own folder"),
    "missing file": (external("weights.bin"), "not there"),
    "a link": (external("link.bin"), "a link"),
    "beyond the end": (external("held.bin", offset="8", length="32"), "belongs to another model"),
    "negative offset": (external("held.bin", offset="-8", length="8"), "belongs to another model"),
    "no number": (external("held.bin", offset="many"), "no number"),
    "2 GB claimed": (external("held.bin", length=str(2**31)), "belongs to another model"),
}


@pytest.mark.parametrize("case", CASES)
def test_hostile_files_end_in_a_sentence(case: str, tmp_path: Path) -> None:
    change, words = CASES[case]
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 32)
    (folder / "held.bin").write_bytes(b"\0" * 32)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = plain()
    change(model)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError) as caught:
        load(folder / "m.onnx", ExportConfig(target="onnx"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files(share: float, tmp_path: Path) -> None:
    data = plain().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError):
        load(path, ExportConfig(target="onnx"))


def test_one_file_cannot_be_counted_as_many(tmp_path: Path) -> None:
    model = plain()
    for name in ("a", "b", "c"):
        model.graph.initializer.append(numpy_helper.from_array(np.ones((8,), np.float32), name))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="held.bin")
    (tmp_path / "held.bin").write_bytes(b"\0" * 32)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"takes 128 bytes of tensors from held\.bin"):
        read_model(tmp_path / "m.onnx")


def test_tensors_beside_the_model_are_read(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    (tmp_path / "held.bin").write_bytes(values.tobytes())
    model = plain()
    external("held.bin", offset="0", length="32")(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    found = read_model(tmp_path / "m.onnx")
    assert np.array_equal(numpy_helper.to_array(found.graph.initializer[0]), values)
