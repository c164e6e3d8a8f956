"""A zoo name and weights -> the zoo network of the family that weights, attributes or the user decide.

A state_dict does not hold the gate: F0 and F1 have the same names and shapes, and so have F3 and the paper's
form. What a pickled module's attributes add (the specification of our own blocks, groups, threshold) is read
from its inert objects; what is left open is the user's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from scconv_deploy.checkpoint.attributes import differences, family_told
from scconv_deploy.checkpoint.factory import Factory
from scconv_deploy.checkpoint.zoo_shapes import Shape, families_that_fit
from scconv_deploy.errors import InputError
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference.families import family

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
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise InputError(f"architecture '{name}' cannot be built with these settings: {error}") from error


def _settle_family(
    factory: Factory, settings: Mapping[str, Any], shapes: Mapping[str, Shape], content: Any
) -> tuple[str | None, str]:
    full = asdict(zoo.architecture(factory.name).settings(settings))
    told = family_told(content)
    if told is not None:
        return told, f"the file's own objects say that its SCConv blocks are of family {told}"
    try:
        fitting = families_that_fit(factory.name, full, _bare(shapes))
    except (ValueError, ArithmeticError):  # settings that give no network: building it says so in words
        return None, ""
    if len(fitting) > 1:
        choices = ", or ".join(f"--variant {f} ({IN_WORDS[f]})" for f in fitting)
        raise InputError(
            f"these weights fit {factory} in {len(fitting)} forms that compute different things, and no "
            f"weight tells which one was trained: add {choices} (or family= inside --factory)"
        )
    if not fitting:
        return None, ""
    return fitting[0], f"of the SCConv families only {fitting[0]} has weights of these names and shapes"


def _bare(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Names from the network's own on: whatever stands before "stem." was added by a wrapper."""
    stem = next((n for n in shapes if f".{n}".endswith(".stem.0.weight")), "")
    prefix = stem.removesuffix("stem.0.weight")
    return {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
