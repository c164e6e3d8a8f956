"""Which TensorRT builds: every combination of what is installed and what GPU is here."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from exporters.trt import platform
from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu

GPU = Gpu("H200", "sm_90")
NONE = NoGpu("no NVIDIA GPU on this machine")


def _installed(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | NoGpu, **versions: str) -> None:
    modules = {n: cast(ModuleType, SimpleNamespace(__name__=n, __version__=v)) for n, v in versions.items()}
    monkeypatch.setattr(platform, "load", modules.get)
    monkeypatch.setattr(platform, "probe", lambda: gpu)


def test_trt_takes_tensorrt_where_it_and_a_gpu_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, GPU, tensorrt="10.13", tensorrt_rtx="1.7")
    chosen = platform.choose("trt")
    assert (chosen.runtime, chosen.ahead_of_time, chosen.product) == ("tensorrt", False, "TensorRT 10.13")
    assert chosen.reason == "TensorRT 10.13 builds for this machine's H200 (sm_90)"


def test_trt_without_a_gpu_goes_ahead_of_time_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, NONE, tensorrt="10.13", tensorrt_rtx="1.7")
    chosen = platform.choose("trt")
    assert (chosen.runtime, chosen.ahead_of_time) == ("tensorrt-rtx", True)
    assert chosen.reason.startswith(
        "TensorRT 10.13 needs a GPU to build and there is none here, so TensorRT for"
    )


@pytest.mark.parametrize("gpu", [GPU, NONE])
def test_trt_without_tensorrt_takes_rtx_and_says_so(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | NoGpu
) -> None:
    _installed(monkeypatch, gpu, tensorrt_rtx="1.7")
    assert platform.choose("trt").reason.startswith(
        "TensorRT is not installed, so TensorRT for RTX 1.7 builds"
    )


def test_trt_rtx_is_always_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, GPU, tensorrt="10.13", tensorrt_rtx="1.7")
    assert platform.choose("trt-rtx").ahead_of_time


@pytest.mark.parametrize(
    ("target", "versions"), [("trt", {}), ("trt", {"tensorrt": "10.13"}), ("trt-rtx", {"tensorrt": "10.13"})]
)
def test_no_builder_is_a_missing_capability_with_one_line_to_install(
    monkeypatch: pytest.MonkeyPatch, target: str, versions: dict[str, str]
) -> None:
    _installed(monkeypatch, NONE, **versions)
    with pytest.raises(CapabilityError) as caught:
        platform.choose(target)
    assert str(caught.value).endswith(
        "TensorRT for RTX is not installed; install it with: " + platform.INSTALL_RTX
    )
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError"])
def test_a_module_whose_libraries_do_not_load_counts_as_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: str
) -> None:
    (tmp_path / f"broken_{error}.py").write_text(f"raise {error}('libnvinfer.so.10: cannot open')")
    (tmp_path / "whole.py").write_text("__version__ = '3'")
    monkeypatch.syspath_prepend(tmp_path)
    assert platform.load(f"broken_{error}") is None
    assert platform.versions(f"broken_{error}", "whole") == {"whole": "3"}
