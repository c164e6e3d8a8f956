"""Matrix products. Half types are multiplied and summed in float32 and rounded once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scconv_deploy.interpret.node import Node, Run, operator, rounded_once
from scconv_deploy.interpret.values import Call, Value


@operator("MatMul")
def matmul(_node: Node) -> Run:
    """NumPy's matmul."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return torch.matmul(call.tensor(values[0]), call.tensor(values[1]))

    return rounded_once(run)


@operator("Gemm")
def gemm(node: Node) -> Run:
    """alpha A' B' + beta C, where ' transposes on demand."""
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    trans_a, trans_b = node.integer("transA", 0), node.integer("transB", 0)
    bias = node.constant(2)
    is_layer = (
        bool(trans_b) and alpha == beta == 1.0 and (not node.has(2) or (bias is not None and bias.ndim == 1))
    )

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        a, b = call.tensor(values[0]), call.tensor(values[1])
        c = call.optional(values[2]) if len(values) > 2 else None
        a = a.t() if trans_a else a
        if is_layer:
            return F.linear(a, b, c)
        product = torch.matmul(a, b.t() if trans_b else b)
        product = product if alpha == 1.0 else product * alpha
        if c is None:
            return product
        return product + (c if beta == 1.0 else c * beta)

    return rounded_once(run)


@operator("Einsum")
def einsum(node: Node) -> Run:
    """Sums of products by subscripts."""
    equation = node.text("equation", "").replace(" ", "")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return torch.einsum(equation, *[call.tensor(v) for v in values])

    return rounded_once(run)
