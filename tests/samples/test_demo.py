"""The newcomer's demo, whole: about a minute, so with the slow tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_demo_ends_with_one_table_and_the_paths(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "samples" / "demo.py")],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = done.stdout.split("--- Result")[1]
    for name in ("PyTorch eager", "naive ONNX", "model-onnx"):
        assert name in result
    manifest = json.loads((ROOT / "out" / "demo" / "model-onnx" / "manifest.json").read_text())
    assert manifest["verification"]["verdict"] == "PASS"
    assert list(tmp_path.iterdir()) == []
