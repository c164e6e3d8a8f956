"""An ONNX graph -> a digest of its structure: is this the graph that it was?

Operators, node names, attributes, who reads what, constants' types and shapes, inputs and outputs count; values of
constants and names of inner values do not (a model that is traced again gets other names). So two graphs of one
digest differ in weights at most.
"""

from __future__ import annotations

import hashlib

import onnx


def fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 of the main graph's structure, in hexadecimal."""
    digest = hashlib.sha256()
    known = {"": "nothing"}
    for value in model.graph.input:
        known[value.name] = f"input {value.name}"
        digest.update(value.SerializeToString(deterministic=True))
    for tensor in model.graph.initializer:
        known[tensor.name] = f"constant {tensor.data_type} {list(tensor.dims)}"
    for index, node in enumerate(model.graph.node):
        reads = [known.get(name, "elsewhere") for name in node.input]
        digest.update(repr((node.domain, node.op_type, node.name, reads, len(node.output))).encode())
        for attribute in node.attribute:
            digest.update(attribute.SerializeToString(deterministic=True))
        known.update((name, f"value {index}.{place}") for place, name in enumerate(node.output) if name)
    for value in model.graph.output:
        digest.update(value.SerializeToString(deterministic=True))
        digest.update(known.get(value.name, "elsewhere").encode())
    return digest.hexdigest()
