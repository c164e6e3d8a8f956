"""A kernel report (JSON) -> the rows of the plot of modules: bytes moved and kernels, the most bytes first."""

from __future__ import annotations

from scconv_deploy.report.charts import share
from scconv_deploy.report.manifest import Section, size_text
from scconv_deploy.report.rows import Plot, Row


def module_rows(report: Section) -> Plot:
    """One row per module of the engine; empty where the builder said nothing about modules."""
    modules = report.section("modules")
    found = [(path, modules.section(path)) for path in modules.data]
    moved = {path: cost.number("bytes_moved") or 0.0 for path, cost in found}
    largest = max(moved.values(), default=0.0)
    ordered = sorted(found, key=lambda item: -moved[item[0]])
    return Plot(
        tuple(
            Row(path, share(moved[path], largest), (size_text(moved[path]) or "0 B", _count(cost)))
            for path, cost in ordered
        )
    )


def _count(cost: Section) -> str:
    kernels = cost.number("kernels")
    return "-" if kernels is None else f"{kernels:g}"
