"""Deploy module: the function of a whole certified block, computed from constants only.

The halves of the SRU go straight into the squeezes where the split falls on the middle, so that no Concat
stands between the units. See :mod:`~scconv_deploy.scconv.deploy_sru` and
:mod:`~scconv_deploy.scconv.deploy_cru` for the rewrites inside each unit.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scconv_deploy.scconv.deploy_cru import DeployCRU
from scconv_deploy.scconv.deploy_merged import MergedCRU
from scconv_deploy.scconv.deploy_sru import DeploySRU
from scconv_deploy.scconv.merged import AS_WRITTEN, merges
from scconv_deploy.scconv.spec import Order, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle


class DeploySCConv(nn.Module):
    """A whole certified block from its specification and constants; (N, C_in, H, W) -> (N, C_out, H', W').

    Args:
        spec: the certified specification.
        weights: role -> tensor; ``gamma`` and ``beta`` (any shape with C elements) for the SRU,
            ``squeeze_up|squeeze_low|gwc|pwc1|pwc2`` + ``.weight`` (and ``.bias``) for the CRU.
        style: the exact graph forms to use.
    """

    def __init__(
        self, spec: SCConvSpec, weights: Mapping[str, Tensor], style: GraphStyle | None = None
    ) -> None:
        super().__init__()
        style = style or GraphStyle()
        self.spec = spec
        self.style = style
        self.sru = DeploySRU(spec.sru, weights, style) if spec.sru else None
        self.cru: DeployCRU | None = None
        if spec.cru:
            is_merged = merges(spec.cru, style.cru_convolutions) < AS_WRITTEN
            self.cru = (MergedCRU if is_merged else DeployCRU)(spec.cru, weights, style)

    def forward(self, x: Tensor) -> Tensor:
        """Both units in the specification's order."""
        if self.sru is None:
            return self.run_cru(x)
        if self.cru is not None and self.spec.order is Order.CRU_SRU:
            x = self.run_cru(x)
        y_a, y_b = self.sru(x)
        if self.cru is None or self.spec.order is Order.CRU_SRU:
            return torch.cat([y_a, y_b], dim=1)
        if self.cru.spec.up == self.sru.half_channels:
            out: Tensor = self.cru(y_a, y_b)
            return out
        return self.run_cru(torch.cat([y_a, y_b], dim=1))

    @property
    def ends_with_cru(self) -> bool:
        """Whether the block's output is the fuse's, so that a BatchNorm behind it can be folded there."""
        return self.cru is not None and (self.sru is None or self.spec.order is Order.SRU_CRU)

    def run_cru(self, x: Tensor) -> Tensor:
        """The CRU alone, on a whole tensor."""
        if self.cru is None:
            raise RuntimeError("this block has no CRU")
        up = self.cru.spec.up
        out: Tensor = self.cru(x[:, :up], x[:, up:])
        return out
