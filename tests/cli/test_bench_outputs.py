"""``scconv-bench``'s options for the sweep and the files, through the real command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from scconv_deploy.bench_config import BreakEvenConfig
from scconv_deploy.cli import bench_main
from scconv_deploy.cli.bench_outputs import break_even_config, files, payload
from scconv_deploy.config import Form
from scconv_deploy.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from tests.bench_unit.reports import measurement, report


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["scconv-bench", *arguments])
    with pytest.raises(SystemExit) as left:
        bench_main()
    return int(left.value.code or 0)


def test_only_what_the_user_wrote_replaces_the_sweeps_defaults() -> None:
    defaults = break_even_config({}, "f3", "standard", None, None, 0)
    assert defaults == BreakEvenConfig()
    asked = break_even_config(
        {"batch": "2,4", "threads": "2", "warm_up": 5, "duration": 0.5}, "PAPER", "plugin", "16", "8,4", 7
    )
    assert asked == BreakEvenConfig((16,), (8, 4), (2, 4), "paper", Form.PLUGIN, 2, 5, 0.5, 7)
    with pytest.raises(InputError, match="one thread count"):
        break_even_config({"threads": "1,2"}, "F3", "standard", None, None, 0)


def test_a_file_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        files(None, str(tmp_path / "no" / "b.html"))
    with pytest.raises(InputError, match="is a folder"):
        files(str(tmp_path), None)
    assert files(None, None) == files(None, None)


def test_every_calls_time_is_in_the_json_only_where_asked_for() -> None:
    one = dataclasses.replace(measurement("x", 1.0, 1.0), samples_ms=((1.0,),))
    assert "[[1.0]]" in json.dumps(payload(report(one), raw=True))
    lean = payload(report(one), raw=False)
    assert "[[1.0]]" not in json.dumps(lean)
    assert {"honesty", "break_even", "schema_version"} <= set(lean)


def test_a_sweep_writes_json_markdown_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, text = tmp_path / "b.html", tmp_path / "b.md"
    sweep = ["--break-even", "--channels", "16", "--sides", "4", "--batch", "1", "--warmUp", "0"]
    code = run(monkeypatch, *sweep, "--duration", "0", "--html", str(page), "--markdown", str(text), "--json")
    assert code == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    (point,) = found["break_even"]["points"]
    assert (point["channels"], point["side"], point["batch"]) == (16, 4, 1)
    assert point["ratio"]["low"] <= point["ratio"]["value"] <= point["ratio"]["high"]
    assert "Break-even" in page.read_text(encoding="utf-8")
    assert "| 4x4 |" in text.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name what to measure"),
        (["--break-even", "--family", "F9"], "F9"),
        (["--break-even", "--channels", "x"], "--channels"),
        (["--break-even", "--channels", "7"], "7"),
    ],
)
def test_misuse_is_one_sentence(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
