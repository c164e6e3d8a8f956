"""``scconv-bench``: its options -> BenchConfig -> a Job."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.console import Console

from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.cli import bench_outputs as b
from scconv_deploy.cli import options as o
from scconv_deploy.cli.outcome import Job, Manners, Outcome
from scconv_deploy.cli.requests import existing, positive_integers
from scconv_deploy.config import shape_ranges
from scconv_deploy.contracts import RunListener
from scconv_deploy.errors import EXIT_OK, EXIT_VERIFICATION_FAILED, InputError, nearest
from scconv_deploy.measurements import BenchReport
from scconv_deploy.report.bench_terminal import show_why
from scconv_deploy.report.benchmark import show_benchmark

BENCH_EXAMPLES = """\b
Examples:
  scconv-bench model-onnx-fp32
  scconv-bench model.pt model-onnx-fp32 --batch 1,8 --threads 1,2 --duration 5
  scconv-bench model.pt --backends plain,ours,naive,eager --json > today.json
  scconv-bench model.pt --baseline today.json --fail-if-slower 5%
  scconv-bench model.pt model-onnx-fp32 --html bench.html --markdown bench.md
  scconv-bench --break-even --family F3 --channels 64,128,256 --sides 56,28,14 --batch 1,8
"""

Backends = Annotated[
    str | None,
    typer.Option(
        "--backends",
        metavar="eager,compile,naive,plain,ours,plugin",
        help="What a model is measured as. Default: all of them, ours and plugin (ours with fused operators) "
        "only where no bundle is given. plain: its twin without SCConv.",
    ),
]
Percentiles = Annotated[
    str, typer.Option("--percentile", metavar="90,95,99", help="Percentiles to report beside the median.")
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider", metavar="NAME", help="ONNX Runtime's provider; an error where another one runs."
    ),
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="FILE", help="Compare with a stored run (its --json).")
]
FailIfSlower = Annotated[
    str | None,
    typer.Option(
        "--fail-if-slower",
        metavar="5%",
        help="Exit 1 where something is slower than the baseline by more, and outside the intervals.",
    ),
]
Raw = Annotated[bool, typer.Option("--raw", help="Keep every call's time in the JSON.")]


def bench_command(
    context: typer.Context,
    subjects: Annotated[
        list[str] | None,
        typer.Argument(metavar="BUNDLE_OR_MODEL...", help="What to time, against each other."),
    ] = None,
    batch: o.Batches = "1",
    threads: o.Threads = "1",
    backends: Backends = None,
    warm_up: o.WarmUp = 200,
    duration: o.Duration = 3.0,
    iterations: o.Iterations = 20,
    percentile: Percentiles = "90,95,99",
    input_shape: o.InputShape = None,
    factory: o.Factory = None,
    variant: o.Variant = None,
    trust: o.Trust = None,
    provider: Provider = None,
    yardstick: o.Yardstick = None,
    baseline: Baseline = None,
    fail_if_slower: FailIfSlower = None,
    raw: Raw = False,
    explain: b.Explain = True,
    break_even: b.Sweep = False,
    family: b.Family = "F3",
    form: o.FormName = "standard",
    channels: b.Channels = None,
    sides: b.Sides = None,
    markdown: b.Markdown = None,
    html: b.Html = None,
    seed: o.Seed = 0,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> Job:
    """Measure latency side by side, with percentiles, ratios and their intervals."""
    named = tuple(subjects or ())
    for subject in named:
        existing(subject, "the subject")
    if not named and not break_even:
        raise InputError("name what to measure: a bundle, a model or an ONNX file; or ask for --break-even")
    where = b.files(markdown, html)
    times: dict[str, str | int | float] = {
        "batch": batch,
        "threads": threads,
        "warm_up": warm_up,
        "duration": duration,
    }
    sweep = None
    if break_even:
        # What the user says about a network's measurement is not meant for eighteen pairs of blocks.
        own = {} if named else b.written(context, times)
        sweep = b.break_even_config(own, family, form, channels, sides, seed)
    config = BenchConfig(
        batches=positive_integers("--batch", batch),
        threads=positive_integers("--threads", threads),
        warm_up_ms=warm_up,
        duration_s=duration,
        iterations=iterations,
        shapes=shape_ranges(input_shape or ()),
        factory=factory,
        variant=variant,
        trust=tuple(trust or ()),
        yardstick=yardstick,
        seed=seed,
        backends=parse_backends(backends),
        percentiles=parse_percentiles(percentile),
        provider=provider,
        # The page draws every call.
        raw=raw or where.html is not None,
        explain=explain,
        baseline=existing(baseline, "the baseline") if baseline else None,
        fail_if_slower=parse_share(fail_if_slower),
    )

    def work(listener: RunListener) -> Outcome:
        listener.update("starting")
        from scconv_deploy.benchmarking import run_benchmark_and_sweep

        report = run_benchmark_and_sweep(named, config, sweep, listener)
        b.write_files(report, where)
        slower = report.baseline is not None and bool(report.baseline.slower)
        code = EXIT_VERIFICATION_FAILED if slower else EXIT_OK
        return Outcome(b.payload(report, raw=raw), lambda out: _show(out, report), code)

    return Job(work, Manners(as_json, quiet, debug))


def _show(out: Console, report: BenchReport) -> None:
    if report.measurements:
        show_benchmark(out, report)
    show_why(out, report)


def parse_backends(text: str | None) -> tuple[BackendKind, ...] | None:
    """``"eager,ours"`` -> kinds in that order; None -> the default."""
    if text is None:
        return None
    known = [kind.value for kind in BackendKind]
    names = list(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise InputError(
                f"backend '{name}' is unknown; choose of {', '.join(known)}{nearest(name, known)}"
            )
    return tuple(BackendKind(name) for name in names)


def parse_percentiles(text: str) -> tuple[float, ...]:
    """``"90,95,99"`` -> ``(50, 90, 95, 99)``: the median is always among them."""
    try:
        asked = {float(part) for part in text.split(",")}
    except ValueError:
        raise InputError(f"'{text}' is no list of percentiles; write it like --percentile=90,95,99") from None
    return tuple(sorted({50.0, *asked}))


def parse_share(text: str | None) -> float | None:
    """``"5%"`` or ``"0.05"`` -> 0.05; None -> None. A bare number of 1 or more is refused: 5 may mean 5 %."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if match is None or (not match[2] and float(match[1]) >= 1):
        raise InputError(f"'{text}' is no limit; write it like --fail-if-slower 5%")
    return float(match[1]) / (100 if match[2] else 1)
