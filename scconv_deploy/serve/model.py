"""One version of a model: a bundle's engine behind a batcher, and what the protocol tells about it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scconv_deploy.errors import InputError
from scconv_deploy.runtime.batch_axis import counts_samples
from scconv_deploy.runtime.engine import Engine, open_bundle
from scconv_deploy.runtime.engine_options import LARGEST as MOST_CONTEXTS
from scconv_deploy.runtime.engine_options import EngineOptions
from scconv_deploy.serve.batching import Answer, Arrays, Batcher, Observer
from scconv_deploy.serve.failures import DrainingError
from scconv_deploy.serve.settings import BatchLimits
from scconv_deploy.serve.tensors import datatype_of

PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino_ir"}
"""Runtime of a bundle -> the platform's name in the protocol; TensorRT's are all ``tensorrt_plan``."""


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """Name, protocol datatype and shape; a free axis is -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Model:
    """Thread-safe. Open it with :func:`open_model`.

    Attributes:
        name, version: what requests call it.
        path: its bundle.
        inputs, outputs: as the protocol describes them.
        max_batch: most samples in one call of the engine, 1 where the bundle's batch is fixed.
        manifest: the bundle's.
    """

    def __init__(
        self, name: str, version: int, engine: Engine, limits: BatchLimits, observer: Observer
    ) -> None:
        self.name, self.version, self.path = name, version, engine.path
        self.manifest: Mapping[str, Any] = engine.manifest
        self.inputs = tuple(map(_metadata, engine.manifest["inputs"]))
        self.outputs = tuple(map(_metadata, engine.manifest["outputs"]))
        self._engine = engine
        stackable = counts_samples(engine.manifest)
        largest = min((int(i["maximum"][0]) for i in engine.manifest["inputs"] if i["maximum"]), default=1)
        self.max_batch = min(limits.max_batch, largest) if stackable else 1
        own = BatchLimits(self.max_batch, limits.max_delay_ms, limits.queue_size, limits.instances)
        self._batcher = Batcher(engine.run, own, stackable=stackable, observer=observer)
        self._closed = False

    @property
    def platform(self) -> str:
        """The protocol's word for the artifact."""
        return PLATFORMS.get(str(self.manifest["runtime"]), "tensorrt_plan")

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return not self._closed

    def infer(self, inputs: Mapping[str, np.ndarray], timeout_s: float) -> Future[Answer]:
        """Check a request and queue it.

        Raises:
            InputError: names, dtypes, shapes or ranges that the engine does not take.
            QueueFullError, DrainingError: it cannot be queued now.
        """
        if self._closed:
            raise DrainingError(f"model '{self.name}' is being taken away; try again")
        self._engine.check(inputs)
        sizes = {a.shape[0] for a in inputs.values() if a.ndim}
        if self.max_batch > 1 and len(sizes) > 1:
            raise InputError(
                f"the inputs have different numbers of samples on axis 0: {', '.join(map(str, sorted(sizes)))}"
            )
        return self._batcher.submit(_ordered(inputs, self.inputs), timeout_s)

    def close(self, timeout_s: float) -> None:
        """Finish what waits, for at most ``timeout_s``, then release the engine."""
        self._closed = True
        if self._batcher.close(timeout_s):
            self._engine.close()


def open_model(
    name: str,
    version: int,
    path: Path,
    limits: BatchLimits,
    observer: Observer,
    *,
    threads: int | None = None,
    provider: str | None = None,
    verify: str = "golden",
    fallback: str | None = None,
) -> Model:
    """Open a bundle, prove it (``verify``), and put a batcher before it. An engine gets as many contexts as
    instances call it at the same time.

    Raises:
        InputError, CapabilityError: as :func:`scconv_deploy.open`.
    """
    options = EngineOptions(contexts=min(limits.instances, MOST_CONTEXTS))
    engine = open_bundle(path, threads, provider, verify, fallback=fallback, options=options)
    return Model(name, version, engine, limits, observer)


def _ordered(inputs: Arrays, known: tuple[TensorMetadata, ...]) -> dict[str, np.ndarray]:
    """In the model's own order, so that equal requests have equal keys."""
    return {t.name: inputs[t.name] for t in known}


def _metadata(entry: Mapping[str, Any]) -> TensorMetadata:
    shape = tuple(-1 if isinstance(axis, str) else int(axis) for axis in entry["shape"])
    return TensorMetadata(str(entry["name"]), datatype_of(str(entry["dtype"])), shape)
