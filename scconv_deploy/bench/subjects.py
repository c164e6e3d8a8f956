"""What the user named -> what is measured: a bundle gives one backend, a model gives two.

* A bundle is opened with the runtime it was built for; where that cannot run here, the reason is a note.
* A model is measured as ``PyTorch eager`` (the user's own module) and as ``naive ONNX`` (the exporter's
  defaults on it, in ONNX Runtime), which is what the user has without this package.

A new kind of subject is one class with ``open``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.bench.naive import naive_export
from scconv_deploy.bench.rounds import Backend
from scconv_deploy.config import BenchConfig, ShapeRange, dims
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.inputs import example_tensors
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.engine import check_hashes, read_manifest
from scconv_deploy.runtime.onnx import OnnxRunner

EAGER = "PyTorch eager"
NAIVE = "naive ONNX"


@dataclass(frozen=True, slots=True)
class Setting:
    """One combination: samples per call, threads of every backend, and the seed of the inputs."""

    batch: int
    threads: int
    seed: int


@dataclass(frozen=True, slots=True)
class Opened:
    """Backends that can be measured in one setting, and a sentence for each thing that cannot."""

    backends: tuple[Backend, ...]
    notes: tuple[str, ...] = ()


class Subject(Protocol):
    """Something the user named."""

    @property
    def text(self) -> str:
        """As the user wrote it."""

    def open(self, setting: Setting, stack: ExitStack) -> Opened:
        """Open the backends; whatever must be closed again is entered into ``stack``."""


@dataclass(frozen=True, slots=True)
class BundleSubject:
    """A bundle's folder. ``inputs`` are the manifest's, their optima replaced by the shapes asked for."""

    text: str
    name: str
    path: Path
    manifest: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...]

    def open(self, setting: Setting, stack: ExitStack) -> Opened:
        """One backend, or none with the reason."""
        refusal = _refusal(self.inputs, setting.batch)
        if refusal:
            return Opened((), (f"{self.name} is not measured at batch {setting.batch}: {refusal}",))
        artifact = self.path / str(self.manifest["artifact"])
        try:
            runner = stack.enter_context(
                open_runner(str(self.manifest["runtime"]), artifact, threads=setting.threads)
            )
        except CapabilityError as error:
            return Opened((), (f"{self.name} is not measured: {error}",))
        arrays = bench_inputs(self.inputs, setting)
        return Opened((Backend(self.name, self.text, lambda: runner.run(arrays)),))


@dataclass(frozen=True, slots=True)
class ModelSubject:
    """The user's own module in eval mode, and its naive export (None where torch refused, and why)."""

    text: str
    suffix: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    naive: bytes | None
    naive_refusal: str | None = None

    def open(self, setting: Setting, stack: ExitStack) -> Opened:
        """Both backends; torch's thread count is the stage's affair."""
        arrays = bench_inputs(self.inputs, setting)
        tensors = [torch.from_numpy(arrays[s.name]) for s in self.inputs]

        def eager() -> object:
            with torch.no_grad():
                return self.module(*tensors)

        backends = [Backend(EAGER + self.suffix, self.text, eager)]
        if self.naive is None:
            return Opened(tuple(backends), (f"{NAIVE}{self.suffix} is not measured: {self.naive_refusal}",))
        runner = stack.enter_context(OnnxRunner(self.naive, threads=setting.threads))
        # The exporter drops inputs that the network does not read.
        given = {name: arrays[name] for name in runner.input_names}
        backends.append(Backend(NAIVE + self.suffix, self.text, lambda: runner.run(given)))
        return Opened(tuple(backends))


def bundle_subject(text: str, shapes: tuple[ShapeRange, ...]) -> BundleSubject:
    """Read and check a bundle's folder.

    Raises:
        InputError: not a bundle, or its files were altered.
    """
    path = Path(text)
    manifest = read_manifest(path)
    check_hashes(path, manifest)
    inputs = tuple(_spec(entry, shapes) for entry in manifest["inputs"])
    return BundleSubject(text, path.resolve().name, path, manifest, inputs)


def model_subject(
    text: str, suffix: str, module: nn.Module, inputs: tuple[TensorSpec, ...], config: BenchConfig
) -> ModelSubject:
    """A private copy of the module in eval mode, and its naive export.

    Args:
        text: what the user named.
        suffix: what tells this model's backends from another's, or an empty string.
        module: the user's module; measuring must not change what the caller holds.
        inputs: its inputs with their optimum shapes.
        config: the batches to export for, and the seed.
    """
    twin = copy.deepcopy(module).eval()
    try:
        return ModelSubject(
            text, suffix, twin, inputs, naive_export(twin, inputs, config.batches, config.seed)
        )
    except InputError as error:
        return ModelSubject(text, suffix, twin, inputs, None, str(error))


def bench_inputs(specs: tuple[TensorSpec, ...], setting: Setting) -> dict[str, np.ndarray]:
    """Seeded standard-normal inputs; equal specifications give equal inputs, whatever the backend.

    Never constant: zeros let some kernels and denormal handling look faster than real data does.
    """
    shapes = {s.name: (setting.batch, *s.optimum[1:]) if s.optimum else () for s in specs}
    tensors = example_tensors(specs, setting.seed, shapes)
    return {s.name: t.numpy() for s, t in zip(specs, tensors, strict=True)}


def _spec(entry: Mapping[str, Any], shapes: tuple[ShapeRange, ...]) -> TensorSpec:
    name = str(entry["name"])
    wanted = next((r.optimum for r in shapes if r.name in (None, name)), tuple(entry["optimum"]))
    return TensorSpec(
        name=name,
        dtype=str(entry["dtype"]),
        shape=tuple(entry["shape"]),
        minimum=tuple(entry["minimum"]),
        optimum=wanted,
        maximum=tuple(entry["maximum"]),
        multiple_of={int(axis): int(m) for axis, m in entry.get("multiple_of", {}).items()},
    )


def _refusal(specs: tuple[TensorSpec, ...], batch: int) -> str | None:
    """Why the bundle does not take this batch at these shapes, or None."""
    for spec in specs:
        shape = (batch, *spec.optimum[1:])
        if len(shape) != len(spec.minimum):
            return f"input '{spec.name}' has {len(spec.minimum)} axes, {dims(shape)} has {len(shape)}"
        for axis, size in enumerate(shape):
            lo, hi = spec.minimum[axis], spec.maximum[axis]
            if not lo <= size <= hi:
                allowed = str(lo) if lo == hi else f"{lo} to {hi}"
                return f"input '{spec.name}' takes {allowed} on axis {axis}, not {size}"
            if size % spec.multiple_of.get(axis, 1):
                return f"axis {axis} of input '{spec.name}' must be a multiple of {spec.multiple_of[axis]}"
    return None
