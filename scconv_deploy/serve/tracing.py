"""Requests -> OpenTelemetry spans, where an endpoint was configured; else nothing, at no cost.

The SDK is imported only then (extra ``otel``). A client's ``traceparent`` header makes its span the parent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from scconv_deploy.errors import CapabilityError

SERVICE = "scconv-serve"


class Tracing:
    """Spans to one endpoint. ``exporter`` replaces the OTLP one (tests).

    Raises:
        CapabilityError: OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str | None, exporter: Any = None) -> None:
        self._tracer: Any = None
        self._provider: Any = None
        if endpoint is None and exporter is None:
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise CapabilityError(
                'traces need OpenTelemetry, which is not installed: pip install "scconv-deploy[otel]"'
            ) from error
        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer(SERVICE)

    @contextlib.contextmanager
    def span(self, name: str, carrier: Mapping[str, str], attributes: Mapping[str, Any]) -> Iterator[Any]:
        """One span around a block; yields it, or None where nothing is traced."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            name, context=extract(carrier), kind=SpanKind.SERVER, attributes=dict(attributes)
        ) as span:
            yield span

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()
