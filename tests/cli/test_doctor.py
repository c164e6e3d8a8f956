from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

import pytest

from scconv_deploy import registry
from scconv_deploy.cli import doctor
from scconv_deploy.contracts import Exporter
from scconv_deploy.errors import InputError
from scconv_deploy.kernels import loader
from scconv_deploy.report.doctor import Finding


def names() -> Mapping[str, Finding]:
    return {finding.name: finding for finding in doctor.findings()}


def test_it_finds_what_is_here() -> None:
    found = names()
    assert found["torch"].present is True
    assert found["torch"].detail == importlib.metadata.version("torch")
    assert "CPUExecutionProvider" in found["  providers"].detail
    assert found["onnx"].present is True


def test_it_says_whether_the_fused_kernels_are_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loader, "instruction_set", lambda: "avx2")
    assert "avx2 build" in names()["fused kernels"].detail
    monkeypatch.undo()
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    absent = names()["fused kernels"]
    assert absent.present is False
    assert absent.detail.startswith("not built")
    assert absent.install == loader.REBUILD
    (tmp_path / loader.NAME).write_bytes(b"no library")
    assert names()["fused kernels"].detail.startswith("cannot be loaded here")


def test_an_absent_library_gets_the_line_of_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    found = names()
    assert found["tensorrt"].install == 'pip install "scconv-deploy[trt]"'
    assert found["tensorrt-rtx"].install == 'pip install "scconv-deploy[trt-rtx]"'
    assert found["torch"].install == "pip install torch"
    assert found["torch"].present is False


def test_nothing_at_all_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise OSError("absent")

    def no_distribution(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(importlib.metadata, "version", no_distribution)
    monkeypatch.setattr(importlib.metadata, "requires", no_distribution)
    monkeypatch.setattr(registry, "targets", lambda: ())
    found = names()
    assert found["(none)"].install == "pip install -e ."
    assert found["NVIDIA driver"].present is False
    assert "features unknown" in found["CPU"].detail


def test_a_broken_exporter_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.exporter

    def some(name: str) -> Exporter:
        if name == "trt":
            raise InputError("its module is broken")
        return real(name)

    monkeypatch.setattr(registry, "targets", lambda: ("onnx", "trt"))
    monkeypatch.setattr(registry, "exporter", some)
    found = names()
    assert found["trt"].detail == "its module is broken"
    assert found["trt"].present is False
    assert found["onnx"].present is True


class FakeDriver:
    """libcuda with one device, as ctypes sees it."""

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
        return 0

    def cuDriverGetVersion(self, version: object) -> int:  # noqa: N802
        _store(version, 13010)
        return 0

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        _store(count, 1)
        return 0

    def cuDeviceGet(self, device: object, index: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, name: ctypes.Array[ctypes.c_char], size: int, device: object) -> int:  # noqa: N802
        name.value = b"NVIDIA L4"
        return 0

    def cuDeviceGetAttribute(self, value: object, attribute: int, device: object) -> int:  # noqa: N802
        _store(value, {75: 8, 76: 9}[attribute])
        return 0


def _store(reference: object, value: int) -> None:
    reference._obj.value = value  # type: ignore[attr-defined]


def test_a_gpu_is_named_with_its_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    found = names()
    assert found["NVIDIA driver"].detail == "supports CUDA 13.1"
    assert found["device 0"].detail == "NVIDIA L4, sm_89"
