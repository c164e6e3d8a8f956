"""Family name and channels -> the family's specification, and its trainable reference module.

``paper`` follows the equations: hard gate, softmax per pair (Y1_c, Y2_c). F0 to F3 are the four states of the
mathematics found in public copies; what tells them apart is the table :data:`FAMILIES`.
"""

from __future__ import annotations

from dataclasses import dataclass

from scconv_deploy.errors import InputError, nearest
from scconv_deploy.scconv.reference.norms import AffineNames
from scconv_deploy.scconv.reference.units import ReferenceSCConv
from scconv_deploy.scconv.spec import (
    Comparison,
    ConvSpec,
    CRUSpec,
    Fuse,
    GammaWeight,
    Gate,
    Gated,
    Norm,
    SCConvSpec,
    SRUSpec,
)


@dataclass(frozen=True, slots=True)
class Family:
    """What distinguishes a family; everything else is shared."""

    norm: Norm
    eps: float
    gamma_weight: GammaWeight
    gate: Gate
    comparison: Comparison
    gated: Gated
    fuse: Fuse
    groups: int
    names: AffineNames


FAMILIES: dict[str, Family] = {
    "paper": Family(
        Norm.GROUP_NORM,
        1e-5,
        GammaWeight.SUM,
        Gate.HARD,
        Comparison.GT,
        Gated.INPUT,
        Fuse.PAIR,
        4,
        ("weight", "bias"),
    ),
    "F0": Family(
        Norm.GROUP_STD,
        1e-10,
        GammaWeight.SOFTMAX,
        Gate.STATIC,
        Comparison.GT,
        Gated.INPUT,
        Fuse.JOINT,
        16,
        ("gamma", "beta"),
    ),
    "F1": Family(
        Norm.GROUP_STD,
        1e-10,
        GammaWeight.SUM,
        Gate.HARD,
        Comparison.GE,
        Gated.INPUT,
        Fuse.JOINT,
        16,
        ("gamma", "beta"),
    ),
    "F2": Family(
        Norm.GROUP_STD,
        1e-10,
        GammaWeight.SUM,
        Gate.HARD,
        Comparison.GE,
        Gated.NORMALISED,
        Fuse.JOINT,
        4,
        ("weight", "bias"),
    ),
    "F3": Family(
        Norm.GROUP_NORM,
        1e-5,
        GammaWeight.SUM,
        Gate.SOFT,
        Comparison.GT,
        Gated.INPUT,
        Fuse.JOINT,
        4,
        ("weight", "bias"),
    ),
}


def family(name: str) -> Family:
    """The family of that name. Raises InputError with the nearest name on a miss."""
    if name not in FAMILIES:
        raise InputError(
            f"SCConv family '{name}' is unknown; choose one of {', '.join(FAMILIES)}{nearest(name, FAMILIES)}"
        )
    return FAMILIES[name]


def family_spec(
    name: str,
    channels: int,
    *,
    groups: int | None = None,
    threshold: float = 0.5,
    alpha: float = 0.5,
    squeeze: int = 2,
    gwc_groups: int = 2,
    gwc_kernel: int = 3,
) -> SCConvSpec:
    """The specification of a family's block with ``channels`` channels in and out.

    Args:
        name: a key of :data:`FAMILIES`.
        channels: C, even.
        groups: groups of the norm; None takes the family's default, lowered to the nearest legal value.
        threshold: t of the gate.
        alpha: share of channels in the upper part of the CRU, in (0, 1).
        squeeze: squeeze ratio r; both parts keep at least 1/r of their channels.
        gwc_groups: groups of the group-wise convolution.
        gwc_kernel: its kernel, odd; padding keeps H and W.

    Raises:
        InputError: unknown family, or settings that give no legal block.
    """
    chosen = family(name)
    if groups is None:
        groups = legal_groups(chosen, channels)
    sru = SRUSpec(
        channels,
        chosen.norm,
        groups,
        chosen.eps,
        chosen.gamma_weight,
        chosen.gate,
        chosen.comparison,
        threshold,
        chosen.gated,
    )
    cru = cru_spec(channels, chosen.fuse, alpha, squeeze, gwc_groups, gwc_kernel)
    return SCConvSpec(sru, cru)


def legal_groups(chosen: Family, channels: int) -> int:
    """The family's default groups, lowered until they fit ``channels`` (group_norm: until they divide it)."""
    groups = min(chosen.groups, channels)
    while chosen.norm is Norm.GROUP_NORM and channels % groups:
        groups -= 1
    return groups


def cru_spec(
    channels: int, fuse: Fuse, alpha: float, squeeze: int, gwc_groups: int, gwc_kernel: int
) -> CRUSpec:
    """The CRU that all families share: GWC with bias, every 1x1 without, ``Y2 = [PWC2(low), low]``."""
    up = int(alpha * channels)
    low = channels - up
    up_squeezed, low_squeezed = up // squeeze, low // squeeze
    if up_squeezed < 1 or low_squeezed < 1:
        raise InputError(
            f"alpha {alpha} and squeeze {squeeze} leave one part of a CRU of {channels} channels without any"
        )
    if gwc_kernel % 2 == 0:
        raise InputError(f"the GWC kernel must be odd to keep H and W, not {gwc_kernel}")
    if up_squeezed % gwc_groups or channels % gwc_groups:
        raise InputError(
            f"GWC groups ({gwc_groups}) must divide its {up_squeezed} input and {channels} output channels"
        )
    pad = gwc_kernel // 2
    return CRUSpec(
        up,
        low,
        squeeze_up=ConvSpec(up, up_squeezed),
        squeeze_low=ConvSpec(low, low_squeezed),
        gwc=ConvSpec(
            up_squeezed,
            channels,
            kernel=(gwc_kernel, gwc_kernel),
            padding=(pad, pad),
            groups=gwc_groups,
            bias=True,
        ),
        pwc1=ConvSpec(up_squeezed, channels),
        pwc2=ConvSpec(low_squeezed, channels - low_squeezed),
        fuse=fuse,
    )


def scconv(
    name: str,
    channels: int,
    *,
    groups: int | None = None,
    threshold: float = 0.5,
    alpha: float = 0.5,
    squeeze: int = 2,
    gwc_groups: int = 2,
    gwc_kernel: int = 3,
) -> ReferenceSCConv:
    """A trainable block of a family: (N, C, H, W) -> (N, C, H, W). Arguments as :func:`family_spec`."""
    spec = family_spec(
        name,
        channels,
        groups=groups,
        threshold=threshold,
        alpha=alpha,
        squeeze=squeeze,
        gwc_groups=gwc_groups,
        gwc_kernel=gwc_kernel,
    )
    return ReferenceSCConv(spec, family(name).names)
