"""The Python interface: keyword arguments -> configuration -> pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from scconv_deploy import benchmarking, pipeline
from scconv_deploy.artifacts import Bundle, Recognition
from scconv_deploy.bench_config import BenchConfig, BreakEvenConfig
from scconv_deploy.config import (
    Budgets,
    CalibMethod,
    ErrorStat,
    ExportConfig,
    Form,
    GateForm,
    Precision,
    Profile,
    ShapeRange,
    default_opset,
    parse_precision,
)
from scconv_deploy.contracts import Metric, RunListener, Silence
from scconv_deploy.measurements import BenchReport
from scconv_deploy.shape_profiles import combine
from scconv_deploy.stages import recognise as recognise_stage
from scconv_deploy.tensorrt_options import TensorRTOptions
from scconv_deploy.verdicts import ParityReport

Shapes = Sequence[ShapeRange]
Limits = float | Mapping[str, float]
"""One limit for every output, or limits by output name."""


def export(
    model: str | Path | nn.Module | ExportedProgram,
    example_inputs: torch.Tensor | Sequence[torch.Tensor] | None = None,
    target: str = "onnx",
    precision: str | Precision = Precision.FP32,
    out: str | Path | None = None,
    *,
    opset: int | None = None,
    form: str | Form = Form.STANDARD,
    gate: str | GateForm = GateForm.EXACT,
    io_dtype: str | Precision = Precision.FP32,
    shapes: Shapes = (),
    factory: str | None = None,
    variant: str | None = None,
    trust: Sequence[str] = (),
    calib: str | Path | None = None,
    compute_capabilities: Sequence[str] = (),
    tensorrt: TensorRTOptions | None = None,
    profiles: Sequence[Profile] = (),
    calib_method: str | CalibMethod = CalibMethod.MINMAX,
    rest: str | Precision | None = None,
    autotune_seconds: float | None = None,
    simplify: bool = True,
    verify: bool = True,
    max_flip_rate: float | None = None,
    atol: Limits | None = None,
    rtol: Limits | None = None,
    check_error_stat: str | ErrorStat | None = None,
    bisect: bool = False,
    packages: Sequence[str] = (),
    force: bool = False,
    seed: int = 0,
    listener: RunListener | None = None,
) -> Bundle:
    """Export a model into a verified bundle; the Python form of ``scconv-export``.

    Args:
        model: a checkpoint's path, or the module, ScriptModule or ExportedProgram itself (never modified;
            exported in eval mode).
        example_inputs: one tensor, or one per argument of ``forward``, that say shapes and dtypes.
        target: ``onnx``, ``trt``, ``trt-rtx``, or any installed exporter's name.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``fp8``, as the target has them; the last two need
            ``calib``.
        out: the bundle's folder; default ``<model>-<target>-<precision>`` in the current folder.
        opset: of the ONNX graph; None takes 20, or 22 for bf16.
        gate: ``exact``, or ``sigmoid`` for the paper's literal formula, which flips gates.
        io_dtype: type of floating inputs and outputs, whatever the precision inside.
        shapes: a :class:`~scconv_deploy.config.ShapeRange` per input whose axes are to be dynamic.
        calib: ``.npz`` of real samples by input name; verification uses them.
        tensorrt: options of TensorRT's builder; other targets refuse all but the default.
        profiles: further optimisation profiles (TensorRT), each a range per dynamic input.
        calib_method: how ranges are taken from the samples for int8 and fp8: ``minmax`` or ``percentile``.
        rest: type of what int8 and fp8 leave unquantised: ``fp32`` or ``fp16``; None is the target's choice.
        autotune_seconds: seconds to spend on timing graph forms of each block on this machine (``onnx``, fp32); None
            leaves the choice to the target's rule. Every form is exact.
        packages: ``triton``, ``triton-python``, ``kserve``: each is written to ``<out>-<package>``.
        max_flip_rate: largest share of a block's gates that may decide otherwise than float64 truth; where it is
            given, gates that int8 and fp8 codes of SRU's input flip count too.
        atol, rtol, check_error_stat: end-to-end limits as :class:`~scconv_deploy.config.Budgets` has them; a
            number holds for every output, a mapping by output name. None takes the precision's default.
        bisect: on failure, look inside the first wrong block for the operator.

    Returns:
        The bundle on disk, verified.

    Raises:
        InputError, BuildError: the model or the request cannot be used.
        CapabilityError: a library or device is missing here.
        VerificationError: the artifact does not compute the model's function; nothing was written.
    """
    chosen = _precision(precision)
    envelope, every = combine(shapes, profiles)
    config = ExportConfig(
        target=target,
        out=None if out is None else Path(out),
        precision=chosen,
        opset=default_opset(chosen) if opset is None else opset,
        form=Form(form),
        gate=GateForm(gate),
        io_dtype=_precision(io_dtype),
        budgets=_budgets(max_flip_rate, atol, rtol, check_error_stat),
        bisect=bisect,
        shapes=envelope,
        factory=factory,
        variant=variant,
        trust=tuple(trust),
        calib=None if calib is None else Path(calib),
        compute_capabilities=tuple(compute_capabilities),
        tensorrt=tensorrt or TensorRTOptions(),
        profiles=every,
        calib_method=CalibMethod(calib_method),
        rest=None if rest is None else _precision(rest),
        autotune_seconds=autotune_seconds,
        simplify=simplify,
        verify=verify,
        packages=tuple(packages),
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
    variant: str | None = None,
    trust: Sequence[str] = (),
    max_flip_rate: float | None = None,
    atol: Limits | None = None,
    rtol: Limits | None = None,
    check_error_stat: str | ErrorStat | None = None,
    bisect: bool = False,
    metric: Metric | None = None,
    listener: RunListener | None = None,
) -> ParityReport:
    """Verify a bundle against its golden samples or, given the model's file, in full against PyTorch.

    Args:
        bundle: the bundle or its folder.
        model: the checkpoint it was exported from.
        samples: real samples, as arrays by input name or as an ``.npz``.

        max_flip_rate, atol, rtol, check_error_stat, bisect: as for :func:`export`.
        metric: the task's own measure of quality, from outputs by name; taken of both sides on ``samples``.

    Raises:
        InputError: not a bundle, or altered since the export.
        CapabilityError: int8 or fp8 codes cannot be judged, since the model is traced to another graph now.
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
            variant=variant,
            trust=tuple(trust),
            budgets=_budgets(max_flip_rate, atol, rtol, check_error_stat),
            bisect=bisect,
            metric=metric,
            listener=listener or Silence(),
        )


def benchmark(
    *subjects: str | Path | Bundle | nn.Module,
    config: BenchConfig | None = None,
    break_even: BreakEvenConfig | None = None,
    listener: RunListener | None = None,
) -> BenchReport:
    """Measure bundles, ``.onnx`` files and models side by side; the Python form of ``scconv-bench``.

    Args:
        subjects: what to measure; none where only the sweep is wanted.
        config: how; None takes the defaults of the command line.
        break_even: also sweep one SCConv block against a plain convolution over widths, sizes and batches.

    Raises:
        InputError: a subject, the yardstick or the baseline cannot be used.
        CapabilityError: nothing could be measured here, or a backend's process died while it was timed.
    """
    named = tuple(
        s if isinstance(s, nn.Module) else str(s.path if isinstance(s, Bundle) else s) for s in subjects
    )
    return benchmarking.run_benchmark_and_sweep(
        named, config or BenchConfig(), break_even, listener or Silence()
    )


def _precision(value: str | Precision) -> Precision:
    return value if isinstance(value, Precision) else parse_precision(value)


def _budgets(
    max_flip_rate: float | None,
    atol: Limits | None,
    rtol: Limits | None,
    check_error_stat: str | ErrorStat | None,
) -> Budgets:
    stat = None if check_error_stat is None else ErrorStat(check_error_stat)
    return Budgets(max_flip_rate, _limits(atol), _limits(rtol), stat)


def _limits(value: Limits | None) -> Mapping[str, float]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {"": float(value)}
