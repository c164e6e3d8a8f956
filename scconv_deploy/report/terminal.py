"""What the pipeline does -> lines on a terminal or in a pipe.

``Terminal`` is the RunListener behind the command line. On a terminal a spinner shows the running stage and
each finished stage leaves one line; in a pipe only these lines appear, without any control character::

    [✓] trace        2.8 s   412 nodes

Everything goes to standard error, so that standard output holds results alone. Colour appears only on a
terminal and never where ``NO_COLOR`` is set; rich decides both. Names from a user's file may hold escape
sequences; ``plain`` makes them visible and harmless.
"""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from scconv_deploy.artifacts import StageTiming

PIPE_WIDTH = 160
"""Columns in a pipe, where rich would assume 80 and wrap paths that a script wants whole."""


class _Console(Console):
    """rich ends the process with exit code 1 when a reader leaves; that is for our caller to decide."""

    def on_broken_pipe(self) -> None:
        """Let the error out instead of exiting."""
        raise BrokenPipeError


def console(stream: TextIO | None = None) -> Console:
    """A rich console on ``stream`` (default: standard error as it is now)."""
    target = stream or sys.stderr
    width = None if target.isatty() else PIPE_WIDTH
    return _Console(file=target, width=width, highlight=False, markup=False, emoji=False)


def plain(text: str) -> str:
    """Replace control characters, C1 included, by their escapes: ``ESC[31m`` -> ``\\x1b[31m``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def can_encode(out: Console, text: str) -> bool:
    """Whether the console's stream can write ``text``."""
    try:
        text.encode(out.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def marks(out: Console) -> tuple[str, str]:
    """The marks for "went well" and "went wrong": ✓ and ✗, or ``ok`` and ``x`` without Unicode."""
    return ("✓", "✗") if can_encode(out, "✓✗") else ("ok", "x")


def encodable(out: Console, text: str) -> str:
    """``text`` with what the console's stream cannot write replaced by ``?``; never an exception."""
    if can_encode(out, text):
        return text
    return text.encode(out.encoding or "ascii", "replace").decode(out.encoding or "ascii")


def print_table(out: Console, table: Table) -> None:
    """Write a table; in a pipe without the spaces that rich appends to fill the width."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    lines = (line.rstrip() for line in captured.get().splitlines())
    print("\n".join(line for line in lines if line), file=out.file)


def duration(seconds: float) -> str:
    """``0.0421 -> "42 ms"``, ``2.83 -> "2.8 s"``, ``95 -> "1 min 35 s"``."""
    if not math.isfinite(seconds):
        return f"{seconds} s"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


class Terminal:
    """RunListener on a console; a context manager that never leaves a spinner behind.

    Leaving with an exception while a stage runs prints that stage's line with the mark for "went wrong".
    """

    def __init__(self, out: Console | None = None, quiet: bool = False) -> None:
        self._out = out or console()
        self._quiet = quiet
        self._status: Status | None = None
        self._stage: str | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if kind is not None and self._stage is not None:
            word = "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
            self._line(self._stage, time.monotonic() - self._began, word, good=False)
        self._stage = None

    def started(self, stage: str) -> None:
        """A stage begins: on a terminal the spinner says so."""
        self._stage = stage
        self._began = time.monotonic()
        self.update("")

    def update(self, message: str, fraction: float | None = None) -> None:
        """Replace the spinner's words; in a pipe this is silent."""
        if self._quiet or not self._out.is_terminal:
            return
        parts = [self._stage or "", plain(message), "" if fraction is None else f"{fraction:.0%}"]
        text = Text(encodable(self._out, "  ".join(p for p in parts if p)), overflow="ellipsis", no_wrap=True)
        if self._status is None:
            # Eight frames a second: watching a build must not slow it (NVIDIA/TensorRT 3733).
            self._status = Status(text, console=self._out, spinner=self._spinner(), refresh_per_second=8)
            self._status.start()
        else:
            self._status.update(text)

    def finished(self, timing: StageTiming) -> None:
        """One line: mark, stage, seconds, result."""
        self._stop()
        self._stage = None
        self._line(timing.stage, timing.seconds, timing.result, good=True)

    def note(self, text: str) -> None:
        """One sentence for the user, below the lines."""
        if self._quiet:
            return
        self._print(Text(encodable(self._out, f"    note: {plain(text)}"), style="yellow"))

    def _line(self, stage: str, seconds: float, result: str, *, good: bool) -> None:
        if self._quiet:
            return
        well, wrong = marks(self._out)
        line = Text()
        line.append(f"[{well if good else wrong}]", style="green" if good else "bold red")
        line.append(encodable(self._out, f" {stage:<10}"), style="bold")
        line.append(f" {duration(seconds):>10}   ", style="dim")
        line.append(encodable(self._out, plain(result)))
        self._print(line)

    def _print(self, text: Text) -> None:
        try:
            self._out.print(text, soft_wrap=True)
        except BrokenPipeError:
            self._quiet = True  # nobody reads along any more; the work itself goes on

    def _spinner(self) -> str:
        return "dots" if can_encode(self._out, "⠋") else "line"

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
