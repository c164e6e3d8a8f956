"""One JSON object a line, whatever is logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from scconv_deploy.serve import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    logger = logging.getLogger(logs.LOGGER)
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_lines_are_json_with_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.log(logging.INFO, 'two\nlines and "quotes"', model="net", error=ValueError("x"))
    logs.exception("failed", ZeroDivisionError("by zero"), id="7")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["message"], first["model"], first["level"]) == ('two\nlines and "quotes"', "net", "info")
    assert first["time"].endswith("Z")
    assert (second["id"], second["level"]) == ("7", "error")
    assert "ZeroDivisionError: by zero" in second["traceback"]


def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(quiet=True)
    logs.log(logging.INFO, "no")
    logs.log(logging.WARNING, "yes")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "yes"
