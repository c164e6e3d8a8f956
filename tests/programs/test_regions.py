"""Regions are found by the graph's shape; names only say where they are reported."""

from __future__ import annotations

import ast
from pathlib import Path

import onnx
import pytest

from scconv_deploy.programs import dataflow, reading, regions, shapes
from scconv_deploy.programs.dataflow import Flow, bits
from scconv_deploy.programs.regions import find_regions, node_path
from tests.programs.naive import EXPORTERS, family_net, stripped


def shaped(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("family", ["F1", "F3", "paper"])
def test_a_block_and_its_units(family: str, exporter: str) -> None:
    (region,) = find_regions(shaped(family_net(family, exporter)))
    assert (region.kind, region.path) == ("SCConv", "layers.0")
    assert [(p.kind, p.path) for p in region.parts] == [("SRU", "layers.0.sru"), ("CRU", "layers.0.cru")]
    assert region.parts[0].leaving == region.parts[1].entry
    assert set(region.nodes) == {*region.parts[0].nodes, *region.parts[1].nodes}


def test_shapes_and_names_are_not_needed() -> None:
    (named,) = find_regions(family_net("F3", "tracer"))
    (bare,) = find_regions(stripped(family_net("F3", "tracer")))
    assert bare.nodes == named.nodes
    assert bare.path == "scconv_1"


def test_a_region_has_one_way_in_and_one_way_out() -> None:
    model = shaped(family_net("F3", "tracer"))
    flow = Flow(model)
    (region,) = find_regions(model)
    inside = flow.between(region.entry, region.leaving)
    assert inside is not None
    assert tuple(bits(inside)) == region.nodes
    # The broken twin: a second reader of an inner value opens a second way out.
    inner = flow.nodes[region.nodes[3]].output[0]
    model.graph.node.append(onnx.helper.make_node("Relu", [inner], ["leak"]))
    assert Flow(model).between(region.entry, region.leaving) is None


def test_paths_of_both_exporters_and_our_own() -> None:
    for name, path in {
        "/layer1/layer1.0/conv2/Conv": "layer1.0.conv2",
        "layer1.0.conv2/Conv_3": "layer1.0.conv2",
        "Conv_3": "",
        "": "",
    }.items():
        assert node_path(onnx.helper.make_node("Conv", [], [], name=name)) == path


def test_inspection_needs_no_torch() -> None:
    for module in (dataflow, reading, regions, shapes):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        imported = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        imported += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        assert not any(name.split(".")[0] == "torch" for name in imported)
