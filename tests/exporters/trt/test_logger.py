"""One logger per module and process, and messages that belong to one build."""

from exporters.trt.logger import recording
from tests.exporters.trt.models import rtx


def test_there_is_one_bridge_and_it_is_an_ilogger() -> None:
    module = rtx()
    with recording(module) as (first, _):
        pass
    with recording(module) as (second, _):
        pass
    assert first is second
    assert isinstance(first, module.ILogger)


def test_messages_are_sorted_by_severity_and_the_last_layer_log_is_found() -> None:
    severity = rtx().ILogger
    with recording(rtx()) as (logger, messages):
        logger.log(severity.VERBOSE, "Layers:\nof a graph inside")
        logger.log(severity.VERBOSE, "Layers:\nof the engine")
        logger.log(severity.VERBOSE, "about Layers: no log")
        logger.log(severity.INFO, "dropped")
        logger.log(severity.WARNING, "careful")
        logger.log(severity.ERROR, "wrong")
        logger.log(severity.INTERNAL_ERROR, "very wrong")
    assert messages.layers() == "Layers:\nof the engine"
    assert messages.warnings == ["careful"]
    assert messages.errors == ["wrong", "very wrong"]
    assert len(messages.verbose) == 3


def test_each_build_has_its_own_messages_and_none_arrive_between_builds() -> None:
    severity = rtx().ILogger
    with recording(rtx()) as (logger, first):
        logger.log(severity.ERROR, "one")
    logger.log(severity.ERROR, "between")
    with recording(rtx()) as (_, second):
        assert second.errors == []
        assert second.layers() is None
    assert first.errors == ["one"]
