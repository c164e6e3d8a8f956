"""Plain values from a checkpoint or a caller -> checked, frozen settings of a zoo network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from scconv_deploy.errors import InputError, nearest
from scconv_deploy.scconv.reference.families import family

Setting = int | float | str | None | list[int] | tuple[int, ...]
"""What a setting may be: values that survive ``torch.load(weights_only=True)`` and JSON."""

SCCONV_ONLY = ("family", "groups", "threshold", "alpha", "squeeze", "gwc_groups", "gwc_kernel")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that varies between two networks of one architecture.

    ``width`` is the channels of the first stage (later stages double it), ``blocks`` the residual blocks of
    each stage, ``image`` the side of the default input (it decides no weight). The rest describes the
    SCConv blocks as ``reference.scconv`` names it and is unused by plain networks.
    """

    in_channels: int
    num_classes: int
    width: int
    blocks: tuple[int, ...]
    image: int
    family: str = "F3"
    groups: int | None = None
    threshold: float = 0.5
    alpha: float = 0.5
    squeeze: int = 2
    gwc_groups: int = 2
    gwc_kernel: int = 3


def apply(defaults: Settings, given: Mapping[str, Setting], name: str, plain: bool) -> Settings:
    """``defaults`` with the given values in place.

    Args:
        defaults: the architecture's own settings.
        given: settings by name; ``blocks`` may be one number for all stages.
        name: the architecture, for messages.
        plain: whether the architecture has no SCConv blocks and so refuses their settings.

    Raises:
        InputError: an unknown setting (with the nearest name), or a value of the wrong type or range.
    """
    known = [f.name for f in fields(Settings) if not (plain and f.name in SCCONV_ONLY)]
    for key in given:
        if key not in known:
            raise InputError(
                f"architecture '{name}' has no setting '{key}'; it has {', '.join(known)}"
                f"{nearest(key, known)}"
            )
    checked = {key: _checked(key, value, len(defaults.blocks), name) for key, value in given.items()}
    return replace(defaults, **checked)  # type: ignore[arg-type]  # _checked gives each field its own type


def _checked(key: str, value: Setting, stages: int, name: str) -> Setting:
    where = f"setting '{key}' of architecture '{name}'"
    if key == "family":
        if not isinstance(value, str):
            raise InputError(f"{where} must be a family's name, not {value!r}")
        family(value)
        return value
    if key == "blocks":
        return _blocks(value, stages, where)
    if key == "groups" and value is None:
        return None
    if key in ("threshold", "alpha"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where} must be a number, not {value!r}")
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{where} must be a whole number of at least 1, not {value!r}")
    return value


def _blocks(value: Setting, stages: int, where: str) -> tuple[int, ...]:
    counts = [value] * stages if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(counts, list | tuple) or len(counts) != stages:
        raise InputError(f"{where} must be one number or a list of {stages} numbers, not {value!r}")
    whole = tuple(n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n >= 1)
    if len(whole) != stages:
        raise InputError(f"{where} must hold whole numbers of at least 1, not {value!r}")
    return whole
