"""ONNX nodes get names that say which module they came from: ``layer1.0.conv2.sru/Sigmoid_3``.

The torch exporter records each node's module scopes in ``metadata_props``; graph simplifiers and TensorRT
keep node names but not always metadata. With the path in the name, a kernel report or a failed comparison
can be put in the user's own words.
"""

from __future__ import annotations

import ast

import onnx

SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata key of torch's ONNX exporter (torch 2.9 and later): a Python list literal of scope names."""


def rename_nodes(model: onnx.ModelProto) -> None:
    """Rename every node of the main graph to ``<module path>/<operator>_<index>``, in place.

    A node that already has a path in its name (an expanded block's) keeps that path.
    """
    for index, node in enumerate(model.graph.node):
        path = module_path(node) or node.name.rpartition("/")[0]
        node.name = f"{path}/{node.op_type}_{index}" if path else f"{node.op_type}_{index}"


def module_path(node: onnx.NodeProto) -> str:
    """Innermost module path of a node, or an empty string where none was recorded."""
    for prop in node.metadata_props:
        if prop.key == SCOPES:
            scopes = [s for s in ast.literal_eval(prop.value) if isinstance(s, str)]
            # The last entry names the operation itself, the ones before it are module paths.
            return scopes[-2] if len(scopes) >= 2 else ""
    return ""


def strip_metadata(model: onnx.ModelProto) -> None:
    """Drop the exporter's per-node source traces (file names, stack lines) from the main graph.

    They would carry paths of the exporting machine into the artifact and double its text.
    """
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.metadata_props[:]


def belongs_to(node_name: str, path: str) -> bool:
    """Whether a node named by :func:`rename_nodes` lies in the module ``path`` or below it.

    The empty path is the whole model.
    """
    if not path:
        return True
    scope = node_name.rpartition("/")[0]
    return scope == path or scope.startswith(path + ".")
