"""Names after ``--package`` -> what they write, and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from scconv_deploy.errors import InputError, nearest
from scconv_deploy.packaging.kserve import write_kserve
from scconv_deploy.packaging.triton import write_triton

Write = Callable[..., Path]
FORMATS: Mapping[str, Write] = {
    "triton": write_triton,
    "triton-python": partial(write_triton, python=True),
    "kserve": write_kserve,
}


def known_format(name: str) -> str:
    """The name itself.

    Raises:
        InputError: there is no such format; the message names the nearest.
    """
    if name not in FORMATS:
        raise InputError(
            f"package '{name}' is unknown; choose of {', '.join(FORMATS)}{nearest(name, FORMATS)}"
        )
    return name


def write_package(name: str, bundle: Path, *, force: bool = False) -> Path:
    """Write one format beside the bundle, into ``<bundle>-<format>``; returns that folder.

    Raises:
        InputError: the bundle cannot have it, or the folder exists and ``force`` is not given.
    """
    folder = bundle.with_name(f"{bundle.name}-{known_format(name)}")
    FORMATS[name](bundle, folder, force=force)
    return folder
