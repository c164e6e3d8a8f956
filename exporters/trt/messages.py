"""What the exporting process and the one that builds say to each other: pickled objects over its pipes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporters.trt.settings import BuildRequest
from scconv_deploy.artifacts import Json
from scconv_deploy.errors import BuildError, CapabilityError, InputError
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu

ERRORS: dict[str, type[Exception]] = {
    "BuildError": BuildError,
    "CapabilityError": CapabilityError,
    "InputError": InputError,
    "MemoryError": MemoryError,
}
"""Errors that go through as what they are; any other is a mistake of this program."""


@dataclass(frozen=True, slots=True)
class Order:
    """Build this: ``module`` is the TensorRT to import, ``plan`` the file that the engine is written to."""

    module: str
    gpu: Gpu | NoGpu
    graph: Path
    plan: Path
    request: BuildRequest


@dataclass(frozen=True, slots=True)
class Step:
    """How far it is."""

    label: str
    fraction: float | None


@dataclass(frozen=True, slots=True)
class Built:
    """The engine lies in the order's file; the rest of a Plan is here."""

    layers: str | None
    settings: dict[str, Json]
    profile: list[Json]
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """``kind`` is a key of :data:`ERRORS`, or the name of another exception."""

    kind: str
    sentence: str
    traceback: str = ""


Reply = Step | Built | Failed
