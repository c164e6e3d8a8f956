"""A candidate specification -> probes whose gates lie exactly at the threshold and on both sides of it.

With ``s = w * (gamma * xhat + beta)`` and ``L = logit(t)``:

* *both sides*: pick one position p per channel and set ``beta = L/w - gamma*xhat(p) +- delta``: the logit at
  p is then ``L +- w*delta``. This pins norm, eps, weight and threshold to about ``delta``, even for a hard
  gate whose output does not show them otherwise. It is done at the input's own scale and at the scale of eps.
* *tie at L = 0*: gamma_c = 0 gives s = 0 exactly (and sigmoid(s) = 0.5 exactly) whatever the input.
* *tie at L != 0*: gamma_c = 2**-70 beside one channel of 1 makes the sum exactly 1 and w_c exactly 2**-70;
  then ``beta_c = s0 * 2**70`` swamps ``gamma_c * xhat`` and gives s = s0 exactly. The source compares the
  rounded sigmoid, so its copy gets an s0 with ``sigmoid(s0) == t`` in float64; ours compares s itself and
  gets ``s0 = L``.
* static masks compare the gamma weight: gamma is chosen so that w is t exactly, and t * (1 +- 1e-9).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from scconv_deploy.recognition.probe import Draft, GammaStyle, Probe, Weights, generator, with_sum
from scconv_deploy.scconv.constants import gamma_weight, gate_logit
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.deploy_sru import normalise
from scconv_deploy.scconv.spec import GammaWeight, Gate, Norm, Order, SCConvSpec, SRUSpec

DELTA = 1e-7
TINY_GAMMA = 2.0**-70
TINY_SOFTMAX = -48.5
"""exp(-48.5) is about 2**-70."""
UNDERFLOW = -800.0
ULPS = 256
TRIES = 16

Shape = tuple[int, int, int, int]


def edge_probes(draft: Draft, spec: SCConvSpec, roles: Mapping[str, str], shape: Shape) -> list[Probe]:
    """All edge probes that can be made for ``spec``; none where its mask is constant or it has no gate."""
    sru = spec.sru
    if sru is None or draft.gamma is None or draft.beta is None:
        return []
    if sru.gate is Gate.STATIC:
        return _static(draft, sru, shape)
    logit = gate_logit(sru.threshold)
    if isinstance(logit, bool):
        return []
    found = [
        _sides(draft, spec, roles, shape, logit, "edge, both sides", 1.0),
        _sides(draft, spec, roles, shape, logit, "edge at the scale of eps", eps_scale(sru) or 1e-6),
    ]
    if logit != 0.0 and sru.gamma_weight in (GammaWeight.SUM, GammaWeight.ABS_SUM):
        # A hard gate away from s = 0 shows the size of w only at its edge.
        for bound in draft.sums:
            for total in (-0.5 * bound, 2.0 * bound):
                name = f"edge at a sum of gamma of {total:.1e}"
                found.append(_sides(draft, spec, roles, shape, logit, name, 1.0, total))
    return found + _tie(draft, sru, shape, logit)


def _sides(
    draft: Draft,
    spec: SCConvSpec,
    roles: Mapping[str, str],
    shape: Shape,
    logit: float,
    name: str,
    scale: float,
    total: float | None = None,
) -> Probe:
    sru = spec.sru
    if sru is None or draft.gamma is None or draft.beta is None:
        raise ValueError("an edge probe needs an SRU")
    style = GammaStyle.POSITIVE_SUM if total is not None and total > 0.0 else GammaStyle.NEGATIVE_SUM
    weights = draft.weights(name, style, biases=scale == 1.0)
    x = draft.image(name, shape) * scale
    image = normalise(sru_input(spec, roles, weights, x), sru, *_unit_affine(sru))[0]
    seen = _seen_positions(spec, image.shape[1], image.shape[2])
    xhat = image.flatten(1)
    pick = torch.randint(0, len(seen), (sru.channels, 1), generator=generator(draft.seed, "p:" + name))
    at = seen[pick]
    if total is not None:
        weights[draft.gamma] = with_sum(weights[draft.gamma], total)
    gamma = weights[draft.gamma].reshape(-1)
    w = gamma_weight(gamma, sru, draft.stored(weights))
    # sigmoid merges a band of logits into t: half an ulp of t divided by its slope t (1 - t).
    band = 2.0**-50 / (sru.threshold * (1.0 - sru.threshold)) / w.abs()
    delta = DELTA * gamma.abs() + 1e-9 * (logit / w).abs() + band
    side = torch.where(torch.arange(sru.channels) % 2 == 0, 1.0, -1.0)
    beta = logit / w - gamma * xhat.gather(1, at)[:, 0] + side * delta
    weights[draft.beta] = beta.reshape(draft.shapes[draft.beta])
    return Probe(name, x, weights, weights, edge=True)


def _seen_positions(spec: SCConvSpec, height: int, width: int) -> Tensor:
    """Flat positions of the SRU's output that reach the block's: strided squeezes skip the others."""
    rows, columns = 1, 1
    if spec.cru is not None and spec.order is Order.SRU_CRU:
        rows, columns = spec.cru.squeeze_up.stride
    grid = torch.arange(height * width).reshape(height, width)
    return grid[::rows, ::columns].reshape(-1)


def eps_scale(sru: SRUSpec) -> float:
    """The input scale at which eps is half of the denominator."""
    return sru.eps if sru.norm is Norm.GROUP_STD else math.sqrt(sru.eps)


def sru_input(spec: SCConvSpec, roles: Mapping[str, str], weights: Weights, x: Tensor) -> Tensor:
    """What reaches the SRU: x, or the CRU's output where that comes first."""
    if spec.cru is None or spec.order is Order.SRU_CRU:
        return x
    alone = DeploySCConv(SCConvSpec(None, spec.cru), {r: weights[n] for r, n in roles.items()})
    with torch.no_grad():
        y: Tensor = alone(x)
    return y


def _unit_affine(sru: SRUSpec) -> tuple[Tensor, Tensor]:
    ones = torch.ones(sru.channels, dtype=torch.float64)
    return ones, torch.zeros_like(ones)


def _tie(draft: Draft, sru: SRUSpec, shape: Shape, logit: float) -> list[Probe]:
    if draft.gamma is None or draft.beta is None:
        return []
    name = "tie at the threshold"
    weights = draft.weights(name, GammaStyle.POSITIVE_SUM)
    x = draft.image(name, shape)
    if logit == 0.0:
        tied = (torch.arange(sru.channels) % 3 == 0).reshape(draft.shapes[draft.gamma])
        weights[draft.gamma] = weights[draft.gamma].masked_fill(tied, 0.0)
        if draft.weight is not None:
            # s = 0 by w alone, so that the tie also shows where the normalised tensor is what is gated.
            zero = tied.reshape(draft.shapes[draft.weight])
            weights[draft.weight] = weights[draft.weight].masked_fill(zero, 0.0)
        elif sru.gamma_weight in (GammaWeight.SOFTMAX, GammaWeight.NONE):
            # w is not 0 here, so beta must be 0, too; for the others w = 0 alone makes s = 0.
            zero = tied.reshape(draft.shapes[draft.beta])
            weights[draft.beta] = weights[draft.beta].masked_fill(zero, 0.0)
        return [Probe(name, x, weights, weights, edge=True)]
    made = _tied_affine(sru, logit)
    if made is None:
        return []
    gamma, theirs, ours = made
    weights[draft.gamma] = gamma.reshape(draft.shapes[draft.gamma])
    if draft.weight is not None:
        weights[draft.weight] = gamma.reshape(draft.shapes[draft.weight])
    mine = dict(weights)
    for target, value in ((weights, theirs), (mine, ours)):
        beta = _first_then(1.0, value, sru.channels)
        target[draft.beta] = beta.reshape(draft.shapes[draft.beta])
    return [Probe(name, x, weights, mine, edge=True)]


def _tied_affine(sru: SRUSpec, logit: float) -> tuple[Tensor, float, float] | None:
    """Gamma, and the betas for the source's sigmoid at t and our logit at L; None where no float does."""
    source = tied_logit(sru.threshold)
    if source is None:
        return None
    softmax = sru.gamma_weight is GammaWeight.SOFTMAX
    for step in range(TRIES):
        rest = TINY_SOFTMAX - step / TRIES if softmax else TINY_GAMMA * (1.0 + step / TRIES)
        gamma = _first_then(0.0 if softmax else 1.0, rest, sru.channels)
        w = gamma_weight(gamma, sru, {"weight": gamma})[-1]
        theirs, ours = _beta_for(w, source), _beta_for(w, logit)
        if theirs is not None and ours is not None:
            return gamma, theirs, ours
    return None


def _first_then(first: float, rest: float, count: int) -> Tensor:
    """``[first, rest, rest, ...]`` in float64 (torch.where would round Python floats to float32)."""
    values = torch.full((count,), rest, dtype=torch.float64)
    values[0] = first
    return values


def tied_logit(threshold: float) -> float | None:
    """The middle of the float64 numbers ``s`` with ``sigmoid(s) == threshold``; None where there is none."""
    ladder = _neighbours(math.log(threshold) - math.log1p(-threshold))
    hits = ladder[torch.sigmoid(ladder) == threshold]
    # The vectorised kernel and the one for the last few elements may round differently: both must hit.
    both = [float(hit) for hit in hits if float(torch.sigmoid(hit)) == threshold]
    return both[len(both) // 2] if both else None


def _beta_for(w: Tensor, logit: float) -> float | None:
    """``beta`` with ``w * beta == logit`` exactly in float64, or None."""
    ladder = _neighbours(logit / float(w))
    hits = torch.nonzero(ladder * w == logit).reshape(-1)
    return float(ladder[hits[len(hits) // 2]]) if len(hits) else None


def _neighbours(value: float) -> Tensor:
    """The float64 numbers within ULPS steps of ``value``, ascending in magnitude."""
    bits = torch.tensor(value, dtype=torch.float64).view(torch.int64)
    return (bits + torch.arange(-ULPS, ULPS + 1)).view(torch.float64)


def _static(draft: Draft, sru: SRUSpec, shape: Shape) -> list[Probe]:
    """Static masks: the weight of channel 0 at the threshold, just above it and just below it."""
    if draft.gamma is None:
        return []
    t = sru.threshold
    # No gate moves with eps here: an input at its scale shows it in the sigmoid itself.
    faint = draft.weights("scale of eps", GammaStyle.DOMINANT, biases=False)
    x = draft.image("scale of eps", shape) * (eps_scale(sru) or 1e-6)
    found = [Probe("input at the scale of eps", x, faint, faint)]
    if not 0.0 < t < 1.0 or sru.gamma_weight in (GammaWeight.NONE, GammaWeight.STORED):
        return found
    for label, value in (("tie", t), ("above", t * (1 + 1e-9)), ("below", t * (1 - 1e-9))):
        gamma = _gamma_with_weight(sru, value, exact=label == "tie")
        if gamma is None:
            continue
        name = f"gamma weight at the threshold, {label}"
        weights = draft.weights(name, GammaStyle.POSITIVE_SUM)
        weights[draft.gamma] = gamma.reshape(draft.shapes[draft.gamma])
        found.append(Probe(name, draft.image(name, shape), weights, weights, edge=True))
    return found


def _gamma_with_weight(sru: SRUSpec, value: float, *, exact: bool) -> Tensor | None:
    """Gamma whose first weight is ``value``, the rest shared so that rounding cannot depend on the kernel."""
    if sru.gamma_weight is GammaWeight.SOFTMAX:
        return _softmax_with_weight(sru.channels, value, exact=exact)
    gamma = torch.zeros(sru.channels, dtype=torch.float64)
    gamma[1] = 1.0 - value
    guess = value * (1.0 - value + sru.weight_eps) / (1.0 - value)
    for step in _neighbours(guess).tolist() if exact else [guess]:
        gamma[0] = step
        if not exact or float(gamma_weight(gamma, sru)[0]) == value:
            return gamma
    return None


def _softmax_with_weight(channels: int, value: float, *, exact: bool) -> Tensor | None:
    """As above for softmax. Exact only for 1/k, by k equal gammas: others depend on the kernel's rounding."""
    gamma = torch.full((channels,), UNDERFLOW, dtype=torch.float64)
    if not exact:
        gamma[0], gamma[1] = math.log(value), math.log1p(-value)
        return gamma
    equal = round(1.0 / value)
    gamma[: min(equal, channels)] = 0.0
    return gamma if equal <= channels and 1.0 / equal == value else None
