"""The exporter's chatter is silent inside and as loud as before outside; failures come through."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest

from scconv_deploy.quiet import quiet_exporter

NAMES = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


@pytest.fixture
def loud() -> Iterator[None]:
    """Every logger at a level of its own, so that a mixed-up restoration shows."""
    before = [logging.getLogger(n).level for n in NAMES]
    for number, name in enumerate(NAMES):
        logging.getLogger(name).setLevel(11 + number)
    yield
    for name, level in zip(NAMES, before, strict=True):
        logging.getLogger(name).setLevel(level)


def chatter() -> None:
    print("[torch.onnx] Obtain model graph")
    warnings.warn("internal", UserWarning, stacklevel=1)
    for name in NAMES:
        logging.getLogger(name).error("internal %s", name)


def levels() -> list[int]:
    return [logging.getLogger(n).level for n in NAMES]


def test_nothing_is_heard_inside(
    loud: None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet_exporter():
            chatter()
        assert (heard, caplog.records, capsys.readouterr().out) == ([], [], "")
        chatter()
    # The same chatter is heard outside, so the silence was ours.
    assert len(heard) == 1
    assert len(caplog.records) == len(NAMES)
    assert "Obtain" in capsys.readouterr().out


def test_other_loggers_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_exporter():
        logging.getLogger("users.own").error("heard")
    assert [r.message for r in caplog.records] == ["heard"]


def test_a_failure_comes_through_and_restores_what_was(
    loud: None, capsys: pytest.CaptureFixture[str]
) -> None:
    filters = list(warnings.filters)
    with pytest.raises(RuntimeError, match="untraceable"), quiet_exporter():
        raise RuntimeError("untraceable")
    assert levels() == [11, 12, 13, 14]
    assert list(warnings.filters) == filters
    print("heard")
    assert capsys.readouterr().out == "heard\n"


def test_silence_inside_silence_ends_with_the_outer_one(loud: None) -> None:
    with quiet_exporter():
        with quiet_exporter():
            pass
        assert levels() == [logging.CRITICAL] * len(NAMES)
    assert levels() == [11, 12, 13, 14]
