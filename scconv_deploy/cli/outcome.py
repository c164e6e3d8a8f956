"""What a command did -> exit code, text or JSON; every exception -> one sentence and the right exit code.

| exit | meaning |
|---|---|
| 0 | success |
| 1 | verification failed; nothing was promoted |
| 2 | bad input or usage |
| 3 | a dependency, device or resource is missing here |
| 70 | a mistake of this program (EX_SOFTWARE of sysexits.h), never the user's |
| 130 | interrupted, by Ctrl-C or SIGTERM |
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from rich.console import Console

from scconv_deploy.artifacts import Json
from scconv_deploy.contracts import RunListener
from scconv_deploy.errors import (
    EXIT_BAD_INPUT,
    EXIT_CAPABILITY_MISSING,
    EXIT_INTERRUPTED,
    EXIT_OK,
    ScconvDeployError,
    VerificationError,
)
from scconv_deploy.report.terminal import Terminal, console, plain
from scconv_deploy.report.to_json import dumps, to_json
from scconv_deploy.verdicts import ParityReport

EXIT_INTERNAL = 70
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A command's result: its exit code, the JSON that says it, and how to show it to a person."""

    payload: dict[str, Json]
    show: Callable[[Console], None]
    exit_code: int = EXIT_OK


@dataclass(frozen=True, slots=True)
class Manners:
    """How the command was asked to speak."""

    as_json: bool = False
    quiet: bool = False
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A parsed command line: what to do and how to speak. ``quiet_result``: --quiet silences it too."""

    work: Callable[[RunListener], Outcome]
    manners: Manners = field(default_factory=Manners)
    quiet_result: bool = False


def perform(job: Job) -> int:
    """Do it, tell the result, return the exit code."""
    manners = job.manners
    try:
        with stopped_by_sigterm(), Terminal(quiet=manners.quiet) as listener:
            outcome = job.work(listener)
        if manners.as_json:
            write_json({"exit_code": outcome.exit_code, **outcome.payload})
        elif not (manners.quiet and job.quiet_result):
            with quiet_pipe():
                outcome.show(console(sys.stdout))
                sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the boundary: every error becomes a sentence
        return fail(error, manners)
    return outcome.exit_code


def fail(error: BaseException, manners: Manners) -> int:
    """Write the sentence (and JSON, and traceback) for ``error``; returns the exit code."""
    sentence, exit_code = explain(error)
    if manners.debug:
        traceback.print_exception(error, file=sys.stderr)
    if manners.as_json:
        payload: dict[str, Json] = {
            "error": sentence,
            "kind": type(error).__name__,
            "exit_code": exit_code,
        }
        if isinstance(error, VerificationError) and isinstance(error.report, ParityReport):
            payload["parity"] = to_json(error.report)
        write_json(payload)
    prefix = "" if exit_code == EXIT_INTERRUPTED else "error: "
    with contextlib.suppress(BrokenPipeError):
        print(f"{prefix}{sentence}", file=sys.stderr)
    return exit_code


def explain(error: BaseException) -> tuple[str, int]:
    """Any exception -> one sentence and an exit code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; nothing was left behind", EXIT_INTERRUPTED
    if isinstance(error, ScconvDeployError):
        # Several lines are allowed (a table of what can be built); control characters are not.
        return "\n".join(plain(line) for line in str(error).splitlines()), error.exit_code
    if isinstance(error, MemoryError) or _out_of_memory(error):
        return "not enough memory; try a smaller --input-shape or --maxShapes, or a larger machine", (
            EXIT_CAPABILITY_MISSING
        )
    if isinstance(error, OSError) and error.errno is not None:
        where = f" '{plain(os.fsdecode(error.filename))}'" if isinstance(error.filename, str | bytes) else ""
        reason = (error.strerror or type(error).__name__).lower()
        code = EXIT_CAPABILITY_MISSING if error.errno in FULL else EXIT_BAD_INPUT
        fix = "free some space" if error.errno in FULL else "check the path and its permissions"
        return f"the file system refused{where}: {reason}; {fix}", code
    words = plain(" ".join(str(error).split())[:300])
    return (
        f"internal error: {type(error).__name__}: {words} (run again with --debug, and report it)",
        EXIT_INTERNAL,
    )


def write_json(payload: dict[str, Json]) -> None:
    """Exactly one JSON object and a newline on standard output."""
    with quiet_pipe():
        print(dumps(payload), flush=True)


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """A reader that closes the pipe early (``| head``) has what it wanted: no error, no traceback."""
    try:
        yield
    except BrokenPipeError:
        # Python flushes standard output once more at exit; give the descriptor somewhere to go.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """``kill PID`` cleans up exactly as Ctrl-C does. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)
