"""Names and shapes of weights -> the zoo architecture they belong to, and the SCConv families they allow.

A state_dict does not hold the gate: F0 and F1 have the same names and shapes, and so have F3 and the paper's
form. What a pickled module's attributes add (the specification of our own blocks, groups, threshold) is read
from its inert objects; what is left open is the user's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from scconv_deploy.checkpoint.attributes import differences, family_told
from scconv_deploy.checkpoint.factory import Factory
from scconv_deploy.checkpoint.fit import Shape, match, shapes_of
from scconv_deploy.errors import InputError
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference.families import FAMILIES, family
from scconv_deploy.scconv.zoo.settings import SCCONV_ONLY

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
    found = []
    for candidate in FAMILIES:
        with torch.device("meta"):
            module = _build(name, {**settings, "family": candidate})
        if match(shapes_of(module), shapes).fits:
            found.append(candidate)
    return tuple(found)


def identify(shapes: Mapping[str, Shape]) -> Factory | None:
    """The zoo architecture, with the settings that differ from its defaults, that has exactly these weights.

    ``family`` is left out: see :func:`families_that_fit`. None where no architecture fits.
    """
    for name, chosen in zoo.ARCHITECTURES.items():
        settings = _settings_seen(shapes)
        if settings is None:
            return None
        known = {f.name: getattr(chosen.defaults, f.name) for f in fields(chosen.defaults)}
        given = {
            k: v for k, v in settings.items() if known[k] != v and not (chosen.plain and k in SCCONV_ONLY)
        }
        if len(settings["blocks"]) != len(chosen.defaults.blocks):
            continue
        try:
            fitting = _fits(name, given, shapes, chosen.plain)
        except InputError:
            continue
        if fitting:
            return Factory(name, given)
    return None


def _fits(name: str, given: Mapping[str, Any], shapes: Mapping[str, Shape], plain: bool) -> bool:
    if not plain:
        return bool(families_that_fit(name, given, shapes))
    with torch.device("meta"):
        return match(shapes_of(_build(name, given)), shapes).fits


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
