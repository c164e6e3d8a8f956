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
from tests.kernels.block_cases import block_case, block_image, block_model, expected
from tests.kernels.forms import FUSE_FORMS, SRU_FORMS, image, sru_case
from scconv_deploy.runtime.onnx import OnnxRunner
from tests.kernels.models import from_blocks, fuse_model, in_blocks, session, sru_model
from tests.kernels.reference import fuse, sru, worst
from tests.kernels.test_precedence import lying
from tests.runtime.blocked_models import SIZE, with_convolutions

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
        y |= {"added": image((2, 8, 6, 6), 2, dtype)} if "add" in operator.split("_") else {}
        want = fuse(operator, scale=named["scale"], shift=named["shift"], **y)
        model = fuse_model(operator, named, dtype, opset=18)
        assert worst(want, tuple(session(lying(model), library, 2).run(None, y))) < 1e-6, operator
        assert worst(want, tuple(session(model, None).run(None, y))) < 2e-6, operator
x = image((2, 64, 6, 6), 0)
case = sru_case("SRU_soft", 64, 4, 1)
for block in (8, 16):
    given = {"x": in_blocks(x, block)}
    got = session(sru_model(case, np.float32, block=block), library, 2).run(None, given)
    assert worst(sru(case, x), tuple(from_blocks(y, block) for y in got)) < 1e-6, block
for block in (8, 16):
    whole = block_case("SRU_complement_soft_normalised", "CRUFuse_joint_affine_add_relu", block)
    images = block_image(whole, (2, 15, 13))
    given = {k: in_blocks(v, block) for k, v in images.items()}
    got = session(block_model(whole, block), library, 2).run(None, given)[0]
    assert worst(expected(whole, images), (from_blocks(got, block),)) < 1e-6, block
folder = Path(sys.argv[3])
with_convolutions(folder / "model.onnx")
given = {"x": image((2, 16, *SIZE), 0)}
with OnnxRunner(folder / "model.onnx") as on_blocks, OnnxRunner(folder / "model.onnx", use_blocks=False) as planar:
    assert on_blocks.layout in ("NCHW8c", "NCHW16c"), on_blocks.layout
    assert planar.layout == "NCHW"
    np.testing.assert_allclose(on_blocks.run(given)["y"], planar.run(given)["y"], rtol=1e-4, atol=1e-5)
print("agreed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_kernels_and_functions_on(version: str, library: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    done = subprocess.run([*install, f"onnxruntime=={version}"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"onnxruntime {version} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(library), version, str(tmp_path)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "agreed" in ran.stdout
