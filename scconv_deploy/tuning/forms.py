"""A block's specification, its input shape and candidate styles -> one small ONNX model per different form.

The block stands between two 1x1 convolutions with ReLU, as in a network: what ONNX Runtime pays to bring an
activation from its blocked layout into a block and back is then paid here, too. It is written as an export writes
it, with a BatchNorm folded into the fuse. Weights are random and seeded, since the time does not depend on them;
shapes are fixed. Candidates that write the same operators for this specification are timed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from torch import Tensor

from scconv_deploy.bench.block_graphs import FLOAT, IR_VERSION, random_weights
from scconv_deploy.config import DEFAULT_OPSET
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.operator import BlockPlan
from scconv_deploy.scconv.spec import SCConvSpec
from scconv_deploy.scconv.style import GraphStyle

INPUT, OUTPUT = "x", "y"
PATH = "block"


def different_forms(
    spec: SCConvSpec, shape: Sequence[int], candidates: Mapping[str, GraphStyle], seed: int
) -> dict[str, onnx.ModelProto]:
    """Candidate name -> model (N, C_in, H, W) -> (N, C_out, H', W'), float32; the first of equal ones stays.

    Args:
        spec: of a block that ``emit`` can write.
        shape: of the block's input.
        candidates: name -> style, the rule's first.
        seed: of the weights.
    """
    weights = random_weights(spec, seed)
    found: dict[str, onnx.ModelProto] = {}
    seen: set[bytes] = set()
    for name, style in candidates.items():
        model = _model(spec, shape, weights, style, seed)
        operators = b"".join(node.SerializeToString(deterministic=True) for node in model.graph.node)
        if operators not in seen:
            seen.add(operators)
            found[name] = model
    return found


def _model(
    spec: SCConvSpec, shape: Sequence[int], weights: Mapping[str, Tensor], style: GraphStyle, seed: int
) -> onnx.ModelProto:
    block = DeploySCConv(spec, weights, style).eval()
    if block.cru is not None and block.ends_with_cru:
        block.cru.fold_batch_norm(torch.ones(spec.c_out), torch.zeros(spec.c_out))
    constants = {n: t for n, t in block.state_dict().items() if isinstance(t, Tensor)}
    names = [f"{PATH}:{n}" for n in constants]
    plan = BlockPlan(spec, style, tuple(constants))
    inside, small = emit_block(plan, "given", "made", names, PATH, tuple(shape), FLOAT)
    nodes = [*_point("before", INPUT, "given"), *inside, *_point("after", "made", OUTPUT)]
    tensors = [
        onnx.numpy_helper.from_array(t.contiguous().numpy(), n)
        for n, t in zip(names, constants.values(), strict=True)
    ]
    generator = np.random.default_rng(seed)
    for name, c in (("before", spec.c_in), ("after", spec.c_out)):
        weight = (generator.standard_normal((c, c, 1, 1)) / c**0.5).astype(np.float32)
        tensors.append(onnx.numpy_helper.from_array(weight, f"{name}.weight"))
    graph = onnx.helper.make_graph(
        nodes,
        PATH,
        [onnx.helper.make_tensor_value_info(INPUT, FLOAT, list(shape))],
        [onnx.helper.make_tensor_value_info(OUTPUT, FLOAT, [shape[0], spec.c_out, None, None])],
        [*tensors, *small],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", DEFAULT_OPSET)])
    model.ir_version = IR_VERSION
    return model


def _point(name: str, given: str, made: str) -> list[onnx.NodeProto]:
    """A 1x1 convolution and a ReLU, which the runtime makes one operator of."""
    return [
        onnx.helper.make_node("Conv", [given, f"{name}.weight"], [f"{name}.sum"], name=f"{name}/Conv"),
        onnx.helper.make_node("Relu", [f"{name}.sum"], [made], name=f"{name}/Relu"),
    ]
