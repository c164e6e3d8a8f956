"""Results -> what a person reads at the end of a command: a few sentences, or one table.

Each function writes one result on a console; none computes anything. Strings that come from a user's file
(module paths, tensor names) go through ``plain`` and never through markup.
"""

from __future__ import annotations

import shlex

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scconv_deploy.artifacts import Bundle, Inspection
from scconv_deploy.config import dims
from scconv_deploy.report.charts import count
from scconv_deploy.report.figures import flips, located, missed, quality
from scconv_deploy.report.manifest import (
    Section,
    as_section,
    join_names,
    plural,
    profile_text,
    rate_text,
    shape_text,
    size_text,
    small,
)
from scconv_deploy.report.terminal import encodable, plain, print_table
from scconv_deploy.report.to_json import to_json
from scconv_deploy.verdicts import ParityReport, Verdict

VERDICT_STYLE = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.AMBIGUOUS: "bold yellow"}
LABEL_WIDTH = 12
REASONS_SHOWN = 8


def show_export(out: Console, bundle: Bundle) -> None:
    """What was written, how it was proved, what was found in it, and the next command to run."""
    manifest = as_section(bundle.manifest)
    out.print()
    show_verdict(out, bundle.parity)
    _show_figures(out, manifest.section("verification"))
    _field(out, "artifact", _artifact_line(bundle, manifest))
    for tensor in manifest.sections("inputs"):
        profile = profile_text(tensor)
        _field(out, "input", shape_text(tensor) + (f", {profile}" if profile else ""))
    for tensor in manifest.sections("outputs"):
        _field(out, "output", shape_text(tensor))
    _show_blocks(out, manifest.section("recognition"))
    kernels = kernel_sentence(manifest.section("kernel_report"))
    if kernels:
        _field(out, "kernels", kernels)
    if roofline := manifest.section("kernel_report").section("roofline").text("words"):
        _field(out, "roofline", roofline)
    not_executed = manifest.text("not_executed")
    if not_executed:
        _field(out, "not run", not_executed, style="yellow")
    _field(out, "report", str(bundle.path / "report.html"))
    out.print()
    _field(out, "next", next_command(bundle, executed=not_executed is None), style="bold")


def show_verdict(out: Console, parity: ParityReport | None) -> None:
    """One line: the verdict and its sentence; an unverified artifact is named as such."""
    if parity is None:
        _write(out, ("UNVERIFIED", "bold yellow"), ("  nothing was compared with PyTorch (--no-verify)", ""))
        return
    _write(out, (parity.verdict.value, VERDICT_STYLE[parity.verdict]), (f"  {plain(parity.sentence)}", ""))


def show_parity(out: Console, report: ParityReport) -> None:
    """Every comparison as one row, then the verdict."""
    table = _table("case", "output", "shape", "max error", "limit", "mean", "p99", "cosine", "top-1", "")
    for item in report.comparisons:
        metrics = item.metrics
        agreement = metrics.top1_agreement
        table.add_row(
            *_cells(
                out,
                item.case,
                item.output,
                dims(item.shape),
                small(metrics.max_abs) if metrics.finite else "not finite",
                small(item.limit),
                small(metrics.mean_abs),
                small(metrics.p99_abs),
                f"{metrics.cosine:.6f}",
                "-" if agreement is None else f"{agreement:.2%}",
            ),
            Text(item.verdict.value, style=VERDICT_STYLE[item.verdict]),
        )
    _field(out, "subject", report.subject)
    tolerance = report.tolerance
    _field(
        out,
        "gate",
        f"{tolerance.metric} <= {small(tolerance.atol)} + {small(tolerance.rtol)} x scale ({tolerance.name})",
    )
    print_table(out, table)
    _show_figures(out, as_section(to_json(report)))
    for text in report.notes:
        _field(out, "note", text, style="yellow")
    show_verdict(out, report)


def _show_figures(out: Console, verification: Section) -> None:
    """What decides the verdict beside its sentence: nothing more for a float32 export that passed."""
    place = located(verification)
    if place is not None:
        _field(out, "starts at", place, style="bold red")
    for budget in missed(verification):
        words = f"{small(budget.number('found'))}, limit {small(budget.number('limit'))}"
        # A limit may be missed and the verdict PASS: the sentence says why (PyTorch's own rounding).
        failed = verification.text("verdict") == Verdict.FAIL.value
        label, style = ("missed", "bold red") if failed else ("excused", "yellow")
        _field(out, label, f"{budget.text('name') or 'budget'}: {words}", style=style)
    precision = verification.text("precision") or "fp32"
    found = flips(verification)
    if found is None or precision == "fp32":
        return
    # In int8 and fp8 a block's gates are judged in the graph before Q/DQ; what codes change is a note of its own.
    own = " before Q/DQ" if precision in ("int8", "fp8") else ""
    if not own and found.pytorch_rate is not None:
        own = f"; PyTorch's own {precision} {rate_text(found.pytorch_rate)}"
    rate = f"{rate_text(found.worst_rate)} flipped in the worst of {plural(found.blocks, 'block')}"
    none = f"none of {found.gates:,} flipped in {plural(found.blocks, 'block')}"
    _field(out, "gates", (f"{rate} ({found.worst_block})" if found.flips else none) + own)
    task = quality(verification)
    if task is not None:
        fits = len(task.label) < LABEL_WIDTH
        said = f"{task.value} {task.words}"
        _field(out, task.label if fits else "task", said if fits else f"{task.label} {said}")


def show_inspection(out: Console, found: Inspection) -> None:
    """What a file holds, without executing anything in it."""
    _field(out, "file", f"{found.path} ({size_text(found.size_bytes)})")
    _field(out, "kind", found.kind)
    _field(out, "sha256", found.sha256)
    if found.tensors:
        types = f", {', '.join(found.dtypes)}" if found.dtypes else ""
        _field(
            out,
            "tensors",
            f"{plural(found.tensors, 'tensor')} with {found.parameters:,} elements{types}",
        )
    if found.architecture:
        _field(out, "built by", found.architecture)
    for name in found.needs_classes:
        _field(out, "needs code", name, style="yellow")
    for tensor in found.inputs:
        section = as_section(to_json(tensor))
        profile = profile_text(section)
        _field(out, "input", shape_text(section) + (f", {profile}" if profile else ""))
    if found.scconv_like:
        names = join_names(found.scconv_like)
        _field(out, "SCConv", f"{plural(len(found.scconv_like), 'module')} by shape: {names}")
    for text in found.notes:
        _field(out, "note", text, style="yellow")
    if found.export_command:
        out.print()
        _field(out, "next", found.export_command, style="bold")


def next_command(bundle: Bundle, *, executed: bool) -> str:
    """What a newcomer would want to run now."""
    return f"{'scconv-bench' if executed else 'scconv-verify'} {shlex.quote(str(bundle.path))}"


def kernel_sentence(report: Section) -> str | None:
    """The builder's own account in one line; None where there is none."""
    kernels = report.number("kernels")
    if kernels is None:
        return None
    words = [plural(count(kernels), "kernel")]
    moved = size_text(report.number("bytes_moved"))
    if moved:
        words.append(f"{moved} moved per call")
    per_block = [n for key in report.section("kernels_per_block").data if (n := _per_block(report, key))]
    if per_block:
        low, high = count(min(per_block)), count(max(per_block))
        words.append(f"{low if low == high else f'{low} to {high}'} per SCConv block")
    transposes = report.number("layout_transposes")
    if transposes:
        words.append(plural(count(transposes), "layout transpose"))
    types = ", ".join(f"{kind} {n}" for kind, n in report.section("types").pairs())
    return ", ".join(words) + (f" ({types})" if types else "")


def _per_block(report: Section, path: str) -> float | None:
    return report.section("kernels_per_block").number(path)


def _artifact_line(bundle: Bundle, manifest: Section) -> str:
    files = manifest.section("files")
    size = size_text(files.section(bundle.artifact.name).number("size_bytes"))
    precision = manifest.section("precision")
    built, asked = precision.text("built"), precision.text("asked")
    words = [w for w in (size, f"precision {built}" if built else None) if w]
    if asked and built and asked != built:
        words.append(f"{asked} was asked for")
    runtime = manifest.text("runtime")
    if runtime:
        words.append(f"for {runtime}")
    return f"{bundle.artifact}" + (f" ({', '.join(words)})" if words else "")


def _show_blocks(out: Console, recognition: Section) -> None:
    blocks = recognition.sections("blocks")
    if blocks:
        variants = sorted({variant for b in blocks if (variant := b.text("variant"))})
        paths = [path for b in blocks if (path := b.text("path")) is not None]
        _field(
            out,
            "SCConv",
            f"{plural(len(blocks), 'block')} certified as {', '.join(variants)}: {join_names(paths)}",
        )
    elif recognition:
        _field(out, "SCConv", "no block was certified; the model is exported as ordinary PyTorch", "yellow")
    left = recognition.sections("left_as_is")
    for item in left[:REASONS_SHOWN]:
        _field(out, "left as is", f"{item.text('path') or '(root)'}: {item.text('reason')}", style="yellow")
    if len(left) > REASONS_SHOWN:
        _field(out, "left as is", f"and {len(left) - REASONS_SHOWN} more, listed in report.html", "yellow")


def _field(out: Console, label: str, value: str, style: str = "") -> None:
    _write(out, (f"{label:<{LABEL_WIDTH}}", "dim"), (plain(value), style))


def _write(out: Console, *parts: tuple[str, str]) -> None:
    line = Text()
    for text, style in parts:
        line.append(encodable(out, text), style=style)
    out.print(line, soft_wrap=True)


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _cells(out: Console, *texts: str) -> list[Text]:
    return [Text(encodable(out, plain(text))) for text in texts]
