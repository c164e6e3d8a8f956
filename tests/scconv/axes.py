"""Every value of every axis of the specification, as a named list of specifications with their shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scconv_deploy.scconv.reference import FAMILIES, family_spec
from scconv_deploy.scconv.spec import (
    Comparison,
    ConvSpec,
    CRUSpec,
    Fuse,
    GammaWeight,
    Gate,
    Gated,
    Norm,
    Order,
    Reconstruct,
    SCConvSpec,
    SRUSpec,
    Y2Order,
)

Shape = tuple[int, int, int]
"""Batch, height, width."""

SHAPES: tuple[Shape, ...] = ((1, 8, 8), (2, 5, 7), (3, 1, 6))


def base() -> SCConvSpec:
    """F3 on 8 channels: the centre from which one axis at a time is moved."""
    return family_spec("F3", 8)


def sru(**changes: object) -> SCConvSpec:
    """The centre with changed SRU fields."""
    spec = base()
    assert spec.sru is not None
    return replace(spec, sru=replace(spec.sru, **changes))  # type: ignore[arg-type]


def cru(**changes: object) -> SCConvSpec:
    """The centre with changed CRU fields."""
    spec = base()
    assert spec.cru is not None
    return replace(spec, cru=replace(spec.cru, **changes))  # type: ignore[arg-type]


def uneven_cru(c_in: int = 8, up: int = 6, c_out: int = 10, order: Y2Order = Y2Order.PWC2_LOW) -> CRUSpec:
    """Unequal split, c_in != c_out, a bias everywhere."""
    pwc2_out = c_out if order is Y2Order.PWC2_ONLY else c_out - 2
    return CRUSpec(
        up,
        c_in - up,
        squeeze_up=ConvSpec(up, 4, bias=True),
        squeeze_low=ConvSpec(c_in - up, 2, bias=True),
        gwc=ConvSpec(4, c_out, kernel=(3, 3), padding=(1, 1), groups=2, bias=True),
        pwc1=ConvSpec(4, c_out, bias=True),
        pwc2=ConvSpec(2, pwc2_out, bias=True),
        y2_order=order,
    )


def gwc(
    kernel: int, groups: int = 2, dilation: int = 1, mode: str = "zeros", bias: bool = True
) -> SCConvSpec:
    """The centre with another group-wise convolution."""
    pad = dilation * (kernel // 2)
    conv = ConvSpec(2, 8, (kernel, kernel), (1, 1), (pad, pad), (dilation, dilation), groups, bias, mode)
    return cru(gwc=conv)


def strided() -> SCConvSpec:
    """Stride 2 on both squeezes."""
    return cru(squeeze_up=ConvSpec(4, 2, stride=(2, 2)), squeeze_low=ConvSpec(4, 2, stride=(2, 2)))


def flat_groups() -> SCConvSpec:
    """Group-std norm with 8 channels in 5 groups: they cut across channel borders."""
    return sru(norm=Norm.GROUP_STD, groups=5, eps=1e-10)


def _sru_cases() -> Iterator[tuple[str, SCConvSpec]]:
    yield from ((f"group_norm groups {g}", sru(groups=g)) for g in (1, 2, 8))
    yield from ((f"group_std groups {g}", sru(norm=Norm.GROUP_STD, groups=g)) for g in (1, 4, 8))
    yield "eps 1e-2, group_norm", sru(eps=1e-2)
    yield "eps 1e-2, group_std", sru(eps=1e-2, norm=Norm.GROUP_STD)
    yield from ((f"gamma {w}", sru(gamma_weight=w)) for w in GammaWeight if w is not GammaWeight.STORED)
    yield "gamma sum + eps", sru(weight_eps=0.25)
    yield "gamma sum clamped", sru(weight_clamp=30.0)
    yield (
        "gamma abs_sum + eps, clamped",
        sru(gamma_weight=GammaWeight.ABS_SUM, weight_eps=0.5, weight_clamp=9.0),
    )
    for gate in (Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT):
        for comparison in Comparison:
            for gated in Gated:
                yield (
                    f"{gate} {comparison} {gated}",
                    sru(gate=gate, comparison=comparison, gated=gated),
                )
        yield from ((f"{gate} t={t}", sru(gate=gate, threshold=t)) for t in (0.47, 0.52, -0.1, 0.0, 1.0, 2.0))
    for comparison in Comparison:
        static = sru(gate=Gate.STATIC, comparison=comparison, gamma_weight=GammaWeight.SOFTMAX, threshold=0.1)
        yield f"static {comparison}", static
    yield "reconstruct within", sru(reconstruct=Reconstruct.WITHIN)
    yield "reconstruct within, hard", sru(reconstruct=Reconstruct.WITHIN, gate=Gate.HARD)


def _cru_cases() -> Iterator[tuple[str, SCConvSpec]]:
    yield from ((f"gwc kernel {k}", gwc(k)) for k in (1, 3, 5))
    yield "gwc dense", gwc(3, groups=1)
    yield "gwc dilated", gwc(3, dilation=2)
    yield from ((f"gwc {m} padding", gwc(3, mode=m)) for m in ("replicate", "circular"))
    yield "gwc without bias", gwc(3, bias=False)
    yield "strided squeezes", strided()
    yield "pair fuse", cru(fuse=Fuse.PAIR)
    for order in Y2Order:
        for fuse in Fuse:
            uneven = replace(uneven_cru(order=order), fuse=fuse)
            yield f"uneven {order} {fuse}", SCConvSpec(base().sru, uneven)


def _unit_cases() -> Iterator[tuple[str, SCConvSpec]]:
    yield "SRU only", SCConvSpec(base().sru, None)
    yield "CRU only", SCConvSpec(None, base().cru)
    yield "CRU then SRU", replace(base(), order=Order.CRU_SRU)
    yield "uneven CRU then SRU", SCConvSpec(sru_of(10), uneven_cru(), Order.CRU_SRU)


def sru_of(channels: int) -> SRUSpec:
    """F1's SRU on any even number of channels."""
    found = family_spec("F1", channels, squeeze=1, gwc_groups=1).sru
    assert found is not None
    return found


def specifications() -> dict[str, SCConvSpec]:
    """Name -> specification; all accept every one of :data:`SHAPES`."""
    families = {f"family {name}": family_spec(name, 16) for name in FAMILIES}
    return {**families, **dict(_sru_cases()), **dict(_cru_cases()), **dict(_unit_cases())}
