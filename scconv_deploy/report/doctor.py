"""What is installed on this machine -> a table, with one line to install each thing that is not."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scconv_deploy.report.terminal import encodable, marks, plain, print_table


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: a library, device or target.

    ``present`` is None for plain facts (the number of cores) that are neither good nor bad. ``install`` is
    the one line that brings what is absent; None where nothing can (no GPU).
    """

    group: str
    name: str
    present: bool | None
    detail: str
    install: str | None = None


def show_findings(out: Console, findings: tuple[Finding, ...]) -> None:
    """One table grouped as collected; absent things show how to get them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "", "what", "found", "to install"):
        table.add_column(heading, overflow="fold")
    well, wrong = marks(out)
    group = None
    for item in findings:
        mark, style = (
            (" ", "") if item.present is None else ((well, "green") if item.present else (wrong, "red"))
        )
        cells = (item.group if item.group != group else "", mark, item.name, item.detail, item.install or "")
        styles = ("dim", style, "bold", "", "yellow")
        table.add_row(*(_cell(out, text, kind) for text, kind in zip(cells, styles, strict=True)))
        group = item.group
    print_table(out, table)


def _cell(out: Console, text: str, style: str) -> Text:
    return Text(encodable(out, plain(text)), style=style)
