"""Target name -> exporter, through entry points; the core never names an exporter."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from scconv_deploy.contracts import Exporter
from scconv_deploy.errors import CapabilityError, InputError, nearest

GROUP = "scconv_deploy.exporters"


def targets() -> tuple[str, ...]:
    """Names of every installed target, sorted."""
    return tuple(sorted(_found()))


def exporter(target: str) -> Exporter:
    """Construct the exporter of ``target``.

    Raises:
        InputError: no such target; the message names the nearest.
        CapabilityError: the package is not installed properly (no targets at all), or the exporter's own
            module cannot be imported.
    """
    found = _found()
    if not found:
        raise CapabilityError(
            "no export targets are registered: scconv-deploy is imported but not installed; "
            "run `pip install -e .` (or install the wheel)"
        )
    if target not in found:
        raise InputError(
            f"unknown target '{target}'; choose one of {', '.join(sorted(found))}{nearest(target, found)}"
        )
    try:
        made = found[target].load()()
    except ImportError as error:
        raise CapabilityError(f"the exporter for target '{target}' cannot be imported: {error}") from error
    return cast(Exporter, made)


def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
