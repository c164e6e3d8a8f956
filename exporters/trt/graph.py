"""A traced graph -> the ONNX bytes that TensorRT's parser may safely see.

Three of the parser's habits are dangerous, and are kept from it here (design/tensorrt.md, traps 3 and 4):

* It resolves model-local functions by name alone: ``scconv::Softmax`` becomes the standard Softmax, and two
  functions of one name in two domains share the first body. Both give wrong numbers without a word, so all
  functions are inlined first.
* A plugin node may abort the whole process. So every operator must be of the ONNX standard.
* Bytes carry no folder, so weights stored in external files could not be found.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import inliner

from scconv_deploy.errors import BuildError
from scconv_deploy.scconv.fused_ops import DOMAIN

STANDARD_DOMAINS = ("", "ai.onnx")
LIMIT_BYTES = 2**31 - 1
"""Protocol buffers cannot be longer."""


def self_contained(model: onnx.ModelProto, plugins: bool = False) -> onnx.ModelProto:
    """Return ``model`` with its local functions inlined; the argument stays as it is.

    With ``plugins``, our own operators stay, each with its function; the builder then gets what
    :mod:`exporters.trt.plugin_graph` makes of it.

    Raises:
        BuildError: an operator is not of the ONNX standard, or a weight lies in an external file.
    """
    allowed = (*STANDARD_DOMAINS, DOMAIN) if plugins else STANDARD_DOMAINS
    inlined = _inlined(model, DOMAIN if plugins else None)
    for node in _nodes(inlined.graph):
        if node.domain not in allowed:
            raise BuildError(
                f"node '{node.name or node.output[0]}' is the operator {node.domain}::{node.op_type}, "
                "which is not of the ONNX standard, and TensorRT may abort the process on such a node; "
                "export with --form standard"
            )
    for weight in inlined.graph.initializer:
        if weight.data_location == onnx.TensorProto.EXTERNAL:
            raise BuildError(
                f"weight '{weight.name}' lies in an external file, where TensorRT cannot find it; "
                "load the model with its external data first"
            )
    return inlined


def serialise(model: onnx.ModelProto) -> bytes:
    """The bytes of ``model``, equal for equal models.

    Raises:
        BuildError: the model is longer than the format allows.
    """
    size = model.ByteSize()
    if size > LIMIT_BYTES:
        raise BuildError(
            f"the graph takes {size / 2**30:.1f} GiB and an ONNX file can hold at most 2 GiB; "
            "export a smaller model or a lower precision"
        )
    return bytes(model.SerializeToString(deterministic=True))


def _inlined(model: onnx.ModelProto, kept: str | None) -> onnx.ModelProto:
    """Without functions, but for those of the domain ``kept``."""
    named = [(f.domain, f.name) for f in model.functions if f.domain != kept]
    return inliner.inline_selected_functions(model, named) if named else model


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those in the bodies of If, Loop and Scan included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for body in attribute.graphs:
                    yield from _nodes(body)
