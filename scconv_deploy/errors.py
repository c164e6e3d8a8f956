"""One exception tree, mapped once to exit codes.

Every error carries a sentence that says what was wrong, where, and what to do about it. The command line
prints that sentence and nothing else; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_VERIFICATION_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_CAPABILITY_MISSING = 3
EXIT_INTERRUPTED = 130


class ScconvDeployError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code: int = EXIT_BAD_INPUT


class InputError(ScconvDeployError):
    """The file, shape, option or model that was given cannot be used (exit 2)."""

    exit_code = EXIT_BAD_INPUT


class UntrustedCodeError(InputError):
    """A checkpoint needs classes whose code was not named with ``--trust`` (exit 2)."""


class CapabilityError(ScconvDeployError):
    """A dependency, device or feature is missing on this machine (exit 3)."""

    exit_code = EXIT_CAPABILITY_MISSING


class BuildError(ScconvDeployError):
    """The target's builder refused the graph (exit 2: this model cannot be built as asked)."""

    exit_code = EXIT_BAD_INPUT


class VerificationError(ScconvDeployError):
    """The built artifact does not compute the user's function (exit 1); nothing was promoted.

    ``report`` is the :class:`~scconv_deploy.verdicts.ParityReport` where a comparison was made.
    """

    exit_code = EXIT_VERIFICATION_FAILED

    def __init__(self, message: str, report: object | None = None) -> None:
        super().__init__(message)
        self.report = report


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, cut to 300 characters; its type's name where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
