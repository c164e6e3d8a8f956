"""What the manifest says against what this machine is; every rule has a case on each side of it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from scconv_deploy.runtime import engine_fit
from scconv_deploy.runtime.engine_fit import cuda_major, mismatch
from scconv_deploy.runtime.nvidia_driver import Gpu

L4 = Gpu("L4", "sm_89", (13, 1))


def manifest(
    built: str = "10.13.3.9", capabilities: tuple[str, ...] = ("sm_86", "sm_89"), **asked: object
) -> dict[str, Any]:
    return {
        "details": {"compute_capabilities": list(capabilities)},
        "tool_versions": {"tensorrt": built},
        "tensorrt": asked,
    }


@pytest.fixture(autouse=True)
def _cuda_13(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_fit, "cuda_major", lambda module: 13)


@pytest.mark.parametrize(
    ("given", "installed", "words"),
    [
        (manifest(), "10.13.3.9", None),
        (manifest(), "10.13.3.11", None),
        (manifest(built="10.13.3.9.post1"), "10.13.3.9", None),
        ({}, "10.13.3.9", None),
        (manifest(capabilities=("sm_120",)), "10.13.3.9", "built for sm_120 and this machine's L4 is sm_89"),
        (manifest(capabilities=("sm_80",), hardware_compatibility="ampere+"), "10.13.3.9", None),
        (
            manifest(capabilities=("sm_80",), hardware_compatibility="sameComputeCapability"),
            "10.13.3.9",
            "built for sm_80",
        ),
        (manifest(), "10.16.1.11", "built by tensorrt 10.13.3.9 and 10.16.1.11 is installed"),
        (manifest(), "10.13.0.35", "pip install tensorrt==10.13.3.9"),
        (manifest(version_compatible=True), "10.16.1.11", None),
        (manifest(version_compatible=True), "10.9.0.34", "built by tensorrt 10.13.3.9"),
        (manifest(version_compatible=True), "11.0.0.114", "built by tensorrt 10.13.3.9"),
    ],
)
def test_mismatches(given: dict[str, Any], installed: str, words: str | None) -> None:
    found = mismatch(given, L4, "tensorrt", installed)
    assert found is None if words is None else words in str(found)


def test_an_ampere_engine_does_not_go_back_to_turing() -> None:
    turing = Gpu("T4", "sm_75", (13, 1))
    given = manifest(capabilities=("sm_80",), hardware_compatibility="ampere+")
    assert "this machine's T4 is sm_75" in str(mismatch(given, turing, "tensorrt", "10.13.3.9"))


@pytest.mark.parametrize(
    ("cuda", "words"),
    [((12, 8), "offers CUDA 12.8 and the installed tensorrt needs CUDA 13"), ((13, 0), ""), (None, "")],
)
def test_an_old_driver(cuda: tuple[int, int] | None, words: str) -> None:
    found = mismatch(manifest(), Gpu("L4", "sm_89", cuda), "tensorrt", "10.13.3.9")
    assert words in str(found) if words else found is None


def test_the_cuda_of_the_libraries_is_read_from_the_wheels_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def version(name: str) -> str:
        if name != "tensorrt_cu12":
            raise PackageNotFoundError(name)
        return "10.13.3.9"

    monkeypatch.setattr(engine_fit, "version", version)
    assert cuda_major("tensorrt") == 12
    assert cuda_major("tensorrt_rtx") is None
