"""argv -> configuration -> pipeline -> exit code.

``application`` declares the commands, ``requests`` checks what they were given, ``outcome`` performs the job
and maps every ending to an exit code. Importing this package must not import torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer
from typer.main import get_command

from scconv_deploy.cli.application import app
from scconv_deploy.cli.outcome import Job, Manners, fail, perform
from scconv_deploy.errors import InputError

# The class with the parser's sentence; typer carries its own copy of click, or imports click, by version.
UsageProblem = typer.BadParameter.__mro__[2]


def run(command: str | None, arguments: Sequence[str]) -> int:
    """Run one command (None: its name is the first argument) and return the exit code.

    Args:
        command: ``export``, ``verify``, ``bench``, ``serve``, ``inspect`` or ``doctor``.
        arguments: the rest of the command line.
    """
    group = get_command(app)
    parser = group if command is None else group.commands[command]  # type: ignore[attr-defined]
    name = "scconv_deploy" if command is None else f"scconv-{command}"
    shown = f"python -m {name}" if command is None else name
    try:
        # ``prog_name`` is what usage lines show; with standalone_mode off, problems are ours to tell.
        result: object = parser.main(args=list(arguments), prog_name=shown, standalone_mode=False)
    except Exception as problem:  # noqa: BLE001 - the boundary: every error becomes a sentence
        return fail(_in_words(problem, shown), _manners(arguments))
    if isinstance(result, Job):
        return perform(result)
    return result if isinstance(result, int) else 0


def _in_words(problem: Exception, shown: str) -> Exception:
    """The parser's usage problems as our InputError; everything else unchanged."""
    if not isinstance(problem, UsageProblem):
        return problem
    sentence = problem.format_message().replace("\n", " ").strip().rstrip(".")  # type: ignore[attr-defined]
    return InputError(f"{sentence[:1].lower()}{sentence[1:]}; see `{shown} --help`")


def _manners(arguments: Sequence[str]) -> Manners:
    """How to speak when parsing itself failed."""
    return Manners("--json" in arguments, bool({"--quiet", "-q"} & set(arguments)), "--debug" in arguments)


def export_main() -> NoReturn:
    """Entry point of ``scconv-export``."""
    sys.exit(run("export", sys.argv[1:]))


def verify_main() -> NoReturn:
    """Entry point of ``scconv-verify``."""
    sys.exit(run("verify", sys.argv[1:]))


def bench_main() -> NoReturn:
    """Entry point of ``scconv-bench``."""
    sys.exit(run("bench", sys.argv[1:]))


def serve_main() -> NoReturn:
    """Entry point of ``scconv-serve``."""
    sys.exit(run("serve", sys.argv[1:]))


def inspect_main() -> NoReturn:
    """Entry point of ``scconv-inspect``."""
    sys.exit(run("inspect", sys.argv[1:]))


def doctor_main() -> NoReturn:
    """Entry point of ``scconv-doctor``."""
    sys.exit(run("doctor", sys.argv[1:]))
