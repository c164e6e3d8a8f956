"""What an owner and its worker say to each other (pickled, so these classes have a module of their own)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scconv_deploy.bench.openers import NotPortableError, Opener
from scconv_deploy.errors import CapabilityError, InputError

ERRORS: dict[str, type[InputError] | type[CapabilityError]] = {
    e.__name__: e for e in (NotPortableError, InputError, CapabilityError)
}
"""Errors that travel; any other arrives as a CapabilityError with its type in the sentence."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is for: one backend, its threads, and the ``.npz`` with its inputs."""

    opener: Opener
    threads: int
    inputs: Path


@dataclass(frozen=True, slots=True)
class Reply:
    """A result, or the name and sentence of an error."""

    value: object = None
    error: str | None = None
    sentence: str = ""
