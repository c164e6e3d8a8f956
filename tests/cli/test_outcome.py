from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from scconv_deploy.cli.outcome import Job, Manners, Outcome, explain, perform
from scconv_deploy.contracts import RunListener
from scconv_deploy.errors import BuildError, CapabilityError, InputError, VerificationError
from scconv_deploy.verdicts import Verdict
from tests.report.example import parity


def raising(error: BaseException) -> Callable[[RunListener], Outcome]:
    def work(listener: RunListener) -> Outcome:
        listener.started("build")
        raise error

    return work


def saying(exit_code: int = 0) -> Callable[[RunListener], Outcome]:
    def show(out: Console) -> None:
        out.print("the result")

    return lambda listener: Outcome({"answer": 42}, show, exit_code)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (VerificationError("differs"), 1, "differs"),
        (InputError("bad shape"), 2, "bad shape"),
        (BuildError("refused"), 2, "refused"),
        (CapabilityError("no GPU"), 3, "no GPU"),
        (KeyboardInterrupt(), 130, "nothing was left behind"),
        (MemoryError(), 3, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 TB"), 3, "not enough memory"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 2, "'/root/x': permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "/out"), 3, "free some space"),
        (ZeroDivisionError("division by zero"), 70, "internal error: ZeroDivisionError"),
    ],
)
def test_every_ending_has_its_code_and_sentence(error: BaseException, code: int, words: str) -> None:
    sentence, exit_code = explain(error)
    assert exit_code == code
    assert words in sentence
    assert perform(Job(raising(error))) == code


def test_an_escape_sequence_in_an_error_is_harmless() -> None:
    assert "\x1b" not in explain(InputError("no file '\x1b[2J'"))[0]
    assert "\x1b" not in explain(ValueError("\x1b[2J"))[0]


def test_a_result_goes_to_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert perform(Job(saying())) == 0
    assert capsys.readouterr() == ("the result\n", "")
    assert perform(Job(saying(1), Manners(as_json=True))) == 1
    out, _ = capsys.readouterr()
    assert json.loads(out) == {"exit_code": 1, "answer": 42}


def test_quiet_silences_a_summary_and_not_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    perform(Job(saying(), Manners(quiet=True), quiet_result=True))
    assert capsys.readouterr().out == ""
    perform(Job(saying(), Manners(quiet=True)))
    assert capsys.readouterr().out == "the result\n"


def test_a_failed_verification_carries_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    error = VerificationError("differs", parity(Verdict.FAIL))
    assert perform(Job(raising(error), Manners(as_json=True))) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["parity"]["first_divergent_block"] == "layer2.1.conv2"


def test_sigterm_cleans_up_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work(listener: RunListener) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not delivered")

    assert perform(Job(work)) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    code = (
        "import sys, time; from scconv_deploy.cli.outcome import Job, Outcome, perform\n"
        "def show(out):\n"
        "    time.sleep(0.5)\n"
        "    for _ in range(20000): out.print('x' * 100)\n"
        "sys.exit(perform(Job(lambda listener: Outcome({}, show))))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
