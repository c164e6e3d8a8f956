"""``pip install --no-deps scconv-deploy`` beside onnxruntime and numpy serves a bundle, in its own environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

from tests.runtime.bundles import write_bundle

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("scconv_deploy", "exporters", "pyproject.toml", "setup.py", "README.md", "LICENSE")
ABSENT = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxsim",
    "typer",
    "rich",
    "jinja2",
    "psutil",
    "filelock",
    "ml_dtypes",
)

CODE = """
import importlib.util, sys
import numpy as np
import scconv_deploy

there = [name for name in sys.argv[2].split(",") if importlib.util.find_spec(name)]
assert not there, f"this environment is not slim: {there}"
assert "site-packages" in scconv_deploy.__file__, scconv_deploy.__file__
with scconv_deploy.open(sys.argv[1], threads=1, verify="golden") as engine:
    engine.warm_up()
    x = np.ones((2, 3, 8, 8), np.float32)
    into = np.empty_like(x)
    engine.run({"x": x}, {"y": into})
    assert (into == 2).all()
    print("served by", engine.info.runtime, "on", engine.info.device)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the slim environment."""
    folder = tmp_path_factory.mktemp("slim")
    venv.create(folder / "env", with_pip=True)
    found = folder / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    source = folder / "source"
    source.mkdir()
    for name in PROJECT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    obstacle = _pip(found, "numpy", "onnxruntime", "--constraint", str(ROOT / "constraints.txt"))
    if obstacle:
        pytest.skip(f"the package index cannot be reached from here: {obstacle}")
    assert _pip(found, "--no-deps", str(source)) is None
    return found


def _pip(python: Path, *arguments: str) -> str | None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    return (done.stderr.strip().splitlines() or ["pip said nothing"])[-1] if done.returncode else None


def test_a_bundle_is_served(python: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-I", "-c", textwrap.dedent(CODE), str(bundle), ",".join(ABSENT)],
        capture_output=True, text=True, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "served by onnxruntime on CPUExecutionProvider", done.stderr
