"""One block of the test network with its truth: what the rooms behind a verdict are given."""

from __future__ import annotations

from functools import cache

import onnx
import torch

from scconv_deploy.config import Precision
from scconv_deploy.graph.pieces import block_piece
from scconv_deploy.graph.units import find_units
from scconv_deploy.parity.block import Block
from scconv_deploy.parity.exact import exact_block
from scconv_deploy.parity.reference import Reference
from tests.parity.nets import EXAMPLE, IMAGE, ready


@cache
def typed(precision: Precision) -> onnx.ModelProto:
    """The good graph with the types of its inner values."""
    return onnx.shape_inference.infer_shapes(ready(precision).graph.model, data_prop=True)


def block_of(path: str, precision: Precision = Precision.FP32, model: onnx.ModelProto | None = None) -> Block:
    """One block with the reference's activations; ``model`` may be a broken one."""
    made = ready(precision)
    graph = typed(precision) if model is None else onnx.shape_inference.infer_shapes(model)
    names = [o.name for o in made.graph.outputs]
    truth = Reference(made.lowered.reference, [IMAGE], names, torch.float64)
    norm = dict(made.lowered.folded)[path]
    record = truth.trace({"image": EXAMPLE.numpy()}, [path, norm])
    certified = next(b for b in made.lowered.recognition.blocks if b.path == path)
    piece = block_piece(graph, path)
    assert piece is not None
    return Block(
        path,
        piece,
        find_units(graph, path),
        exact_block(made.lowered, certified, truth.module),
        truth.module.get_submodule(path),
        truth.module.get_submodule(norm),
        record.inputs[path].float(),
        record.outputs[norm].float(),
        1,
    )
