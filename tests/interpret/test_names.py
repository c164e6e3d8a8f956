"""Node names of three exporters -> module paths; paths are unique and none lies in another child."""

from __future__ import annotations

import pytest
from onnx import helper

from scconv_deploy.interpret.names import SCOPES, assign, keys, module_path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("layer1.0.conv1/Conv_3", "layer1.0.conv1"),
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/features/features.1/conv/conv.0/conv.0.0/Conv", "features.1.conv.0.0"),
        ("/Conv", ""),
        ("node_conv2d_3", ""),
        ("model/conv1/Conv2D", "model.conv1"),
        ("net:v1/type/Conv", "net_v1.type_"),
    ],
)
def test_paths_from_names(name: str, path: str) -> None:
    assert module_path(helper.make_node("Conv", ["x", "w"], ["y"], name=name)) == path


def test_metadata_comes_first_and_the_weight_last() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="wrong/Conv")
    entry = node.metadata_props.add()
    entry.key, entry.value = SCOPES, "['', 'layer2', 'layer2.0', 'layer2.0.conv', 'conv2d_1']"
    assert module_path(node, "other.weight") == "layer2.0.conv"
    entry.value = "not python ("
    assert module_path(node) == "wrong"
    bare = helper.make_node("Conv", ["x", "w"], ["y"])
    assert module_path(bare, "body.3.weight") == "body.3"
    assert module_path(bare, "onnx::Conv_12") == ""


def test_assigned_paths_are_unique_and_apart() -> None:
    wanted = {0: ("a", "Conv"), 1: ("a", "Conv"), 2: ("a.b", "Conv"), 3: ("", "Conv"), 4: ("p", "Conv")}
    made = assign(wanted, taken=["p"])
    paths = [*made.values(), "p"]
    assert made[2] == "a.b"
    assert made[3] == "conv_3"
    assert len(set(paths)) == len(paths)
    assert not any(other.startswith(path + ".") for path in paths for other in paths)


def test_keys_are_names_torch_takes() -> None:
    made = keys(["a.b", "a_b", "type", "", "1x"])
    assert len(set(made.values())) == 5
    assert made["type"] != "type"
    assert all("." not in key and key for key in made.values())
