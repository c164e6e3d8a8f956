from __future__ import annotations

import io

from rich.console import Console

from scconv_deploy.report.doctor import Finding, show_findings


def test_what_is_absent_shows_how_to_get_it() -> None:
    out = Console(file=io.StringIO(), width=160, highlight=False, markup=False)
    show_findings(
        out,
        (
            Finding("machine", "CPU", None, "2 cores"),
            Finding("optional", "tensorrt", False, "not installed", 'pip install "scconv-deploy[trt]"'),
            Finding("optional", "openvino", True, "2026.1"),
        ),
    )
    assert isinstance(out.file, io.StringIO)
    lines = [line for line in out.file.getvalue().splitlines() if line.strip()]
    tensorrt = next(line for line in lines if "tensorrt" in line)
    assert "✗" in tensorrt
    assert 'pip install "scconv-deploy[trt]"' in tensorrt
    assert "✓" in next(line for line in lines if "openvino" in line)
    assert sum("optional" in line for line in lines) == 1
