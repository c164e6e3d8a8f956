"""The GPU check's own logic, with the driver replaced by the emulation of a GPU on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scconv_deploy.errors import CapabilityError
from scconv_deploy.kernels.ptx import KernelSpec
from tests.gpu import check, correctness
from tests.kernels.cuda.conftest import kernels
from tests.kernels.cuda.emulated import Emulated

SRU, FUSE = "SRU_soft", "CRUFuse_joint_affine_relu"


def every_launch(dtype: str) -> list[KernelSpec]:
    sru = (SRU, SRU.replace("SRU", "SRUWhole"))
    return kernels(sru, ("joint_affine_relu", "CRUMixWhole_joint_affine_relu"), (dtype,))


def test_no_gpu_is_one_sentence_and_exit_code_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def refuse() -> None:
        raise CapabilityError("there is no driver")

    out = tmp_path / "out.json"
    assert check.main(["--out", str(out)], refuse) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "there is no driver" in said
    assert not out.exists()


@pytest.mark.slow
def test_rows_pass_on_the_right_kernels_and_fail_on_broken_ones(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.mkdir()
    wrong.mkdir()
    specs = every_launch("fp16")
    for folder, edits, passed in (
        (right, (), True),
        (wrong, (("gate.cuh", "s > logit", "s < logit"),), False),
    ):
        device = Emulated(folder, specs, edits)
        found = list(correctness.rows(device, ("fp16",), (SRU,), (FUSE,)))
        assert [r["operator"] for r in found] == [SRU, FUSE] * 2
        assert [r["passed"] for r in found] == [passed, True] * 2


def test_failures_decide_the_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Card:
        name = "a card"

        def __enter__(self) -> Card:
            return self

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(check.correctness, "rows", lambda device: [{"operator": "o", "passed": True}])
    monkeypatch.setattr(check.engines, "rows", lambda: [{"target": "trt", "refused": "not installed"}])
    for reached, code in ((True, 0), (None, 0), (False, 1)):
        row = {"operator": "s", "passed": reached}
        monkeypatch.setattr(check.speed, "rows", lambda device, row=row: [row])
        out = tmp_path / "gpu.json"
        assert check.main(["--out", str(out)], Card) == code
        assert json.loads(out.read_text())["gpu"] == "a card"


@pytest.mark.gpu
def test_the_whole_check_on_a_gpu(tmp_path: Path) -> None:
    if check.main(["--out", str(tmp_path / "gpu.json")]) == 3:
        pytest.skip("no CUDA GPU here")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert check.failed(found) == []
