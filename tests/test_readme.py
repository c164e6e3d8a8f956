"""What the README tells people to type exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from scconv_deploy.cli.application import app
from scconv_deploy.cli.outcome import explain

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "samples" / "digits" / "README.md")
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LINES = sorted(
    set(re.findall(r"^(?:\$ )?(scconv-(?:export|verify|bench|serve|inspect|doctor)\b[^#\n]*)", TEXT, re.M))
)


def test_every_make_command_is_a_documented_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", TEXT, re.M))
    assert {"demo", "test", "help", "bench", "check"} <= named
    assert named <= targets
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)
    assert phony is not None
    assert set(phony[1].split()) == targets


def test_the_newcomers_two_commands_come_first() -> None:
    readme = DOCUMENTS[0].read_text(encoding="utf-8")
    first = readme[readme.index("```") :].split("```")[1]
    assert re.findall(r"^make \w+", first, re.M) == ["make demo", "make test"]


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_parses(line: str) -> None:
    program, *arguments = shlex.split(line)
    command = get_command(app).commands[program.removeprefix("scconv-")]  # type: ignore[attr-defined]
    command.make_context(program, arguments)


def test_enough_command_lines_were_found() -> None:
    assert {line.split()[0] for line in LINES} >= {"scconv-export", "scconv-verify", "scconv-bench"}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bsamples/[\w./-]+", TEXT))))
def test_every_sample_named_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_exit_codes_are_told_as_they_are() -> None:
    told = set(re.findall(r"^\| (\d+) \|", DOCUMENTS[0].read_text(encoding="utf-8"), re.M))
    assert told == {"0", "1", "2", "3", "70", "130"}
    assert explain(ZeroDivisionError())[1] == 70
    assert explain(KeyboardInterrupt())[1] == 130


def test_extras_and_commands_named_are_in_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(re.findall(r'"\.\[([\w-]+)\]"', TEXT))
    assert extras <= set(project["optional-dependencies"])
    assert {line.split()[0] for line in LINES} <= set(project["scripts"])


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", DOCUMENTS[0].read_text(encoding="utf-8"), re.S)
    assert code is not None
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    exec(compile(code[1], "README.md", "exec"), {})
    assert (tmp_path / "out" / "digits" / "model.onnx").is_file()


def test_ci_runs_exactly_the_two_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script
    assert re.findall(r"^make (\w+)$", script, re.M) == ["check", "test"]
