"""argv -> a Job: five commands over one application.

A command function parses its options into configuration and returns a Job; ``perform`` runs it afterwards,
outside the option parser. torch is imported only when a Job that needs it runs, so ``--help`` and a mistyped
option are answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scconv_deploy.artifacts import Json
from scconv_deploy.cli import build_options as b
from scconv_deploy.cli import options as o
from scconv_deploy.cli.bench import BENCH_EXAMPLES, bench_command
from scconv_deploy.cli.doctor import findings
from scconv_deploy.cli.outcome import Job, Manners, Outcome
from scconv_deploy.cli.requests import (
    budgets,
    choose_precision,
    compute_capabilities,
    default_out,
    existing,
    known_target,
    parse_calib_method,
    parse_form,
    parse_gate,
)
from scconv_deploy.cli.serve import SERVE_EXAMPLES, serve_command
from scconv_deploy.config import ExportConfig, default_opset, parse_precision, shape_ranges
from scconv_deploy.contracts import RunListener
from scconv_deploy.errors import EXIT_OK, EXIT_VERIFICATION_FAILED
from scconv_deploy.report.doctor import show_findings
from scconv_deploy.report.summary import show_export, show_inspection, show_parity
from scconv_deploy.report.to_json import to_json
from scconv_deploy.shape_profiles import combine, parse_profiles
from scconv_deploy.verdicts import Verdict

app = typer.Typer(
    name="scconv-deploy",
    help="Trained PyTorch models with SCConv blocks -> verified deployment bundles.",
    rich_markup_mode=None,  # plain help: readable in a pipe, and rich's help renderer is not imported
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=False,
)

EXPORT_EXAMPLES = """\b
Examples:
  scconv-export model.pt --target onnx
  scconv-export model.pt --target trt --fp16 -o engines/model --force
  scconv-export model.pt --target onnx --int8 --calib samples.npz
  scconv-export model.pt --target onnx --bf16 --io-dtype bf16 --max-flip-rate 5e-4
  scconv-export weights.pt --factory nets:resnet50 --input-shape 1x3x224x224 --target onnx
  scconv-export model.pt --target onnx --minShapes 1x3x160x160 --optShapes 1x3x224x224 --maxShapes 8x3x320x320
  scconv-export pickled.pt --trust nets.MyNet --target onnx --json
  scconv-export model.pt --target trt --memPoolSize workspace:1024,tacticSharedMem:48K --builds 3 --keep kernels
  scconv-export model.pt --target trt --profile 1x3x224x224 --profile 2x3x224x224/8x3x224x224/16x3x224x224
"""
VERIFY_EXAMPLES = """\b
Examples:
  scconv-verify model-onnx-fp32
  scconv-verify model-onnx-fp32 model.pt --samples images.npz
  scconv-verify model-onnx-fp16 model.pt --atol 0.02 --check-error-stat mean --bisect
"""
INSPECT_EXAMPLES = """\b
Examples:
  scconv-inspect stranger.pt
  scconv-inspect model-onnx-fp32/model.onnx --json
"""
DOCTOR_EXAMPLES = """\b
Examples:
  scconv-doctor
  scconv-doctor --json
"""


@app.command("export", epilog=EXPORT_EXAMPLES)
def export_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint, state_dict or exported program.")
    ],
    target: o.Target,
    out: o.Out = None,
    input_shape: o.InputShape = None,
    min_shapes: o.MinShapes = None,
    opt_shapes: o.OptShapes = None,
    max_shapes: o.MaxShapes = None,
    profile: b.ProfileShapes = None,
    precision: o.PrecisionName = None,
    fp16: o.Fp16 = False,
    bf16: o.Bf16 = False,
    int8: o.Int8 = False,
    fp8: o.Fp8 = False,
    gate: o.GateName = "exact",
    io_dtype: o.IoDtype = "fp32",
    opset: o.Opset = None,
    form: o.FormName = "standard",
    factory: o.Factory = None,
    variant: o.Variant = None,
    trust: o.Trust = None,
    calib: o.Calib = None,
    calib_method: o.CalibMethodName = "minmax",
    rest: o.Rest = None,
    compute_capability: o.ComputeCapability = None,
    workspace: o.Workspace = None,
    mem_pool_size: b.MemPoolSize = None,
    optimization_level: b.OptimizationLevel = None,
    timing_cache_file: b.TimingCacheFile = None,
    hardware_compatibility: b.HardwareCompatibility = None,
    version_compatible: b.VersionCompatible = False,
    strip_weights: b.StripWeights = False,
    refit: b.Refit = False,
    weight_streaming: b.WeightStreaming = False,
    max_aux_streams: b.MaxAuxStreams = None,
    profiling_verbosity: b.ProfilingVerbosity = None,
    tf32: b.Tf32 = False,
    builds: b.Builds = 1,
    keep: b.KeepBy = None,
    card: b.CardName = None,
    autotune: o.Autotune = None,
    no_simplify: o.NoSimplify = False,
    no_verify: o.NoVerify = False,
    max_flip_rate: o.MaxFlipRate = None,
    atol: o.Atol = None,
    rtol: o.Rtol = None,
    check_error_stat: o.CheckErrorStat = None,
    bisect: o.Bisect = False,
    seed: o.Seed = 0,
    package: o.Package = None,
    force: o.Force = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> Job:
    """Turn a trained model into a verified bundle for one target."""
    chosen = choose_precision(precision, [("fp16", fp16), ("bf16", bf16), ("int8", int8), ("fp8", fp8)])
    name = known_target(target)
    source = existing(model, "the model")
    ranges = shape_ranges(input_shape or (), min_shapes or (), opt_shapes or (), max_shapes or ())
    shapes, profiles = combine(ranges, parse_profiles(profile or ()))
    config = ExportConfig(
        target=name,
        out=Path(out) if out else default_out(source, name, chosen),
        precision=chosen,
        opset=default_opset(chosen) if opset is None else opset,
        form=parse_form(form),
        gate=parse_gate(gate),
        io_dtype=parse_precision(io_dtype),
        budgets=budgets(max_flip_rate, atol, rtol, check_error_stat),
        bisect=bisect,
        shapes=shapes,
        profiles=profiles,
        factory=factory,
        variant=variant,
        trust=tuple(trust or ()),
        calib=existing(calib, "the sample file") if calib else None,
        calib_method=parse_calib_method(calib_method),
        rest=parse_precision(rest) if rest else None,
        compute_capabilities=compute_capabilities(compute_capability),
        tensorrt=b.tensorrt_options(
            workspace=workspace,
            mem_pool_size=mem_pool_size,
            optimization_level=optimization_level,
            timing_cache_file=timing_cache_file,
            hardware_compatibility=hardware_compatibility,
            version_compatible=version_compatible,
            strip_weights=strip_weights,
            refit=refit,
            weight_streaming=weight_streaming,
            max_aux_streams=max_aux_streams,
            profiling_verbosity=profiling_verbosity,
            tf32=tf32,
            builds=builds,
            keep=keep,
            card=card,
        ),
        autotune_seconds=autotune,
        simplify=not no_simplify,
        verify=not no_verify,
        packages=tuple(package or ()),
        force=force,
        seed=seed,
    )
    return Job(lambda listener: _export(source, config, listener), Manners(as_json, quiet, debug), True)


@app.command("verify", epilog=VERIFY_EXAMPLES)
def verify_command(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")],
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="The model itself. Default: the bundle's references."),
    ] = None,
    samples: o.Samples = None,
    max_flip_rate: o.MaxFlipRate = None,
    atol: o.Atol = None,
    rtol: o.Rtol = None,
    check_error_stat: o.CheckErrorStat = None,
    bisect: o.Bisect = False,
    factory: o.Factory = None,
    variant: o.Variant = None,
    trust: o.Trust = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> Job:
    """Compare a bundle's artifact with PyTorch again; exit 1 where they differ."""
    folder = existing(bundle, "the bundle")
    source = existing(model, "the model") if model else None
    inputs = existing(samples, "the sample file") if samples else None
    limits = budgets(max_flip_rate, atol, rtol, check_error_stat)

    def work(listener: RunListener) -> Outcome:
        listener.update("starting")
        from scconv_deploy.pipeline import run_verify

        report = run_verify(
            folder,
            model=source,
            samples=inputs,
            factory=factory,
            variant=variant,
            trust=tuple(trust or ()),
            budgets=limits,
            bisect=bisect,
            listener=listener,
        )
        code = EXIT_VERIFICATION_FAILED if report.verdict is Verdict.FAIL else EXIT_OK
        return Outcome(_object(to_json(report)), lambda out: show_parity(out, report), code)

    return Job(work, Manners(as_json, quiet, debug), True)


app.command("bench", epilog=BENCH_EXAMPLES)(bench_command)
app.command("serve", epilog=SERVE_EXAMPLES)(serve_command)


@app.command("inspect", epilog=INSPECT_EXAMPLES)
def inspect_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Any model file, from anyone.")],
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> Job:
    """Say what a file holds without executing anything in it."""
    path = existing(file, "the file")

    def work(listener: RunListener) -> Outcome:
        listener.update("starting")
        # Not through the pipeline, whose stages import torch: looking into 100 MB takes 0.6 s so, not 2.3 s.
        from scconv_deploy.stages.inspect import run

        found = run(path)
        return Outcome(_object(to_json(found)), lambda out: show_inspection(out, found))

    return Job(work, Manners(as_json, quiet, debug))


@app.command("doctor", epilog=DOCTOR_EXAMPLES)
def doctor_command(as_json: o.AsJson = False, quiet: o.Quiet = False, debug: o.Debug = False) -> Job:
    """List what this machine has, and the one line that installs what it has not."""

    def work(listener: RunListener) -> Outcome:
        listener.update("looking around")
        found = findings()
        return Outcome({"findings": to_json(found)}, lambda out: show_findings(out, found))

    return Job(work, Manners(as_json, quiet, debug))


def _export(source: Path, config: ExportConfig, listener: RunListener) -> Outcome:
    listener.update("starting")
    from scconv_deploy.pipeline import run_export

    bundle = run_export(source, config, listener)

    def show(out: Console) -> None:
        show_export(out, bundle)

    payload: dict[str, Json] = {
        "bundle": str(bundle.path),
        "artifact": str(bundle.artifact),
        "verdict": bundle.parity.verdict.value if bundle.parity else None,
        "manifest": to_json(bundle.manifest),
    }
    return Outcome(payload, show)


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, Mapping):
        raise TypeError("a result is one JSON object")
    return dict(value)
