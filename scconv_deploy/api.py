"""The Python interface: keyword arguments -> configuration -> pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from scconv_deploy import pipeline
from scconv_deploy.artifacts import Bundle, Recognition, Timing
from scconv_deploy.config import (
    DEFAULT_OPSET,
    BenchConfig,
    ExportConfig,
    Form,
    Precision,
    ShapeRange,
    parse_precision,
)
from scconv_deploy.contracts import RunListener, Silence
from scconv_deploy.stages import recognise as recognise_stage
from scconv_deploy.verdicts import ParityReport

Shapes = Sequence[ShapeRange]


def export(
    model: str | Path | nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor] | None = None,
    target: str = "onnx",
    precision: str | Precision = Precision.FP32,
    out: str | Path | None = None,
    *,
    opset: int = DEFAULT_OPSET,
    form: str | Form = Form.STANDARD,
    shapes: Shapes = (),
    factory: str | None = None,
    variant: str | None = None,
    trust: Sequence[str] = (),
    calib: str | Path | None = None,
    compute_capabilities: Sequence[str] = (),
    workspace_mib: int | None = None,
    simplify: bool = True,
    verify: bool = True,
    force: bool = False,
    seed: int = 0,
    listener: RunListener | None = None,
) -> Bundle:
    """Export a model into a verified bundle; the Python form of ``scconv-export``.

    Args:
        model: a checkpoint's path, or the module itself (never modified; exported in eval mode).
        example_inputs: one tensor, or one per argument of ``forward``, that say shapes and dtypes.
        target: ``onnx``, ``trt``, ``trt-rtx``, or any installed exporter's name.
        precision: ``fp32``; other precisions raise CapabilityError in this version.
        out: the bundle's folder; default ``<model>-<target>-<precision>`` in the current folder.
        shapes: a :class:`~scconv_deploy.config.ShapeRange` per input whose axes are to be dynamic.
        calib: ``.npz`` of real samples by input name; verification uses them.

    Returns:
        The bundle on disk, verified.

    Raises:
        InputError, BuildError: the model or the request cannot be used.
        CapabilityError: a library or device is missing here.
        VerificationError: the artifact does not compute the model's function; nothing was written.
    """
    config = ExportConfig(
        target=target,
        out=None if out is None else Path(out),
        precision=precision if isinstance(precision, Precision) else parse_precision(precision),
        opset=opset,
        form=Form(form),
        shapes=tuple(shapes),
        factory=factory,
        variant=variant,
        trust=tuple(trust),
        calib=None if calib is None else Path(calib),
        compute_capabilities=tuple(compute_capabilities),
        workspace_mib=workspace_mib,
        simplify=simplify,
        verify=verify,
        force=force,
        seed=seed,
    )
    tensors = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else example_inputs
    return pipeline.run_export(model, config, listener or Silence(), tensors)


def recognise(module: nn.Module, seed: int = 0) -> Recognition:
    """Find and certify every SCConv block of a module tree; the module is not modified."""
    return recognise_stage.run(module, seed=seed)


def verify(
    bundle: str | Path | Bundle,
    model: str | Path | None = None,
    samples: str | Path | Mapping[str, np.ndarray] | None = None,
    *,
    factory: str | None = None,
    trust: Sequence[str] = (),
    listener: RunListener | None = None,
) -> ParityReport:
    """Verify a bundle against its golden samples or, given the model's file, in full against PyTorch.

    Args:
        bundle: the bundle or its folder.
        model: the checkpoint it was exported from.
        samples: real samples, as arrays by input name or as an ``.npz``.

    Raises:
        InputError: not a bundle, or altered since the export.
    """
    path = bundle.path if isinstance(bundle, Bundle) else Path(bundle)
    with TemporaryDirectory() as folder:
        file: Path | None
        if isinstance(samples, Mapping):
            file = Path(folder) / "samples.npz"
            np.savez(file, **dict(samples))  # type: ignore[arg-type]
        else:
            file = None if samples is None else Path(samples)
        return pipeline.run_verify(
            path,
            model=None if model is None else Path(model),
            samples=file,
            factory=factory,
            trust=tuple(trust),
            listener=listener or Silence(),
        )


def benchmark(
    *subjects: str | Path | Bundle, config: BenchConfig | None = None, listener: RunListener | None = None
) -> tuple[Timing, ...]:
    """Measure bundles and models side by side, interleaved; the Python form of ``scconv-bench``."""
    paths = tuple(str(s.path if isinstance(s, Bundle) else s) for s in subjects)
    return pipeline.run_benchmark(paths, config or BenchConfig(), listener or Silence())
