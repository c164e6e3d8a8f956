"""One ONNX node for a whole block while tracing, where PyTorch would record sixty.

Tracing cost grows with the number of nodes: a ResNet-50 whose blocks are spelled out in PyTorch operators
takes five times as long to export as the plain one. :func:`with_block_operators` swaps every
:class:`DeploySCConv` that :mod:`scconv_deploy.scconv.emit` can write for a module that records one
``scconv_deploy::Block`` node (``torch.onnx.ops.symbolic``, torch 2.8 and later); after tracing,
:mod:`scconv_deploy.graph.expand` puts the emitter's operators in its place.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.spec import ConvSpec, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle

DOMAIN = "scconv_deploy"
OPERATOR = "Block"
PLAN = "plan"
"""Name of the node's attribute that holds the :class:`BlockPlan`."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """Everything about a block but its constants: serialised into the traced node's attribute."""

    spec: SCConvSpec
    style: GraphStyle
    constants: tuple[str, ...]
    """Names of the constants in the order in which they follow ``x``."""

    def to_text(self) -> str:
        """JSON text; inverse of :meth:`from_text`."""
        return json.dumps(
            {
                "spec": self.spec.to_json(),
                "style": asdict(self.style),
                "constants": list(self.constants),
            },
            sort_keys=True,
        )

    @classmethod
    def from_text(cls, text: str) -> BlockPlan:
        """Parse :meth:`to_text`'s result."""
        data: dict[str, Any] = json.loads(text)
        return cls(
            SCConvSpec.from_json(data["spec"]),
            GraphStyle(**data["style"]),
            tuple(data["constants"]),
        )


class BlockCall(nn.Module):
    """Stands for a DeploySCConv while tracing; same inputs, outputs and constants."""

    def __init__(self, block: DeploySCConv) -> None:
        super().__init__()
        constants = {name: t for name, t in block.state_dict().items() if isinstance(t, Tensor)}
        self.plan = BlockPlan(
            block.spec,
            block.style,
            tuple(constants),
        )
        self._names = [name.replace(".", "_") for name in constants]
        for name, tensor in zip(self._names, constants.values(), strict=True):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        """One operator call."""
        constants = [cast(Tensor, getattr(self, name)) for name in self._names]
        made: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{OPERATOR}",
            (x, *constants),
            attrs={PLAN: self.plan.to_text()},
            dtype=x.dtype,
            shape=output_shape(x, self.plan.spec),
            version=1,
        )
        return made


def output_shape(x: Tensor, spec: SCConvSpec) -> tuple[Any, ...]:
    """(N, C_out, H', W') for x of (N, C_in, H, W); sizes may be symbolic while tracing."""
    height, width = x.shape[2], x.shape[3]
    if spec.cru is not None:
        for conv in (spec.cru.squeeze_up, spec.cru.gwc):
            height, width = _out(height, conv, 0), _out(width, conv, 1)
    return (x.shape[0], spec.c_out, height, width)


def with_block_operators(model: nn.Module, can_emit: Any) -> nn.Module:
    """Replace, in place, every DeploySCConv whose specification ``can_emit`` accepts; shared stays shared."""
    made: dict[int, BlockCall] = {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(module, DeploySCConv) or not can_emit(module.spec):
            continue
        call = made.setdefault(id(module), BlockCall(module))
        if not path:
            return call
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, call)
    return model


def _out(size: Any, conv: ConvSpec, axis: int) -> Any:
    reach = conv.dilation[axis] * (conv.kernel[axis] - 1)
    # Keeping "same" convolutions free of arithmetic keeps symbolic sizes simple.
    if conv.stride[axis] == 1 and 2 * conv.padding[axis] == reach:
        return size
    return (size + 2 * conv.padding[axis] - reach - 1) // conv.stride[axis] + 1
