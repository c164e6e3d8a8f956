"""The hand-declared C interface and the kernels' precedence on several ONNX Runtime versions.

Each version is installed into a folder of its own (from the machine's own package index) and run in a process
of its own; where that is not possible the test is skipped with the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSIONS = ("1.20.0", "1.23.2", "1.26.0")
"""The oldest that pyproject.toml allows, and two between; the newest is what every other test runs on."""
PROGRAM = """
import sys
import numpy as np
import onnxruntime
from pathlib import Path
from tests.kernels.forms import FUSE_FORMS, SRU_FORMS, image, sru_case
from tests.kernels.models import fuse_model, session, sru_model
from tests.kernels.reference import fuse, sru, worst
from tests.kernels.test_precedence import lying

library = Path(sys.argv[1])
assert onnxruntime.__version__ == sys.argv[2], onnxruntime.__version__
for operator in SRU_FORMS:
    case = sru_case(operator, 8, 4, 1)
    for dtype in (np.float32, np.float16):
        x = image((2, 8, 6, 6), 0, dtype)
        want, model = sru(case, x), sru_model(case, dtype, opset=18)
        assert worst(want, tuple(session(lying(model), library, 2).run(None, {"x": x}))) < 1e-6, operator
        assert worst(want, tuple(session(model, None).run(None, {"x": x}))) < 2e-5, operator
        assert worst(want, tuple(session(lying(model), None).run(None, {"x": x}))) > 1e-3, operator
named = {k: np.linspace(0.5, 1.5, 8).astype(np.float32) for k in ("scale", "shift")}
for operator in FUSE_FORMS:
    for dtype in (np.float32, np.float16):
        y = {"y1": image((2, 8, 6, 6), 0, dtype), "y2": image((2, 8, 6, 6), 1, dtype)}
        want = fuse(operator, y["y1"], y["y2"], named["scale"], named["shift"])
        model = fuse_model(operator, named, dtype, opset=18)
        assert worst(want, tuple(session(lying(model), library, 2).run(None, y))) < 1e-6, operator
        assert worst(want, tuple(session(model, None).run(None, y))) < 2e-6, operator
print("agreed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_kernels_and_functions_on(version: str, library: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    done = subprocess.run([*install, f"onnxruntime=={version}"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"onnxruntime {version} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(library), version],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "agreed" in ran.stdout
