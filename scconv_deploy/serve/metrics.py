"""What happens in the server -> Prometheus metrics, in a registry of this server's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from scconv_deploy.serve.batching import Answer

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128)
MODEL = ("model", "version")


class Metrics:
    """Counters and histograms of one server. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self._requests = Counter(
            "scconv_requests_total",
            "Inference requests by outcome",
            (*MODEL, "protocol", "outcome"),
            registry=own,
        )
        self._latency = Histogram(
            "scconv_request_seconds",
            "From the request's last byte to its answer",
            (*MODEL, "protocol"),
            buckets=SECONDS,
            registry=own,
        )
        self._queue = Histogram(
            "scconv_queue_seconds", "Waiting for a batch", MODEL, buckets=SECONDS, registry=own
        )
        self._compute = Histogram(
            "scconv_compute_seconds", "One call of the engine", MODEL, buckets=SECONDS, registry=own
        )
        self._batch = Histogram(
            "scconv_batch_samples", "Samples in one call of the engine", MODEL, buckets=SAMPLES, registry=own
        )
        self._depth = Gauge("scconv_queue_depth", "Requests that wait", MODEL, registry=own)
        self._ready = Gauge("scconv_model_ready", "1 while the version serves", MODEL, registry=own)
        self._reloads = Counter(
            "scconv_reloads_total", "Bundles opened while serving", (*MODEL, "outcome"), registry=own
        )

    def observer(self, model: str, version: int) -> ModelObserver:
        """For one version's batcher."""
        return ModelObserver(self, (model, str(version)))

    def request(self, model: str, version: str, protocol: str, outcome: str, seconds: float) -> None:
        """One request ended; ``outcome`` is ``ok`` or the gRPC status in small letters."""
        self._requests.labels(model, version, protocol, outcome).inc()
        self._latency.labels(model, version, protocol).observe(seconds)

    def answered(self, model: str, version: str, answer: Answer) -> None:
        """How long a request waited."""
        self._queue.labels(model, version).observe(answer.queue_s)

    def ready(self, model: str, version: int, *, serves: bool) -> None:
        """A version begins or ends to serve."""
        self._ready.labels(model, str(version)).set(int(serves))

    def reload(self, model: str, version: int, outcome: str) -> None:
        """A bundle was opened (``opened``) or could not be (``refused``)."""
        self._reloads.labels(model, str(version), outcome).inc()

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)


class ModelObserver:
    """The batcher's :class:`~scconv_deploy.serve.batching.Observer`, on one model's labels."""

    def __init__(self, metrics: Metrics, labels: tuple[str, str]) -> None:
        self._depth = metrics._depth.labels(*labels)
        self._batch = metrics._batch.labels(*labels)
        self._compute = metrics._compute.labels(*labels)

    def queued(self, depth: int) -> None:
        """The queue now holds so many requests."""
        self._depth.set(depth)

    def ran(self, samples: int, requests: int, seconds: float) -> None:
        """One call of the engine."""
        del requests
        self._batch.observe(samples)
        self._compute.observe(seconds)
