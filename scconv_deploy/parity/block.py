"""One SCConv block of the graph, ready to be judged: its piece, its gate, its truth, and what to feed it.

Inputs are the reference's own activations (teacher-forced), and two made ones:

* the edge: every norm group has mean exactly 1, and a third of it is 1, so that with beta = 0 and t = 0.5 (what
  every implementation starts from) a third of the gates stands exactly on the threshold;
* low variance: the activations scaled until their standard deviation is that of the norm's eps, without which
  a wrong eps of a hard gate or of a trained network is invisible.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from scconv_deploy.graph.pieces import Piece
from scconv_deploy.graph.units import Units
from scconv_deploy.parity.exact import ExactBlock
from scconv_deploy.scconv.spec import Norm, SRUSpec

WHOLE_MODEL = "the model"
"""Name of the piece where the whole model is one block (its module path is empty)."""


@dataclass(frozen=True, slots=True)
class Block:
    """What is known of one block.

    ``given`` and ``made`` are the reference's activations at its border, the BatchNorm that was folded into
    it included; ``own`` is the user's module of the block and ``norm`` that BatchNorm, both in the type of
    the truth; ``batch`` is the number of samples that the graph takes at once.
    """

    path: str
    piece: Piece
    units: Units
    exact: ExactBlock
    own: nn.Module
    norm: nn.Module | None
    given: Tensor
    made: Tensor
    batch: int

    @property
    def name(self) -> str:
        """The module path as reports have it."""
        return self.path or WHOLE_MODEL

    @torch.no_grad()
    def run_own(self, x: Tensor) -> Tensor:
        """The user's module, and the BatchNorm behind it, on ``x`` in that module's own type.

        In the graph's batches: a program (.onnx, .pt2) may take no others.
        """
        dtype = next((p.dtype for p in self.own.parameters() if p.is_floating_point()), torch.float64)
        out: Tensor = torch.cat([self.own(part) for part in torch.split(x.to(dtype), self.batch)])
        return (out if self.norm is None else self.norm(out)).double()

    def unit(self, name: str) -> str:
        """``layer3.0.conv2.SRU``: a unit in the user's own module path."""
        return f"{self.path}.{name}" if self.path else name


def edge_input(shape: tuple[int, ...], spec: SRUSpec | None) -> Tensor:
    """Input of ``shape`` (N, C, H, W) with every norm group of mean exactly 1, and a third of it 1.

    Each group holds as many 0 as 2, and otherwise 1: small integers, whose sum every arithmetic gives
    exactly. Where the input is 1 the normalised value is exactly 0. The positions differ between groups and
    halves: where both halves hold the same value, a hard gate's reconstruction hides the decision.
    """
    return _edge(shape, spec.groups if spec else 1)


@functools.lru_cache(maxsize=4)
def _edge(shape: tuple[int, ...], groups: int) -> Tensor:
    """Kept, because a network has many blocks of few shapes and sorting is slow; callers copy it."""
    flat = torch.ones(shape[0], groups, int(np.prod(shape[1:])) // groups)
    third = flat.shape[2] // 3
    order = torch.rand(flat.shape, generator=torch.Generator().manual_seed(0)).argsort(dim=2)
    flat.scatter_(2, order[..., :third], 0.0)
    flat.scatter_(2, order[..., third : 2 * third], 2.0)
    return flat.reshape(shape)


def low_variance(given: Tensor, spec: SRUSpec | None) -> Tensor:
    """``given`` in float64, scaled so that eps is as large as what it is added to."""
    x = given.double()
    if spec is None:
        return x
    target = math.sqrt(spec.eps) if spec.norm is Norm.GROUP_NORM else spec.eps
    deviation = float(x.std()) if x.numel() > 1 else 0.0
    return x * (target / deviation) if target > 0.0 and deviation > 0.0 else x


def jittered(given: Tensor, count: int, seed: int) -> Tensor:
    """``count`` samples: the given ones, then variations by a twentieth of their deviation.

    A variation has the activations' own statistics and draws every rounding anew.
    """
    if count <= len(given):
        return given[:count]
    generator = torch.Generator().manual_seed(seed)
    repeats = given[torch.arange(len(given), count) % len(given)]
    noise = torch.randn(repeats.shape, generator=generator)
    return torch.cat([given, repeats + noise * (0.05 * float(given.std()))])
