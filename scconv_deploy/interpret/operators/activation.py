"""Activations. Those of several torch calls are computed in float32 for half types and rounded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scconv_deploy.interpret.node import Node, Run, of_one, operator, rounded_once
from scconv_deploy.interpret.values import Call, Value

Function = Callable[[Tensor], Tensor]


def _of_one(function: Function) -> Run:
    return rounded_once(of_one(function))


@operator("Relu")
def relu(_node: Node) -> Run:
    """max(0, x); exact."""
    return _of_one(torch.relu)


@operator("Sigmoid")
def sigmoid(_node: Node) -> Run:
    """1 / (1 + exp(-x))."""
    return _of_one(torch.sigmoid)


@operator("Tanh")
def tanh(_node: Node) -> Run:
    """Hyperbolic tangent."""
    return _of_one(torch.tanh)


@operator("LeakyRelu")
def leaky_relu(node: Node) -> Run:
    """x, or alpha x where x is negative."""
    alpha = node.number("alpha", 0.01)
    return _of_one(lambda x: F.leaky_relu(x, alpha))


@operator("Elu")
def elu(node: Node) -> Run:
    """x, or alpha (exp(x) - 1) where x is negative."""
    alpha = node.number("alpha", 1.0)
    return _of_one(lambda x: F.elu(x, alpha))


@operator("Celu")
def celu(node: Node) -> Run:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    alpha = node.number("alpha", 1.0)
    return _of_one(lambda x: F.celu(x, alpha))


@operator("Selu")
def selu(node: Node) -> Run:
    """gamma * (x, or alpha (exp(x) - 1) where x is negative)."""
    alpha = node.number("alpha", 1.67326319217681884765625)
    gamma = node.number("gamma", 1.05070102214813232421875)
    return _of_one(lambda x: F.elu(x, alpha) * gamma)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node) -> Run:
    """x above alpha, else 0."""
    alpha = node.number("alpha", 1.0)
    return _of_one(lambda x: F.threshold(x, alpha, 0.0))


@operator("HardSigmoid")
def hard_sigmoid(node: Node) -> Run:
    """clamp(alpha x + beta, 0, 1)."""
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    return _of_one(lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0))


@operator("HardSwish")
def hard_swish(_node: Node) -> Run:
    """x * clamp(x / 6 + 1 / 2, 0, 1)."""
    return _of_one(F.hardswish)


@operator("Softplus")
def softplus(_node: Node) -> Run:
    """log(1 + exp(x)).

    torch replaces it by x above a threshold; 40 is where that is exact in float64 as well.
    """
    return _of_one(lambda x: F.softplus(x, 1.0, 40.0 if x.dtype is torch.float64 else 20.0))


@operator("Softsign")
def softsign(_node: Node) -> Run:
    """x / (1 + |x|)."""
    return _of_one(F.softsign)


@operator("Mish")
def mish(_node: Node) -> Run:
    """x * tanh(softplus(x))."""
    return _of_one(F.mish)


@operator("Gelu")
def gelu(node: Node) -> Run:
    """x Phi(x), exactly or by the tanh formula."""
    approximate = node.text("approximate", "none")
    return _of_one(lambda x: F.gelu(x, approximate=approximate))


@operator("PRelu")
def prelu(_node: Node) -> Run:
    """x, or slope * x where x is negative; the slope broadcasts to x."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, slope = call.tensor(values[0]), call.tensor(values[1])
        return torch.where(x < 0, slope * x, x)

    return run


@operator("Softmax", "LogSoftmax")
def softmax(node: Node) -> Run:
    """Along one axis from opset 13 on; before, over all axes from ``axis`` to the last together."""
    function = torch.softmax if node.proto.op_type == "Softmax" else torch.log_softmax
    together = node.opset < 13
    axis = node.integer("axis", 1 if together else -1)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        at = axis % x.ndim
        if not together or at == x.ndim - 1:
            return function(x, at)
        return function(x.flatten(at), at).reshape(x.shape)

    return rounded_once(run)
