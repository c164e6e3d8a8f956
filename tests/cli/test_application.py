from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.program import environment, scconv

COMMANDS = ("export", "verify", "bench", "inspect", "doctor")
HELP_BUDGET_S = 2.0
"""0.15 s on a quiet machine; importing torch alone takes longer than the budget on a busy one."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file that exists; nothing in these tests opens it."""
    path = tmp_path / "model.pt"
    path.write_bytes(b"not a model")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_and_leaves_torch_alone(command: str, tmp_path: Path) -> None:
    code = (
        "import sys; from scconv_deploy.cli import run\n"
        f"code = run({command!r}, ['--help'])\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"  scconv-{command}" in done.stdout
    assert "--json" in done.stdout
    assert time.monotonic() - began < HELP_BUDGET_S


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export"], "missing argument 'MODEL'"),
        (["export", "model.pt"], "missing option '--target'"),
        (["export", "model.pt", "--tragte", "onnx"], "--target"),
        (["export", "model.pt", "--target", "onx"], "did you mean 'onnx'?"),
        (["export", "modle.pt", "--target", "onnx"], "did you mean 'model.pt'?"),
        (["export", "nowhere/model.pt", "--target", "onnx"], "there is no folder 'nowhere'"),
        (["export", "model.pt", "--target", "onnx", "--precision", "fp61"], "did you mean 'fp16'?"),
        (["export", "model.pt", "--target", "onnx", "--precision", "int8", "--fp16"], "contradict"),
        (["export", "model.pt", "--target", "onnx", "--int8", "--bf16"], "contradict"),
        (["export", "model.pt", "--target", "onnx", "--form", "plugn"], "did you mean 'plugin'?"),
        (["export", "model.pt", "--target", "onnx", "--opset", "3"], "opset 3 is not supported"),
        (["export", "model.pt", "--target", "onnx", "--opset", "new"], "--opset"),
        (["export", "model.pt", "--target", "onnx", "--input-shape", "1x3x"], "is not a shape"),
        (["export", "model.pt", "--target", "onnx", "--calib", "no.npz"], "'no.npz' does not exist"),
        (["export", "model.pt", "--target", "onnx", "--compute-capability", "ada"], "'ada'"),
        (["verify", "bundle"], "the bundle 'bundle' does not exist"),
        (["bench", "model.pt", "--batch", "0"], "list of positive numbers"),
        (["bench", "model.pt", "--iterations", "0"], "--iterations must be at least 1"),
        (["inspect", "other.pt"], "does not exist"),
        (["exprot", "model.pt"], "exprot"),
        ([], "missing command"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_2(arguments: list[str], words: str, model: Path) -> None:
    done = scconv(*arguments, folder=model.parent)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in model.parent.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("arguments", [["export", "--tragte"], ["export", "no.pt", "--target", "onnx"]])
def test_json_is_one_object_on_failure_too(arguments: list[str], tmp_path: Path) -> None:
    done = scconv(*arguments, "--json", folder=tmp_path)
    said = json.loads(done.stdout)
    assert said["exit_code"] == done.returncode == 2
    assert said["kind"] == "InputError"
    assert f"error: {said['error']}\n" == done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = scconv("inspect", "no.pt", "--debug", folder=tmp_path)
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: ")


def test_doctor_tells_a_machine_the_same(tmp_path: Path) -> None:
    done = scconv("doctor", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {item["name"]: item for item in json.loads(done.stdout)["findings"]}
    assert found["torch"]["present"] is True
    assert found["onnx"]["present"] is True
    assert "\x1b" not in scconv("doctor", folder=tmp_path).stdout
