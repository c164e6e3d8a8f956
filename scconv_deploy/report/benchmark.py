"""A :class:`BenchReport` -> what a person reads in 100 columns: machine, one table per setting, the verdicts.

One line per backend with the latency that users feel, then one with what opening cost; everything else is in
the JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scconv_deploy.measurements import BenchReport, Conditions, Estimate, HostNoise, Machine, Measurement
from scconv_deploy.report.terminal import encodable, plain, print_table

WIDTH = 100
MIB = 2**20


def show_benchmark(out: Console, report: BenchReport) -> None:
    """Everything a decision needs, in at most 100 columns."""
    line(out, machine_sentence(report.machine), "dim")
    for condition in report.conditions:
        rows = [m for m in report.measurements if report.condition(m) is condition]
        out.print()
        line(out, _heading(condition), "bold")
        print_table(out, _latency(out, rows, condition))
        for warning in condition.noise.warnings:
            line(out, f"warning: {warning}; measure again on a quiet machine", "yellow")
        for m in rows:
            if not m.settled:
                line(out, f"warning: {m.name} was still getting faster when its warm-up ended", "yellow")
    out.print()
    print_table(out, _opening(out, report.measurements))
    if any(m.gpu for m in report.measurements):
        print_table(out, _device(out, report.measurements))
    for text in report.not_measured:
        line(out, text, "yellow")
    for text in report.notes:
        line(out, f"note: {text}")
    line(
        out,
        "ratio: median time over the yardstick's in the same rounds, with its 95 % interval; below 1 is faster",
        "dim",
    )
    if report.baseline is not None:
        _baseline(out, report)


def machine_sentence(machine: Machine) -> str:
    """One line: processor, cores, memory, GPU, fingerprint."""
    features = " ".join(f for f in machine.features if f.startswith(("avx512f", "amx_tile", "avx2", "sve")))
    parts = [
        f"{machine.cpu}{f' ({features})' if features else ''}",
        f"{machine.cores} cores",
        f"{machine.memory_gib:.0f} GiB",
        machine.gpu or "no GPU",
        f"fingerprint {machine.fingerprint}",
    ]
    return ", ".join(parts)


def noise_words(noise: HostNoise) -> str:
    """``other processes 0.3 %, stolen 0.0 %, 2900 MHz``."""
    words = [f"other processes {noise.other_share:.1%}"]
    if noise.steal_share is not None:
        words.append(f"stolen {noise.steal_share:.1%}")
    if noise.frequency_mhz is not None:
        words.append(f"{noise.frequency_mhz[1]:.0f} MHz")
    return ", ".join(words)


def _heading(condition: Conditions) -> str:
    threads = f"{condition.threads} thread{'s' if condition.threads > 1 else ''}"
    return (
        f"batch {condition.batch}, {threads}; yardstick {condition.yardstick}; {noise_words(condition.noise)}"
    )


def _latency(out: Console, rows: Sequence[Measurement], condition: Conditions) -> Table:
    names = list(rows[0].percentiles_ms)
    tails = [n for n in names if n != "50"][-3:]
    table = narrow_table(
        "backend", "median ms", *(f"p{n}" for n in tails), "min", "std", "items/s", "ratio", "naive"
    )
    for m in rows:
        style = "bold" if m.name == condition.yardstick else ""
        table.add_row(
            Text(encodable(out, plain(m.name)), style=style),
            ms(m.median_ms),
            *(ms(m.percentiles_ms[n]) for n in tails),
            ms(m.min_ms),
            ms(m.std_ms),
            f"{m.items_per_s:.0f}" if m.items_per_s >= 100 else f"{m.items_per_s:.1f}",
            _ratio(m.against_yardstick),
            "-" if m.against_naive is None else f"{m.against_naive.value:.2f}",
        )
    return table


def _opening(out: Console, measurements: Sequence[Measurement]) -> Table:
    """Once per backend, at its first setting: what it costs to have it at all."""
    table = narrow_table(
        "backend", "runtime", "type", "size MB", "memory MiB", "peak", "load ms", "first run ms"
    )
    seen: set[str] = set()
    for m in measurements:
        if m.name in seen:
            continue
        seen.add(m.name)
        table.add_row(
            *(Text(encodable(out, plain(t))) for t in (m.name, m.runtime, m.precision)),
            "-" if m.size_bytes is None else f"{m.size_bytes / 1e6:.2f}",
            "-" if m.memory is None else f"{m.memory.loaded_bytes / MIB:.0f}",
            "-" if m.memory is None else f"{m.memory.peak_bytes / MIB:.0f}",
            f"{m.load_ms:.0f}",
            ms(m.first_run_ms),
        )
    return table


def _device(out: Console, measurements: Sequence[Measurement]) -> Table:
    table = narrow_table(
        "on the GPU", "batch", "device ms", "to device", "from device", "as CUDA graph", "throttled"
    )
    for m in measurements:
        if m.gpu is not None:
            table.add_row(
                Text(encodable(out, plain(m.name))),
                str(m.batch),
                *(ms(v) for v in (m.gpu.device_ms, m.gpu.to_device_ms, m.gpu.from_device_ms)),
                "-" if m.gpu.graph_ms is None else ms(m.gpu.graph_ms),
                ", ".join(m.gpu.throttle) or "no",
            )
    return table


def _baseline(out: Console, report: BenchReport) -> None:
    found = report.baseline
    assert found is not None
    for note in found.notes:
        line(out, f"baseline: {note}", "yellow")
    for check in found.checks:
        if not check.is_slower:
            line(out, f"baseline: {check.sentence}")
    for sentence in found.slower:
        line(out, f"SLOWER  {sentence}", "bold red")
    if found.limit is not None and not found.slower:
        line(out, f"no measurement is slower than {found.file} by more than {found.limit:.1%}", "green")


def ms(value: float) -> str:
    """Four significant digits, never an exponent."""
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}" if value >= 1 else f"{value:.3f}"


def _ratio(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    digits = 1 if estimate.high >= 10 else 2
    value, low, high = (f"{v:.{digits}f}" for v in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def narrow_table(first: str, *columns: str) -> Table:
    """A table of right-aligned columns behind one that folds, within 100 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, overflow="fold", min_width=8)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def line(out: Console, text: str, style: str = "") -> None:
    """One printable line of any length."""
    out.print(Text(encodable(out, plain(text)), style=style), soft_wrap=True)
