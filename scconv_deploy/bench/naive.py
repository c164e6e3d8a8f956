"""A user's module -> ONNX bytes the way a user without this package writes them: the exporter's defaults.

The comparison partner of the benchmark: torch.onnx.export(dynamo=True) at opset 20, no rewriting, no
simplifier, and Python's own ``sum``, which unrolls over a parameter. For an SCConv-ResNet-50 this takes
one to two minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import DEFAULT_OPSET
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import example_tensors
from scconv_deploy.interpret.names import module_path
from scconv_deploy.quiet import quiet_exporter


def naive_export(module: nn.Module, inputs: Sequence[TensorSpec], batches: Sequence[int], seed: int) -> bytes:
    """Export at the optimum shapes; the batch axis is static for one batch size and free for several.

    Raises:
        InputError: the exporter cannot trace the module.
    """
    free = len(set(batches)) > 1
    # torch.export treats an axis of size 1 as a constant, so a free one is traced at 2 or more.
    batch = max(2, *batches) if free else batches[0]
    example = example_tensors(inputs, seed, {s.name: (batch, *s.optimum[1:]) for s in inputs})
    dynamic: tuple[dict[int, Any], ...] | None = None
    if free:
        dynamic = tuple({0: torch.export.Dim("batch", min=1)} for _ in inputs)
    try:
        with torch.no_grad(), quiet_exporter():
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=DEFAULT_OPSET,
                input_names=[s.name for s in inputs],
                dynamic_shapes=dynamic,
                verbose=False,
            )
    except Exception as error:
        cause = str(error.__cause__ or error).strip().splitlines()
        raise InputError(f"the naive ONNX export fails: {cause[0][:300] if cause else error}") from error
    if program is None:
        raise InputError("the naive ONNX export fails: torch.onnx returned nothing")
    model = program.model_proto
    name_by_module(model)
    return bytes(model.SerializeToString())


def name_by_module(model: onnx.ModelProto) -> None:
    """Name every node whose metadata tell its module ``<module path>/<operator>_<n>``, as our exports do.

    Names only: so a profile of this graph can be laid beside the blocks it computes.
    """
    for index, node in enumerate(model.graph.node):
        path = module_path(node)
        if path:
            node.name = f"{path}/{node.op_type}_{index}"
