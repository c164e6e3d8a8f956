"""Spans where they are asked for, nothing where they are not."""

from __future__ import annotations

import sys

import pytest

from scconv_deploy.errors import CapabilityError
from scconv_deploy.serve.tracing import Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_without_an_endpoint_there_is_no_span() -> None:
    tracing = Tracing(None)
    with tracing.span("infer", {}, {}) as span:
        assert span is None
    tracing.close()


def test_a_span_has_its_attributes_and_the_clients_parent() -> None:
    memory = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="needs the otel extra"
    )
    exporter = memory.InMemorySpanExporter()
    tracing = Tracing(None, exporter)
    with tracing.span("infer", {"traceparent": PARENT}, {"model": "net"}) as span:
        span.set_attribute("batch", 3)
    with pytest.raises(ValueError, match="inside"), tracing.span("infer", {}, {}):
        raise ValueError("inside")
    tracing._provider.force_flush()
    good, bad = exporter.get_finished_spans()
    assert dict(good.attributes) == {"model": "net", "batch": 3}
    assert f"{good.parent.trace_id:032x}" in PARENT
    assert good.status.is_ok
    assert not bad.status.is_ok
    tracing.close()


def test_missing_opentelemetry_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CapabilityError, match=r"scconv-deploy\[otel\]"):
        Tracing("http://127.0.0.1:4318/v1/traces")
