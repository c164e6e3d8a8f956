"""A kernel report's modules -> rows, the most bytes first; and they reach the page and the terminal."""

from __future__ import annotations

from scconv_deploy.artifacts import Json
from scconv_deploy.report.html import render
from scconv_deploy.report.manifest import as_section
from scconv_deploy.report.modules import module_rows

REPORT: dict[str, Json] = {
    "kernels": 5,
    "modules": {
        "stem": {"kernels": 1, "bytes_moved": 1_000_000},
        "b<1>": {"kernels": 4, "bytes_moved": 4_000_000},
    },
    "roofline": {"card": "L4", "words": "estimate, not measured: at least 17 us on L4"},
}


def test_the_most_bytes_come_first() -> None:
    plot = module_rows(as_section(REPORT))
    assert [(row.label, row.bar, row.values) for row in plot.rows] == [
        ("b<1>", 100.0, ("4.0 MB", "4")),
        ("stem", 25.0, ("1.0 MB", "1")),
    ]


def test_an_older_manifest_has_none() -> None:
    assert not module_rows(as_section({"kernels": 5}))


def test_the_page_holds_modules_and_the_estimate() -> None:
    page = render({"kernel_report": REPORT})
    assert "b&lt;1&gt;" in page
    assert "Kernels and bytes of each module" in page
    assert "Roofline: estimate, not measured: at least 17 us on L4." in page
    assert "Roofline" not in render({"kernel_report": {"kernels": 5}})
