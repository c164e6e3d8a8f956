"""Group-std norm: x -> gamma * (x - mean) / (std + eps) + beta over groups of the flat (C, H, W) vector.

What most copies call ``GroupBatchnorm2d``. It differs from ``torch.nn.GroupNorm`` in three ways that matter:
the standard deviation is unbiased, eps stands outside the root, and groups need not divide the channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scconv_deploy.errors import InputError

AffineNames = tuple[str, str]
"""Names of the scale and shift parameters: ("gamma", "beta") in F0 and F1, ("weight", "bias") in F2."""


class GroupStdNorm2d(nn.Module):
    """(N, C, H, W) -> (N, C, H, W), any floating dtype.

    With C not divisible by ``groups`` the groups cut across channel borders and depend on H*W; C*H*W must
    then still be divisible, else the forward raises as the source's ``view`` does.

    Args:
        channels: C.
        groups: number of groups, 1 to C.
        eps: added to the standard deviation, outside the root.
        names: attribute names of scale and shift; both have shape (C, 1, 1). The scale starts at random
            normal values, as in the source, so its sum may be negative.

    Raises:
        InputError: ``groups`` is out of range.
    """

    def __init__(
        self, channels: int, groups: int = 16, eps: float = 1e-10, names: AffineNames = ("weight", "bias")
    ) -> None:
        super().__init__()
        if not 1 <= groups <= channels:
            raise InputError(f"a group-std norm of {channels} channels cannot have {groups} groups")
        self.groups = groups
        self.eps = eps
        self.names = names
        self.register_parameter(names[0], nn.Parameter(torch.randn(channels, 1, 1)))
        self.register_parameter(names[1], nn.Parameter(torch.zeros(channels, 1, 1)))

    @property
    def scale(self) -> Tensor:
        """gamma, (C, 1, 1), whatever its name is."""
        return self.get_parameter(self.names[0])

    @property
    def shift(self) -> Tensor:
        """beta, (C, 1, 1), whatever its name is."""
        return self.get_parameter(self.names[1])

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the unbiased standard deviation of each flat group."""
        n, c, h, w = x.shape
        x = x.reshape(n, self.groups, -1)
        mean = x.mean(dim=2, keepdim=True)
        std = x.std(dim=2, keepdim=True)
        x = (x - mean) / (std + self.eps)
        x = x.view(n, c, h, w)
        return x * self.scale + self.shift
