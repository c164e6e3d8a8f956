"""Programs exported through the whole pipeline: verified against themselves, their blocks with the exact gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

import scconv_deploy
from scconv_deploy.config import shape_ranges
from scconv_deploy.verdicts import Verdict
from tests.cli.program import scconv
from tests.programs import archives
from tests.programs.archives import Host, X


def ran(bundle: Any, x: torch.Tensor = X) -> np.ndarray:
    session = ort.InferenceSession(str(bundle.artifact), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    return found


def blocks(bundle: Any) -> list[str]:
    return [b["path"] for b in bundle.manifest["recognition"]["blocks"]]


@pytest.mark.parametrize(("family", "free"), [("F1", False), ("F3", True)])
def test_an_exported_program(family: str, free: bool, tmp_path: Path) -> None:
    net = Host(family).eval()
    path = archives.exported(tmp_path / "m.pt2", net, free)
    bundle = scconv_deploy.export(path, out=tmp_path / "out")
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    assert blocks(bundle) == ["block"]
    with torch.no_grad():
        np.testing.assert_allclose(ran(bundle), net(X).numpy(), rtol=1e-4, atol=1e-5)
    batch = bundle.manifest["inputs"][0]["shape"][0]  # type: ignore[index, call-overload]
    assert batch == ("batch" if free else 2)


def test_a_traced_archive(tmp_path: Path) -> None:
    net = Host("F3").eval()
    path = archives.traced(tmp_path / "m.pt", net)
    bundle = scconv_deploy.export(path, out=tmp_path / "out", shapes=shape_ranges(["1x3x10x12"]))
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    assert blocks(bundle) == ["block"]
    with torch.no_grad():
        np.testing.assert_allclose(ran(bundle), net(X).numpy(), rtol=1e-4, atol=1e-5)


def test_programs_in_memory(tmp_path: Path) -> None:
    net = Host("F2").eval()
    bundle = scconv_deploy.export(torch.export.export(net, (X,)), out=tmp_path / "a")
    assert blocks(bundle) == ["block"]
    with torch.no_grad():
        made = torch.jit.trace(net, X, check_trace=False)
        second = scconv_deploy.export(made, example_inputs=X, out=tmp_path / "b", verify=False)
        np.testing.assert_allclose(ran(second), net(X).numpy(), rtol=1e-4, atol=1e-5)


def test_inspection_gives_the_command_that_exports(tmp_path: Path) -> None:
    path = archives.exported(tmp_path / "m.pt2", free=True)
    done = scconv("inspect", str(path), "--json", folder=tmp_path)
    found = json.loads(done.stdout)
    assert found["scconv_like"] == ["block"]
    assert found["inputs"][0]["minimum"] == [1, 3, 10, 12]
    assert found["inputs"][0]["maximum"] == [16, 3, 10, 12]
    assert found["export_command"] == f"scconv-export {path} --target onnx"
