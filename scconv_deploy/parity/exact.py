"""A certified block in float64, computed from its specification and the user's own parameters: the truth.

Every step is kept (the gate's logits, the mask, the halves between the units, the output), so that a graph
can be compared unit by unit. Decisions that lie on the threshold but for float64's own rounding are put
exactly on it (:data:`TIE`), where ``>`` and ``>=`` part.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import LoweredModel, RecognisedBlock
from scconv_deploy.scconv.constants import above, gamma_weight, gate_logit
from scconv_deploy.scconv.deploy_cru import DeployCRU
from scconv_deploy.scconv.deploy_sru import normalise
from scconv_deploy.scconv.spec import Gate, Gated, Order, Reconstruct, SCConvSpec, SRUSpec
from scconv_deploy.scconv.style import GraphStyle

TIE = 1e-11
"""A gate's distance from its threshold, relative to the largest logit of its sample, below which float64
itself cannot say on which side it is: sums over 10^6 values are exact to some 1e-13."""


@dataclass(frozen=True, slots=True)
class Steps:
    """One block's values in float64.

    ``given`` is the SRU's own input (N, C, H, W); ``distance`` is ``s - logit(t)``, exactly 0 on a tie, and
    ``scale`` (N, 1, 1, 1) the largest ``|s|`` of each sample; both, and ``mask`` (bool), are None where no
    decision depends on the input. ``halves`` is (N, C, H, W), y_a before y_b; ``out`` the block's output.
    """

    given: Tensor | None
    distance: Tensor | None
    scale: Tensor | None
    mask: Tensor | None
    halves: Tensor | None
    out: Tensor
    crus_input: Tensor | None = None
    """What the CRU reads: the halves, or the block's own input where it runs first or alone."""

    @property
    def margin(self) -> Tensor | None:
        """Relative distance of every gate from its threshold, ``|s - logit(t)| / max |s|``."""
        if self.distance is None or self.scale is None:
            return None
        return self.distance.abs() / self.scale

    def first(self, count: int) -> Steps:
        """The steps of the first ``count`` samples."""

        def cut(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[:count]

        return Steps(
            cut(self.given),
            cut(self.distance),
            cut(self.scale),
            cut(self.mask),
            cut(self.halves),
            self.out[:count],
            cut(self.crus_input),
        )


class ExactBlock:
    """The function of one certified block, in float64.

    Args:
        spec: its specification.
        weights: role -> tensor of any floating type, as the user's module stores them.
        norm: a BatchNorm behind the block that belongs to it in the graph, if any.
    """

    def __init__(self, spec: SCConvSpec, weights: Mapping[str, Tensor], norm: nn.Module | None) -> None:
        wide = {role: tensor.detach().double() for role, tensor in weights.items()}
        self.spec = spec
        self.weights = wide
        self.norm = None if norm is None else copy.deepcopy(norm).double()
        self.cru = DeployCRU(spec.cru, wide, GraphStyle()) if spec.cru else None
        self.sru = _ExactSRU(spec.sru, wide) if spec.sru else None

    @property
    def cru_first(self) -> bool:
        """Whether the CRU runs before the SRU."""
        return self.spec.order is Order.CRU_SRU and self.cru is not None and self.sru is not None

    @torch.no_grad()
    def rounding(self, steps: Steps, dtype: torch.dtype, everywhere: bool) -> Tensor:
        """How far ``dtype`` alone moves the CRU's output from ``steps``, per sample (N), in float64.

        Only its weights rounded, or ``everywhere``: run in that type. Large pooled values make the softmax
        between the branches ill-conditioned: in an untrained paper ResNet-50 rounded weights alone move a
        block by 3 % of its scale, in every correct export.
        """
        given = steps.crus_input
        if self.cru is None or given is None or dtype is torch.float32:
            return torch.zeros(len(steps.out), dtype=torch.float64)
        weights = {role: tensor.to(dtype) for role, tensor in self.weights.items()}
        if not everywhere:
            weights = {role: tensor.double() for role, tensor in weights.items()}
        cru, up = DeployCRU(self.cru.spec, weights, GraphStyle()), self.cru.spec.up
        x = given.to(dtype) if everywhere else given
        moved, still = cru(x[:, :up], x[:, up:]).double(), self.cru(given[:, :up], given[:, up:])
        if not self.cru_first:
            moved, still = self._after(moved), self._after(still)
        difference: Tensor = (moved - still).abs().flatten(1).amax(dim=1)
        return difference.nan_to_num(nan=0.0, posinf=0.0)

    @torch.no_grad()
    def run(self, x: Tensor) -> Steps:
        """All steps for ``x`` (N, C_in, H, W)."""
        x = x.double()
        if self.sru is None:
            return Steps(None, None, None, None, None, self._after(self.run_cru(x)), x)
        if self.cru_first:
            return replace(self.from_sru(self.run_cru(x)), crus_input=x)
        return self.from_sru(x)

    @torch.no_grad()
    def from_sru(self, given: Tensor, only_gate: bool = False) -> Steps:
        """All steps from the SRU's own input on; with ``only_gate`` nothing behind the decision.

        Raises:
            ValueError: the block has no SRU.
        """
        if self.sru is None:
            raise ValueError("this block has no SRU")
        given = given.double()
        s, gated = self.sru.logits(given)
        distance, scale, mask = self.sru.decide(s)
        if only_gate:
            return Steps(given, distance, scale, mask, None, given)
        halves = self.sru.reconstruct(s, gated, mask)
        out = halves if self.cru is None or self.cru_first else self.run_cru(halves)
        return Steps(given, distance, scale, mask, halves, self._after(out), halves)

    @torch.no_grad()
    def run_cru(self, x: Tensor) -> Tensor:
        """The CRU alone, in float64; ``x`` itself where there is none."""
        if self.cru is None:
            return x.double()
        x, up = x.double(), self.cru.spec.up
        made: Tensor = self.cru(x[:, :up], x[:, up:])
        return made

    def _after(self, out: Tensor) -> Tensor:
        if self.norm is None:
            return out
        made: Tensor = self.norm(out)
        return made


class _ExactSRU:
    """Equations 1 to 5 with the gate's decision as a step of its own."""

    def __init__(self, spec: SRUSpec, weights: Mapping[str, Tensor]) -> None:
        self.spec = spec
        self.gamma = weights["gamma"].reshape(-1)
        self.beta = weights["beta"].reshape(-1)
        self.weight = gamma_weight(self.gamma, spec, weights)
        self.bound = gate_logit(spec.threshold)

    @property
    def dynamic(self) -> bool:
        """Whether decisions depend on the input."""
        return self.spec.gate is not Gate.STATIC and not isinstance(self.bound, bool)

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``s`` and the tensor that is gated."""
        normalised = normalise(x, self.spec, self.gamma, self.beta)
        s = normalised * self.weight.view(-1, 1, 1)
        return s, normalised if self.spec.gated is Gated.NORMALISED else x

    def decide(self, s: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Distance from the threshold, the sample's largest |s|, and the mask."""
        if not self.dynamic or isinstance(self.bound, bool):
            return None, None, None
        scale = s.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(s.dtype).tiny)
        distance = s - self.bound
        distance = torch.where(distance.abs() <= TIE * scale, 0.0, distance)
        return distance, scale, above(distance, 0.0, self.spec.comparison)

    def reconstruct(self, s: Tensor, gated: Tensor, mask: Tensor | None) -> Tensor:
        """Both halves, y_a before y_b."""
        kept, rest = self._branches(s, gated, mask)
        h = self.spec.channels // 2
        if self.spec.reconstruct is Reconstruct.CROSS:
            return torch.cat([kept[:, :h] + rest[:, h:], kept[:, h:] + rest[:, :h]], dim=1)
        return torch.cat([kept[:, :h] + kept[:, h:], rest[:, :h] + rest[:, h:]], dim=1)

    def _branches(self, s: Tensor, gated: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if mask is None:
            constant = isinstance(self.bound, bool) and self.spec.gate is not Gate.STATIC
            chosen = (
                torch.full_like(self.weight, float(self.bound)) > 0
                if constant
                else above(self.weight, self.spec.threshold, self.spec.comparison)
            )
            mask = chosen.view(-1, 1, 1).expand(s.shape)
        if self.spec.gate is Gate.HARD:
            return torch.where(mask, gated, 0.0), torch.where(mask, 0.0, gated)
        r = torch.sigmoid(s)
        if self.spec.gate is Gate.STATIC:
            return torch.where(mask, r * gated, 0.0), torch.where(mask, 0.0, r * gated)
        kept = torch.where(mask, gated, r * gated)
        if self.spec.gate is Gate.SOFT:
            return kept, torch.where(mask, 0.0, r * gated)
        return kept, torch.where(mask, r * gated, 0.0)


def exact_block(lowered: LoweredModel, block: RecognisedBlock, source: nn.Module) -> ExactBlock:
    """The truth of one block of the user's module.

    Args:
        lowered: says which BatchNorm the graph computes inside the block.
        block: the certified block.
        source: the user's own model, from which parameters and BatchNorm are taken.
    """
    norms = dict(lowered.folded)
    weights = {role: _tensor(source, name) for role, name in block.parameters.items()}
    norm = source.get_submodule(norms[block.path]) if block.path in norms else None
    return ExactBlock(block.spec, weights, norm)


def _tensor(model: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(owner), attribute)
    return tensor
