"""CRU with merged convolutions: the pieces (up, low) -> (N, C_out, H', W'), the function of ``DeployCRU``.

Which convolutions are merged, why that is exact and when it is refused stands in
:mod:`~scconv_deploy.scconv.merged`; pooling, softmax and the BatchNorm behind the block are those of
:mod:`~scconv_deploy.scconv.deploy_cru`, in float32 where the activations are fp16 or bf16.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scconv_deploy.scconv.deploy_cru import DeployCRU, make_conv, pool
from scconv_deploy.scconv.merged import TWO, merged_convolutions, merged_weights, merges
from scconv_deploy.scconv.spec import CRUSpec, Fuse
from scconv_deploy.scconv.style import GraphStyle


class MergedCRU(DeployCRU):
    """Equations 6 to 9 in two or three convolutions; those of ``DeployCRU`` are not made.

    Args:
        spec: a CRU for which :func:`merges` gives less than five.
        weights: of its five convolutions, by role.
        style: says how few convolutions are wanted.
    """

    def __init__(self, spec: CRUSpec, weights: Mapping[str, Tensor], style: GraphStyle) -> None:
        nn.Module.__init__(self)  # DeployCRU would make its five convolutions
        self.spec = spec
        self.style = style
        self.count = merges(spec, style.cru_convolutions)
        made = merged_weights(spec, weights, self.count)
        for role, geometry in merged_convolutions(spec, self.count).items():
            setattr(self, role, make_conv(geometry, made[f"{role}.weight"], made.get(f"{role}.bias")))
        self.register_buffer("post_scale", None)
        self.register_buffer("post_shift", None)

    def forward(self, up: Tensor, low: Tensor) -> Tensor:
        """Transform and fuse."""
        y1, y2 = self._transform(up, low)
        q1, q2 = pool(y1), pool(y2)
        if self.spec.fuse is Fuse.PAIR:
            p1, p2 = torch.sigmoid(q1 - q2), torch.sigmoid(q2 - q1)
        else:
            p1, p2 = torch.softmax(torch.cat([q1, q2], dim=1), dim=1).chunk(2, dim=1)
        if self.post_scale is None or self.post_shift is None:
            return y1 * p1.to(y1.dtype) + y2 * p2.to(y2.dtype)
        p1, p2 = p1 * self.post_scale, p2 * self.post_scale
        return y1 * p1.to(y1.dtype) + y2 * p2.to(y2.dtype) + self.post_shift

    def _transform(self, up: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        if self.count == TWO:
            y: Tensor = self.get_submodule("y")(self.get_submodule("squeeze")(torch.cat([up, low], dim=1)))
            y1, y2 = y.chunk(2, dim=1)
            return y1, y2
        squeezed = self.get_submodule("squeeze_up")(up)
        return self.get_submodule("y1")(squeezed), self.get_submodule("y2")(low)
