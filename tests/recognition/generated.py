"""A number -> a specification over all axes, and a module that computes it in one of many spellings.

The specification decides the mathematics, the spelling how a user might have written it: which names, which
torch calls, modules or functions, parameters of which shape. Nothing is shared with the reference modules.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scconv_deploy.errors import InputError
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

AXES: dict[str, Sequence[object]] = {
    "units": ("both", "both", "cru first", "sru", "cru"),
    "channels": (8, 12, 16),
    "norm": tuple(Norm),
    "groups": (1, 2, 4, "channels", "flat"),
    "eps": (1e-5, 1e-10, 1e-3, 0.0),
    "gamma_weight": tuple(w for w in GammaWeight if w is not GammaWeight.STORED),
    "guard": ((0.0, None), (0.0, None), (1e-5, None), (0.0, 1e-6)),
    "gate": tuple(Gate),
    "comparison": tuple(Comparison),
    "threshold": (0.5, 0.5, 0.3, 0.6),
    "gated": tuple(Gated),
    "reconstruct": tuple(Reconstruct),
    "alpha": (0.5, 0.5, 0.25, 0.75),
    "squeeze": (2, 2, 1, 4),
    "widen": (False, False, True),
    "bias": ("gwc", "gwc", "all", "none", "squeezes"),
    "kernel": (3, 3, 1, 5),
    "gwc_groups": (2, 2, 1),
    "dilation": (1, 1, 2),
    "padding_mode": ("zeros", "zeros", "reflect", "replicate", "circular"),
    "stride": (1, 1, 2),
    "y2_order": tuple(Y2Order),
    "fuse": tuple(Fuse),
    "dtype": (torch.float32, torch.float32, torch.float16, torch.float64),
}
"""Values per axis; one given twice is drawn twice as often."""

SPELLINGS = {
    "affine shape": ("(C,)", "(C,1,1)", "(1,C,1,1)"),
    "sum": ("method", "builtin", "einsum"),
    "split": ("chunk", "slices", "split"),
    "pool": ("mean", "adaptive", "view"),
    "mask": ("where", "product"),
    "names": ("plain", "odd"),
    "softmax": ("functional", "method"),
}


class Draw:
    """Variant number ``index`` of ``count``: every axis value occurs among them, in seeded random order."""

    def __init__(self, index: int, count: int) -> None:
        self.index, self.count = index, count
        self.spelling = {axis: self._pick(axis, values) for axis, values in SPELLINGS.items()}

    def _pick(self, axis: str, values: Sequence[object]) -> object:
        column = [values[i % len(values)] for i in range(self.count)]
        random.Random(f"{axis} {self.count}").shuffle(column)
        return column[self.index]

    def __getitem__(self, axis: str) -> object:
        return self._pick(axis, AXES[axis])

    def integer(self, axis: str) -> int:
        value = self[axis]
        assert isinstance(value, int)
        return value

    @property
    def dtype(self) -> torch.dtype:
        value = self["dtype"]
        assert isinstance(value, torch.dtype)
        return value

    def spec(self) -> SCConvSpec:
        """The specification; axis values that cannot stand together give way to the nearest that can."""
        units, c = self["units"], self.integer("channels")
        cru = None if units == "sru" else self._cru(c)
        if units == "cru":
            return SCConvSpec(None, cru)
        first = units == "cru first"
        sru = self._sru(cru.c_out if first and cru else c)
        return SCConvSpec(sru, cru, Order.CRU_SRU if first else Order.SRU_CRU)

    def _sru(self, c: int) -> SRUSpec:
        groups, norm = self["groups"], self["norm"]
        count = {"channels": c, "flat": 5}.get(str(groups)) or int(str(groups))
        guard = self["guard"]
        assert isinstance(guard, tuple)
        fields = {name: self[name] for name in ("gamma_weight", "gate", "comparison", "threshold", "gated")}
        if fields["gate"] is Gate.STATIC and fields["gamma_weight"] is GammaWeight.NONE:
            fields["gamma_weight"] = GammaWeight.SOFTMAX  # else the mask is constant and shows too little
        if groups == "flat" and norm is Norm.GROUP_NORM:
            norm = Norm.GROUP_STD
        make = lambda n: SRUSpec(c, n, count, self["eps"], *fields.values(), self["reconstruct"], *guard)  # noqa: E731
        try:
            return make(norm)
        except InputError:
            return make(Norm.GROUP_STD)  # nn.GroupNorm refuses groups that do not divide C

    def _cru(self, c: int) -> CRUSpec:
        up = int(float(str(self["alpha"])) * c) // 2 * 2 or 2
        squeeze = self.integer("squeeze")
        s_up = max(2, up // squeeze) // 2 * 2
        s_low = max(1, (c - up) // squeeze)
        wide = self["widen"] and self["units"] != "cru first"
        c_out = c + 8 if wide else c
        kernel, bias = self.integer("kernel"), self["bias"]
        dilation = self.integer("dilation") if kernel > 1 else 1
        pad = dilation * (kernel // 2)
        mode = str(self["padding_mode"]) if pad else "zeros"
        stride = (self.integer("stride"),) * 2
        outer, inner = bias in ("all", "squeezes"), bias == "all"
        order = self["y2_order"]
        assert isinstance(order, Y2Order)
        full = order is Y2Order.PWC2_ONLY
        # Two 1x1 convolutions side by side are told apart by their groups only.
        groups = 2 if kernel == 1 else self.integer("gwc_groups")
        gwc = ConvSpec(
            s_up, c_out, (kernel,) * 2, (1, 1), (pad,) * 2, (dilation,) * 2, groups,
            bias in ("all", "gwc"), mode,
        )  # fmt: skip
        return CRUSpec(
            up,
            c - up,
            ConvSpec(up, s_up, stride=stride, bias=outer),
            ConvSpec(c - up, s_low, stride=stride, bias=outer),
            gwc,
            ConvSpec(s_up, c_out, bias=inner),
            ConvSpec(s_low, c_out if full else c_out - s_low, bias=inner),
            order,
            Fuse(str(self["fuse"])),
        )


def user_module(draw: Draw) -> nn.Module:
    """The drawn specification as a user's module in the drawn spelling, with random weights."""
    torch.manual_seed(draw.index)
    spec = draw.spec()
    parts: list[nn.Module] = []
    if spec.sru:
        parts.append(UserSRU(spec.sru, draw.spelling))
    if spec.cru:
        parts.insert(0 if spec.order is Order.CRU_SRU else 1, UserCRU(spec.cru, draw.spelling))
    module = parts[0] if len(parts) == 1 else UserBlock(parts, odd=draw.spelling["names"] == "odd")
    return module.to(draw.dtype).eval()


class UserBlock(nn.Module):
    def __init__(self, parts: list[nn.Module], odd: bool) -> None:
        super().__init__()
        names = ("zeta", "CRU") if odd else ("SRU", "CRU")  # an SRU may be called anything
        self.order = names
        for name, part in zip(names, parts, strict=True):
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = getattr(self, name)(x)
        return x


def halves(x: Tensor, how: object) -> tuple[Tensor, Tensor]:
    h = x.shape[1] // 2
    if how == "slices":
        return x[:, :h], x[:, h:]
    a, b = x.chunk(2, 1) if how == "chunk" else torch.split(x, h, dim=1)
    return a, b


class UserSRU(nn.Module):
    def __init__(self, spec: SRUSpec, spelling: dict[str, object]) -> None:
        super().__init__()
        self.how, self.kind = spelling, spec
        c = spec.channels
        shape = {"(C,)": (c,), "(C,1,1)": (c, 1, 1)}.get(str(spelling["affine shape"]), (1, c, 1, 1))
        odd = spelling["names"] == "odd"
        self.keys = ("bias", "weight") if odd else ("gamma", "beta")  # odd: the names are exchanged
        self.register_parameter(self.keys[0], nn.Parameter(torch.randn(shape)))
        self.register_parameter(self.keys[1], nn.Parameter(0.1 * torch.randn(shape)))
        self.tiny, self.parts, self.limit = spec.eps, spec.groups, spec.threshold

    def forward(self, x: Tensor) -> Tensor:
        g, b = (getattr(self, key).view(1, -1, 1, 1) for key in self.keys)
        y = self.norm(x) * g + b
        w = self.weigh(g)
        r = torch.sigmoid(w * y)
        target = y if self.kind.gated is Gated.NORMALISED else x
        mask = self.above(w if self.kind.gate is Gate.STATIC else r)
        a, c = self.parts_of(r, mask)
        (a1, a2), (c1, c2) = (halves(part * target, self.how["split"]) for part in (a, c))
        if self.kind.reconstruct is Reconstruct.CROSS:
            return torch.cat([a1 + c2, a2 + c1], dim=1)
        return torch.cat([a1 + a2, c1 + c2], dim=1)

    def norm(self, x: Tensor) -> Tensor:
        if self.kind.norm is Norm.GROUP_NORM:
            return F.group_norm(x, self.parts, eps=self.tiny)
        z = x.reshape(x.shape[0], self.parts, -1)
        z = (z - z.mean(2, keepdim=True)) / (z.std(2, keepdim=True) + self.tiny)
        return z.reshape(x.shape)

    def weigh(self, g: Tensor) -> Tensor:
        kind = self.kind.gamma_weight
        if kind is GammaWeight.NONE:
            return torch.ones_like(g)
        if kind is GammaWeight.SOFTMAX:
            return g.softmax(1) if self.how["softmax"] == "method" else F.softmax(g, dim=1)
        v = g.abs() if kind is GammaWeight.ABS_SUM else g
        sums: dict[object, Callable[[], Tensor]] = {
            "builtin": lambda: sum(v.flatten()),  # type: ignore[arg-type, return-value]
            "einsum": lambda: torch.einsum("i->", v.flatten()),
        }
        total = sums.get(self.how["sum"], v.sum)()
        if self.kind.weight_eps:
            total = total + self.kind.weight_eps
        return g / (total if self.kind.weight_clamp is None else total.clamp(min=self.kind.weight_clamp))

    def above(self, value: Tensor) -> Tensor:
        return value > self.limit if self.kind.comparison is Comparison.GT else value >= self.limit

    def parts_of(self, r: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        gate, one, zero = self.kind.gate, torch.ones_like(r), torch.zeros_like(r)
        if gate is Gate.STATIC:
            return mask * r, ~mask * r
        if gate is Gate.HARD and self.how["mask"] == "product":
            return mask.to(r.dtype), 1 - mask.to(r.dtype)
        rest = {Gate.HARD: (one, zero), Gate.SOFT: (one, zero), Gate.COMPLEMENT_SOFT: (one, zero)}[gate]
        first = torch.where(mask, rest[0], zero if gate is Gate.HARD else r)
        if gate is Gate.COMPLEMENT_SOFT:
            return first, torch.where(mask, r, zero)
        return first, torch.where(mask, zero, one if gate is Gate.HARD else r)


class UserCRU(nn.Module):
    def __init__(self, spec: CRUSpec, spelling: dict[str, object]) -> None:
        super().__init__()
        self.how, self.order, self.fuse_kind = spelling, spec.y2_order, spec.fuse
        self.sizes = [spec.up, spec.low]
        odd = spelling["names"] == "odd"
        self.names = ("e", "d", "c", "b", "a") if odd else ("squeeze1", "squeeze2", "GWC", "PWC1", "PWC2")
        convs = (spec.squeeze_up, spec.squeeze_low, spec.gwc, spec.pwc1, spec.pwc2)
        for name, c in sorted(zip(self.names, convs, strict=True), key=lambda pair: pair[0]):
            layer = nn.Conv2d(
                c.c_in, c.c_out, c.kernel, c.stride, c.padding, c.dilation, c.groups, c.bias, c.padding_mode
            )  # type: ignore[arg-type]
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        s1, s2, gwc, pwc1, pwc2 = (getattr(self, name) for name in self.names)
        up, low = torch.split(x, self.sizes, dim=1)
        up, low = s1(up), s2(low)
        y1, y2 = pwc1(up) + gwc(up), pwc2(low)
        if self.order is not Y2Order.PWC2_ONLY:
            y2 = torch.cat([y2, low] if self.order is Y2Order.PWC2_LOW else [low, y2], dim=1)
        if self.fuse_kind is Fuse.PAIR:
            p = torch.stack([self.pool(y1), self.pool(y2)]).softmax(0)
            return p[0] * y1 + p[1] * y2
        y = torch.cat([y1, y2], dim=1)
        a, b = halves(y * F.softmax(self.pool(y), dim=1), self.how["split"])
        return a + b

    def pool(self, y: Tensor) -> Tensor:
        if self.how["pool"] == "adaptive":
            return F.adaptive_avg_pool2d(y, 1)
        if self.how["pool"] == "view":
            return y.view(y.shape[0], y.shape[1], -1).mean(-1)[..., None, None]
        return y.mean((2, 3), keepdim=True)
