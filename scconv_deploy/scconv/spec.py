"""The canonical specification of an SCConv block: every axis on which implementations in the wild differ.

A specification holds structure only, never weights; two blocks with equal specifications and equal
constants compute the same function. Frozen, hashable, and JSON both ways. Imports neither torch nor onnx.

Notation: ``x`` is (N, C, H, W); ``gamma``, ``beta`` are the norm's affine parameters per channel;
``w`` the gamma weight; ``s = w * (gamma * xhat + beta)`` the gate's logit; ``r = sigmoid(s)``; ``t`` the
threshold (Li, Wen, He, CVPR 2023, equations 1 to 9).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, cast

from scconv_deploy.errors import InputError


class Norm(StrEnum):
    """How ``xhat`` is made from groups of channels.

    GROUP_NORM: biased variance, eps inside the root (``torch.nn.GroupNorm``).
    GROUP_STD: unbiased standard deviation, eps added outside the root; groups are cut from the flat
    ``C*H*W`` vector, so they cross channel borders when C is not divisible by the number of groups.
    """

    GROUP_NORM = "group_norm"
    GROUP_STD = "group_std"


class GammaWeight(StrEnum):
    """``w`` from gamma: divided by its sum, its absolute sum, softmax over channels, or all ones.

    STORED: ``w`` is a tensor of its own (role "weight"), as in a program whose exporter has already computed it;
    with a static gate the mask is one, too (role "mask"), and comparison and threshold mean nothing.
    """

    SUM = "sum"
    ABS_SUM = "abs_sum"
    SOFTMAX = "softmax"
    NONE = "none"
    STORED = "stored"


class Gate(StrEnum):
    """What the two branches keep of the gated tensor (m is the comparison's mask as 0/1).

    HARD: ``m`` and ``1-m``. SOFT: ``where(m, 1, r)`` and ``where(m, 0, r)``.
    COMPLEMENT_SOFT: ``where(m, 1, r)`` and ``where(m, r, 0)``.
    STATIC: ``m*r`` and ``(1-m)*r`` where m compares the *gamma weight* with t: constant per channel.
    """

    HARD = "hard"
    SOFT = "soft"
    COMPLEMENT_SOFT = "complement_soft"
    STATIC = "static"


class Comparison(StrEnum):
    """Strictness of "above the threshold"."""

    GT = "gt"
    GE = "ge"


class Gated(StrEnum):
    """Which tensor the branches multiply: the input, or the normalised (and affine) input."""

    INPUT = "input"
    NORMALISED = "normalised"


class Reconstruct(StrEnum):
    """CROSS: ``[x11+x22, x12+x21]`` (equation 5); WITHIN: ``[x11+x12, x21+x22]``."""

    CROSS = "cross"
    WITHIN = "within"


class Y2Order(StrEnum):
    """How the lower branch is put together: ``[PWC2(low), low]``, ``[low, PWC2(low)]``, or PWC2 alone."""

    PWC2_LOW = "pwc2_low"
    LOW_PWC2 = "low_pwc2"
    PWC2_ONLY = "pwc2_only"


class Fuse(StrEnum):
    """JOINT: one softmax over all 2C pooled values; PAIR: per channel over (Y1_c, Y2_c) (equation 8)."""

    JOINT = "joint"
    PAIR = "pair"


class Order(StrEnum):
    """Order of the units where both exist."""

    SRU_CRU = "sru_cru"
    CRU_SRU = "cru_sru"


@dataclass(frozen=True, slots=True)
class SRUSpec:
    """Spatial Reconstruction Unit on ``channels`` channels (even)."""

    channels: int
    norm: Norm
    groups: int
    eps: float
    gamma_weight: GammaWeight
    gate: Gate
    comparison: Comparison
    threshold: float
    gated: Gated = Gated.INPUT
    reconstruct: Reconstruct = Reconstruct.CROSS
    weight_eps: float = 0.0
    """Added to the denominator of the gamma weight."""
    weight_clamp: float | None = None
    """Lower clamp of the denominator of the gamma weight, applied after ``weight_eps``."""

    def __post_init__(self) -> None:
        if self.channels < 2 or self.channels % 2:
            raise InputError(f"an SRU needs an even number of channels, not {self.channels}")
        if not 1 <= self.groups <= self.channels:
            raise InputError(f"an SRU of {self.channels} channels cannot have {self.groups} groups")
        if self.norm is Norm.GROUP_NORM and self.channels % self.groups:
            raise InputError(
                f"group_norm needs channels ({self.channels}) divisible by groups ({self.groups})"
            )


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """A 2-D convolution as ``torch.nn.Conv2d`` names it (square arguments are given twice)."""

    c_in: int
    c_out: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False
    padding_mode: str = "zeros"


@dataclass(frozen=True, slots=True)
class CRUSpec:
    """Channel Reconstruction Unit. The input is split into ``up`` and ``low`` channels.

    ``Y1 = GWC(up') + PWC1(up')`` and ``Y2`` by ``y2_order`` from ``low'``, both with ``c_out`` channels.
    """

    up: int
    low: int
    squeeze_up: ConvSpec
    squeeze_low: ConvSpec
    gwc: ConvSpec
    pwc1: ConvSpec
    pwc2: ConvSpec
    y2_order: Y2Order = Y2Order.PWC2_LOW
    fuse: Fuse = Fuse.JOINT

    def __post_init__(self) -> None:
        wiring = {
            "squeeze_up input = up": (self.squeeze_up.c_in, self.up),
            "squeeze_low input = low": (self.squeeze_low.c_in, self.low),
            "GWC input = squeeze_up output": (self.gwc.c_in, self.squeeze_up.c_out),
            "PWC1 input = squeeze_up output": (self.pwc1.c_in, self.squeeze_up.c_out),
            "PWC2 input = squeeze_low output": (self.pwc2.c_in, self.squeeze_low.c_out),
            "PWC1 output = GWC output": (self.pwc1.c_out, self.gwc.c_out),
            "Y2 channels = Y1 channels": (self.y2_channels, self.gwc.c_out),
        }
        for rule, (left, right) in wiring.items():
            if left != right:
                raise InputError(f"this CRU breaks '{rule}': {left} against {right}")

    @property
    def c_in(self) -> int:
        """Input channels."""
        return self.up + self.low

    @property
    def c_out(self) -> int:
        """Output channels."""
        return self.gwc.c_out

    @property
    def y2_channels(self) -> int:
        """Channels of the lower branch."""
        extra = 0 if self.y2_order is Y2Order.PWC2_ONLY else self.squeeze_low.c_out
        return self.pwc2.c_out + extra


@dataclass(frozen=True, slots=True)
class SCConvSpec:
    """One or both units. With both, ``order`` says which comes first and the channel counts must meet."""

    sru: SRUSpec | None
    cru: CRUSpec | None
    order: Order = Order.SRU_CRU

    def __post_init__(self) -> None:
        if self.sru is None and self.cru is None:
            raise InputError("an SCConv specification needs at least one unit")
        if self.sru and self.cru:
            meeting = self.cru.c_in if self.order is Order.SRU_CRU else self.cru.c_out
            if meeting != self.sru.channels:
                raise InputError(f"the SRU has {self.sru.channels} channels where the CRU has {meeting}")

    @property
    def c_in(self) -> int:
        """Input channels."""
        if self.sru is None or (self.cru and self.order is Order.CRU_SRU):
            return cast(CRUSpec, self.cru).c_in
        return self.sru.channels

    @property
    def c_out(self) -> int:
        """Output channels."""
        if self.cru and (self.sru is None or self.order is Order.SRU_CRU):
            return self.cru.c_out
        return cast(SRUSpec, self.sru).channels

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings; inverse of :meth:`from_json`."""
        return cast(dict[str, Any], _plain(asdict(self)))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SCConvSpec:
        """Rebuild from :meth:`to_json`'s result. Raises InputError if the data do not fit."""
        try:
            sru, cru = data["sru"], data["cru"]
            return cls(
                sru=None if sru is None else _sru(sru),
                cru=None if cru is None else _cru(cru),
                order=Order(data["order"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is not an SCConv specification: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value.value if isinstance(value, StrEnum) else value


def _sru(data: dict[str, Any]) -> SRUSpec:
    return SRUSpec(
        **{
            **data,
            "norm": Norm(data["norm"]),
            "gamma_weight": GammaWeight(data["gamma_weight"]),
            "gate": Gate(data["gate"]),
            "comparison": Comparison(data["comparison"]),
            "gated": Gated(data["gated"]),
            "reconstruct": Reconstruct(data["reconstruct"]),
        }
    )


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}


def _cru(data: dict[str, Any]) -> CRUSpec:
    convs = {
        role: ConvSpec(**_tuples(data[role])) for role in ("squeeze_up", "squeeze_low", "gwc", "pwc1", "pwc2")
    }
    return CRUSpec(
        up=data["up"], low=data["low"], y2_order=Y2Order(data["y2_order"]), fuse=Fuse(data["fuse"]), **convs
    )
