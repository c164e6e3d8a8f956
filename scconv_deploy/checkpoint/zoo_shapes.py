"""Names and shapes of weights -> the zoo network that has exactly these, and the families they allow; no torch.

The names and shapes of the zoo's networks are computed here from their settings, because building a network
takes torch, and seconds. A test holds both to the same result for every architecture and family.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]

ALIKE = {("gamma", 3): ("F0", "F1"), ("weight", 3): ("F2",), ("weight", 1): ("F3", "paper")}
"""Name and number of axes of the norm's scale -> families that store it so. No weight tells them apart."""

NORM_SCALES = ("sru.gn.gamma", "sru.gn.weight")


@dataclass(frozen=True, slots=True)
class Form:
    """What a zoo architecture is besides its settings; ``blocks`` are its defaults."""

    name: str
    bottleneck: bool
    imagenet_stem: bool
    blocks: tuple[int, ...]

    @property
    def defaults(self) -> dict[str, Any]:
        """Settings that the architecture has unless told otherwise."""
        return {
            "in_channels": 3,
            "num_classes": 1000 if self.imagenet_stem else 10,
            "width": 64 if self.imagenet_stem else 16,
            "blocks": self.blocks,
            "alpha": 0.5,
            "squeeze": 2,
            "gwc_groups": 2,
            "gwc_kernel": 3,
        }


FORMS = (
    Form("resnet18", False, True, (2, 2, 2, 2)),
    Form("resnet20", False, False, (3, 3, 3)),
    Form("resnet50", True, True, (3, 4, 6, 3)),
    Form("resnet56", False, False, (9, 9, 9)),
    Form("resnet101", True, True, (3, 4, 23, 3)),
)


@dataclass(frozen=True, slots=True)
class Known:
    """A zoo network with the settings that differ from its defaults, and the families that its weights allow."""

    name: str
    arguments: Mapping[str, Any]
    families: tuple[str, ...]

    def __str__(self) -> str:
        """The options to paste."""
        variant = f" --variant {'|'.join(self.families)}" if len(self.families) > 1 else ""
        return f"--factory {shlex.quote(call_text(self.name, self.arguments))}{variant}"


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """``scconv_resnet20(width=8)``, as ``--factory`` takes it."""
    given = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
    return f"{name}({given})" if given else name


def identify(shapes: Mapping[str, Shape]) -> Known | None:
    """The zoo network that has exactly these weights; None where none has."""
    seen = _settings_seen(shapes)
    if seen is None:
        return None
    bottleneck, imagenet = "stages.0.0.conv3.weight" in shapes, shapes["stem.0.weight"][2] == 7
    alike = [f for f in FORMS if (f.bottleneck, f.imagenet_stem) == (bottleneck, imagenet)]
    if not alike or len(seen["blocks"]) != len(alike[0].blocks):
        return None
    form = min(alike, key=lambda f: f.blocks != seen["blocks"])
    plain = not any(".cru." in name for name in shapes)
    name = form.name if plain else f"scconv_{form.name}"
    families = families_that_fit(name, form.defaults | seen, shapes)
    if not families and not (plain and expected(name, form.defaults | seen) == shapes):
        return None
    given = {k: v for k, v in seen.items() if form.defaults[k] != v}
    return Known(name, given, families)


def families_that_fit(name: str, settings: Mapping[str, Any], shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Families whose network of that architecture has exactly these names and shapes.

    ``settings`` are all of :class:`Form`'s; () for a network without SCConv.
    """
    group = next(
        (ALIKE.get((n.rpartition(".")[2], len(s)), ()) for n, s in shapes.items() if _is_scale(n)), ()
    )
    return group if group and expected(name, {**settings, "family": group[0]}) == dict(shapes) else ()


def expected(name: str, settings: Mapping[str, Any]) -> dict[str, Shape]:
    """Name -> shape of the state_dict of a zoo network. ``settings`` include ``family`` where it has SCConv."""
    form = next(f for f in FORMS if f.name == name.removeprefix("scconv_"))
    plain, width = form.name == name, settings["width"]
    kernel = 7 if form.imagenet_stem else 3
    found: dict[str, Shape] = {"stem.0.weight": (width, settings["in_channels"], kernel, kernel)}
    found |= _norm("stem.1", width)
    c_in = width
    for stage, count in enumerate(settings["blocks"]):
        for position in range(count):
            stride = 2 if stage > 0 and position == 0 else 1
            inner = width * 2**stage
            c_out = inner * 4 if form.bottleneck else inner
            place = f"stages.{stage}.{position}"
            convs = (
                ((c_in, inner, 1, 1), (inner, inner, stride, 3), (inner, c_out, 1, 1))
                if form.bottleneck
                else ((c_in, inner, stride, 3), (inner, inner, 1, 3))
            )
            for index, (a, b, step, size) in enumerate(convs, 1):
                if size == 1 or plain or a != b:
                    found[f"{place}.conv{index}.weight"] = (b, a, size, size)
                else:
                    prefix = f"{place}.conv{index}" + (".1" if step > 1 else "")
                    found |= {f"{prefix}.{k}": v for k, v in _scconv(b, settings)}
                found |= _norm(f"{place}.bn{index}", b)
            if c_in != c_out or stride != 1:
                found[f"{place}.shortcut.0.weight"] = (c_out, c_in, 1, 1)
                found |= _norm(f"{place}.shortcut.1", c_out)
            c_in = c_out
    return found | {"head.weight": (settings["num_classes"], c_in), "head.bias": (settings["num_classes"],)}


def _scconv(channels: int, settings: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    (scale, axes), _ = next(item for item in ALIKE.items() if settings["family"] in item[1])
    for name in ("gamma", "beta") if scale == "gamma" else ("weight", "bias"):
        yield f"sru.gn.{name}", (channels, 1, 1)[:axes]
    up = int(settings["alpha"] * channels)
    ups, lows = up // settings["squeeze"], (channels - up) // settings["squeeze"]
    yield "cru.squeeze_up.weight", (ups, up, 1, 1)
    yield "cru.squeeze_low.weight", (lows, channels - up, 1, 1)
    kernel = settings["gwc_kernel"]
    yield "cru.gwc.weight", (channels, ups // settings["gwc_groups"], kernel, kernel)
    yield "cru.gwc.bias", (channels,)
    yield "cru.pwc1.weight", (channels, ups, 1, 1)
    yield "cru.pwc2.weight", (channels - lows, lows, 1, 1)


def _norm(place: str, channels: int) -> dict[str, Shape]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{place}.{n}": (channels,) for n in names}, f"{place}.num_batches_tracked": ()}


def _is_scale(name: str) -> bool:
    return name.endswith(NORM_SCALES)


def _settings_seen(shapes: Mapping[str, Shape]) -> dict[str, Any] | None:
    """Settings of a zoo network as its weights show them; None where its landmarks are absent."""
    stem, head = shapes.get("stem.0.weight", ()), shapes.get("head.weight", ())
    if len(stem) != 4 or len(head) != 2:
        return None
    stages: dict[int, int] = {}
    for name in shapes:
        parts = name.split(".", 4)
        if parts[0] == "stages" and len(parts) > 3 and all(p.isdecimal() and len(p) < 4 for p in parts[1:3]):
            stages[int(parts[1])] = max(stages.get(int(parts[1]), 0), int(parts[2]) + 1)
    if sorted(stages) != list(range(len(stages))):
        return None
    blocks = tuple(stages[i] for i in range(len(stages)))
    seen = {"in_channels": stem[1], "num_classes": head[0], "width": stem[0], "blocks": blocks}
    return seen | _cru_seen(shapes)


def _cru_seen(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    prefix = next((n.removesuffix("gwc.weight") for n in shapes if n.endswith(".cru.gwc.weight")), None)
    if prefix is None:
        return {}
    gwc, up, low = (shapes.get(f"{prefix}{r}.weight", ()) for r in ("gwc", "squeeze_up", "squeeze_low"))
    if not len(gwc) == len(up) == len(low) == 4 or 0 in (*gwc, *up, *low):
        return {}
    return {
        "alpha": up[1] / (up[1] + low[1]),
        "squeeze": up[1] // up[0],
        "gwc_groups": up[0] // gwc[1],
        "gwc_kernel": gwc[2],
    }
