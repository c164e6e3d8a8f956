"""``scconv-bench``'s further options: the break-even sweep, and a report as Markdown or as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scconv_deploy.artifacts import Json
from scconv_deploy.bench_config import BreakEvenConfig
from scconv_deploy.cli.requests import parse_form, positive_integers
from scconv_deploy.errors import InputError
from scconv_deploy.report.to_json import to_json

if TYPE_CHECKING:
    from scconv_deploy.measurements import BenchReport

Markdown = Annotated[
    str | None,
    typer.Option("--markdown", metavar="FILE", help="Write the report as Markdown, to paste in an issue."),
]
Html = Annotated[
    str | None, typer.Option("--html", metavar="FILE", help="Write the report as one HTML page with plots.")
]
Explain = Annotated[
    bool,
    typer.Option("--explain/--no-explain", help="Profile every block and say why it is fast or slow."),
]
Sweep = Annotated[
    bool,
    typer.Option(
        "--break-even",
        help="Race one SCConv block against a 3x3 convolution over widths, sizes and batches.",
    ),
]
Family = Annotated[str, typer.Option("--family", metavar="paper|F0..F3", help="The block of --break-even.")]
Channels = Annotated[
    str | None, typer.Option("--channels", metavar="64,128,...", help="Widths of --break-even.")
]
Sides = Annotated[
    str | None, typer.Option("--sides", metavar="56,28,...", help="Heights and widths of --break-even.")
]


@dataclass(frozen=True, slots=True)
class Files:
    """Where to write the report beside what is printed."""

    markdown: Path | None
    html: Path | None


def files(markdown: str | None, html: str | None) -> Files:
    """Both paths, checked before minutes are spent measuring.

    Raises:
        InputError: a folder stands there, or the folder it should be in is missing.
    """
    made = []
    for option, text in (("--markdown", markdown), ("--html", html)):
        path = Path(text) if text is not None else None
        if path is not None and path.is_dir():
            raise InputError(f"{option} {path} is a folder; name a file")
        if path is not None and not path.parent.is_dir():
            raise InputError(f"the folder of {option} {path} does not exist; create it first")
        made.append(path)
    return Files(*made)


def write_files(report: BenchReport, where: Files) -> None:
    """Write what was asked for; jinja2 is imported only for the page."""
    if where.markdown is not None:
        from scconv_deploy.report.bench_markdown import markdown

        where.markdown.write_text(markdown(report), encoding="utf-8")
    if where.html is not None:
        from scconv_deploy.report.bench_html import render_benchmark

        where.html.write_text(render_benchmark(report), encoding="utf-8")


def break_even_config(
    given: Mapping[str, str | int | float],
    family: str,
    form: str,
    channels: str | None,
    sides: str | None,
    seed: int,
) -> BreakEvenConfig:
    """What to sweep. ``given`` holds those of batch, threads, warm_up and duration that the user wrote: their
    defaults are a network's, and too long for eighteen pairs of blocks.

    Raises:
        InputError: a list that is none, or several thread counts.
    """
    config = BreakEvenConfig(family=_family(family), form=parse_form(form), seed=seed)
    if channels is not None:
        config = replace(config, channels=positive_integers("--channels", channels))
    if sides is not None:
        config = replace(config, sides=positive_integers("--sides", sides))
    if "batch" in given:
        config = replace(config, batches=positive_integers("--batch", str(given["batch"])))
    if "threads" in given:
        threads = positive_integers("--threads", str(given["threads"]))
        if len(threads) > 1:
            raise InputError("--break-even sweeps on one thread count; give --threads one number")
        config = replace(config, threads=threads[0])
    if "warm_up" in given:
        config = replace(config, warm_up_ms=int(given["warm_up"]))
    if "duration" in given:
        config = replace(config, duration_s=float(given["duration"]))
    return config


def _family(name: str) -> str:
    """Families are called F0 to F3 and paper; typed as one likes."""
    return name.lower() if name.lower() == "paper" else name.upper()


def written(context: typer.Context, values: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    """Those of ``values`` whose option the user wrote."""
    return {n: v for n, v in values.items() if str(context.get_parameter_source(n)).endswith("COMMANDLINE")}


def payload(report: BenchReport, *, raw: bool) -> dict[str, Json]:
    """The report's JSON; every call's time only where it was asked for."""
    if not raw:
        lean = tuple(replace(m, samples_ms=None) for m in report.measurements)
        report = replace(report, measurements=lean, config=replace(report.config, raw=False))
    data = to_json(report)
    if not isinstance(data, Mapping):
        raise TypeError("a report is one JSON object")
    return dict(data)
