"""Names and shapes of weights -> the zoo architecture they belong to, and the SCConv families they allow.

A state_dict does not hold the gate: F0 and F1 have the same names and shapes, and so have F3 and the paper's
form. What a pickled module's attributes add (the specification of our own blocks, groups, threshold) is read
from its inert objects; what is left open is the user's to say.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scconv_deploy.checkpoint.attributes import differences, family_told
from scconv_deploy.checkpoint.factory import Factory
from scconv_deploy.checkpoint.fit import Shape, match, shapes_of
from scconv_deploy.errors import InputError
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference.families import family
from scconv_deploy.scconv.zoo.blocks import BasicBlock, Bottleneck

ALIKE = {("gamma", 3): ("F0", "F1"), ("weight", 3): ("F2",), ("weight", 1): ("F3", "paper")}
"""Name and number of axes of the norm's scale -> families that store it so."""

NORM_SCALES = ("sru.gn.gamma", "sru.gn.weight")

IN_WORDS = {
    "paper": "hard gate, softmax over each pair of channels",
    "F0": "static channel mask, softmax of gamma",
    "F1": "hard gate, gamma over its sum",
    "F2": "hard gate on the normalised input",
    "F3": "soft gate",
}


def zoo_module(
    factory: Factory, shapes: Mapping[str, Shape], variant: str | None, content: Any
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the zoo network that ``--factory`` names, in the family that weights, attributes or user decide.

    Raises:
        InputError: unusable settings; a family named twice, or not named where the weights leave it open.
    """
    settings = dict(factory.arguments)
    if zoo.architecture(factory.name).plain:
        if variant is not None:
            raise InputError(f"--variant {variant} is given, but {factory.name} has no SCConv; leave it out")
        return _build(factory.name, settings), ()
    given = settings.get("family")
    if variant is not None:
        family(variant)
        if given not in (None, variant):
            raise InputError(f"--variant {variant} and family={given!r} in --factory contradict each other")
        settings["family"] = variant
    notes: tuple[str, ...] = ()
    if "family" not in settings:
        chosen, why = _settle_family(factory, settings, shapes, content)
        if chosen is not None:
            settings["family"] = chosen
            notes = (why,)
    open_settings = [k for k in ("groups", "threshold") if k not in settings]
    if open_settings and settings.get("family"):
        notes += (
            f"{' and '.join(open_settings)} of the SCConv blocks are in no weight: the defaults of family "
            f"{settings['family']} were taken; others are named like {factory.name}(groups=8, threshold=0.4)",
        )
    module = _build(factory.name, settings)
    other = differences(content, module)
    if other:
        raise InputError(
            f"the file's own objects contradict {factory}: {'; '.join(other[:3])}"
            f"{f' and {len(other) - 3} more' if len(other) > 3 else ''}; name the settings that were "
            f"trained, like {factory.name}(groups=8, threshold=0.4)"
        )
    return module, notes


def _build(name: str, settings: Mapping[str, Any]) -> nn.Module:
    try:
        return zoo.build(name, **settings)
    except RuntimeError as error:
        raise InputError(f"architecture '{name}' cannot be built with these settings: {error}") from error


def _settle_family(
    factory: Factory, settings: Mapping[str, Any], shapes: Mapping[str, Shape], content: Any
) -> tuple[str | None, str]:
    told = family_told(content)
    if told is not None:
        return told, f"the file's own objects say that its SCConv blocks are of family {told}"
    fitting = families_that_fit(factory.name, settings, shapes)
    if len(fitting) > 1:
        choices = ", or ".join(f"--variant {f} ({IN_WORDS[f]})" for f in fitting)
        raise InputError(
            f"these weights fit {factory} in {len(fitting)} forms that compute different things, and no "
            f"weight tells which one was trained: add {choices}"
        )
    if not fitting:
        return None, ""
    return fitting[0], f"of the SCConv families only {fitting[0]} has weights of these names and shapes"


def families_that_fit(name: str, settings: Mapping[str, Any], shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Families whose network of that architecture has exactly these names and shapes."""
    if zoo.architecture(name).plain:
        return ()
    # Families of one group store the same tensors, and the norm's parameters tell the group: one network is
    # built to compare with, where building all five takes seconds.
    group = next(
        (ALIKE.get((n.rpartition(".")[2], len(s)), ()) for n, s in shapes.items() if n.endswith(NORM_SCALES)),
        (),
    )
    return group if group and _fits(name, {**settings, "family": group[0]}, shapes) else ()


@dataclass(frozen=True, slots=True)
class Known:
    """A zoo network with the settings that differ from its defaults, and the families that its weights allow."""

    factory: Factory
    families: tuple[str, ...]

    def __str__(self) -> str:
        """The options to paste."""
        variant = f" --variant {'|'.join(self.families)}" if len(self.families) > 1 else ""
        return f"--factory {shlex.quote(str(self.factory))}{variant}"


def identify(shapes: Mapping[str, Shape]) -> Known | None:
    """The zoo network that has exactly these weights; None where no architecture fits."""
    seen = _settings_seen(shapes)
    if seen is None:
        return None
    block = Bottleneck if "stages.0.0.conv3.weight" in shapes else BasicBlock
    plain = not any(".cru." in name for name in shapes)
    stem = shapes["stem.0.weight"][2] == 7
    alike = [
        a for a in zoo.ARCHITECTURES.values() if (a.block, a.plain, a.imagenet_stem) == (block, plain, stem)
    ]
    if not alike:
        return None
    chosen = min(alike, key=lambda a: a.defaults.blocks != seen["blocks"])
    given = {k: v for k, v in seen.items() if getattr(chosen.defaults, k) != v}
    try:
        families = families_that_fit(chosen.name, given, shapes)
        fits = bool(families) or (plain and _fits(chosen.name, given, shapes))
    except InputError:
        return None
    return Known(Factory(chosen.name, given), families) if fits else None


def _fits(name: str, settings: Mapping[str, Any], shapes: Mapping[str, Shape]) -> bool:
    with torch.device("meta"):
        module = _build(name, settings)
    return match(shapes_of(module), shapes).fits


def _settings_seen(shapes: Mapping[str, Shape]) -> dict[str, Any] | None:
    """Settings of a zoo network as its weights show them; None where its landmarks are absent."""
    stem, head = shapes.get("stem.0.weight", ()), shapes.get("head.weight", ())
    if len(stem) != 4 or len(head) != 2:
        return None
    stages: dict[int, int] = {}
    for name in shapes:
        parts = name.split(".")
        if len(parts) > 3 and parts[0] == "stages" and parts[1].isdecimal() and parts[2].isdecimal():
            stages[int(parts[1])] = max(stages.get(int(parts[1]), 0), int(parts[2]) + 1)
    if sorted(stages) != list(range(len(stages))):
        return None
    seen = {
        "in_channels": stem[1],
        "num_classes": head[0],
        "width": stem[0],
        "blocks": tuple(stages[i] for i in range(len(stages))),
    }
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
