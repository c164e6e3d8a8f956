"""The JavaScript sample, on a real bundle and on broken ones: needs Node.js and npm, whose package it installs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Silence
from scconv_deploy.pipeline import run_export
from tests.runtime.bundles import read, write_manifest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "javascript"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js and npm"),
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("package.json", "run.js", "npz.js"):
        shutil.copy(SAMPLE / name, folder)
    done = subprocess.run(
        ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"onnxruntime-node cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "digits"
    model = ROOT / "samples" / "digits" / "model.pt"
    return run_export(model, ExportConfig("onnx", out=out, verify=False), Silence()).path


def ran(sample: Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", "run.js", str(bundle)], cwd=sample, capture_output=True, text=True, check=False
    )


def test_it_reproduces_the_golden_outputs(sample: Path, bundle: Path) -> None:
    done = ran(sample, bundle)
    assert done.returncode == 0, done.stderr
    assert "of the golden samples" in done.stdout


@pytest.mark.parametrize(
    ("change", "words", "code"),
    [("value", "differs from", 1), ("nan", "differs from", 1), ("file", "altered", 2)],
)
def test_what_is_wrong_is_seen(
    change: str, words: str, code: int, sample: Path, bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    if change == "file":
        (copy / "model.onnx").write_bytes(b"other")
    else:
        with np.load(bundle / "samples.npz") as stored:
            arrays = {name: stored[name] for name in stored.files}
        arrays["outputs.output"][0, 3] += 1.0 if change == "value" else np.nan
        np.savez_compressed(copy / "samples.npz", **arrays)  # type: ignore[arg-type]
        write_manifest(copy, read(copy))
    done = ran(sample, copy)
    assert done.returncode == code
    assert words in done.stderr
