"""What a platform cannot do is refused with its reason before anything is built."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from exporters.trt import refusals
from exporters.trt.build import build_plan
from exporters.trt.platform import Platform
from exporters.trt.refusals import keep_by, refuse
from exporters.trt.settings import BuildRequest
from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu
from scconv_deploy.tensorrt_options import Compatibility, Keep, Pool, TensorRTOptions
from tests.exporters.trt.models import SILENCE, STATIC, conv_relu, rtx_platform

NO_DRIVER = NoGpu("no NVIDIA GPU on this machine")


def _rtx(gpu: Gpu | NoGpu = NO_DRIVER) -> Platform:
    return Platform(rtx_platform().module, gpu, "")


def _enterprise(*flags: str) -> Platform:
    module = SimpleNamespace(
        __name__="tensorrt",
        __version__="10.0",
        BuilderFlag=SimpleNamespace(**dict.fromkeys(flags, 0)),
        HardwareCompatibilityLevel=SimpleNamespace(NONE=0, AMPERE_PLUS=1),
    )
    return Platform(cast(ModuleType, module), Gpu("Card", "sm_89"), "")


CANNOT = [
    (TensorRTOptions(timing_cache=Path("t")), "--timingCacheFile", "its timing cache does nothing"),
    (
        TensorRTOptions(hardware_compatibility=Compatibility.AMPERE_PLUS),
        "--hardwareCompatibilityLevel",
        "no such levels",
    ),
    (TensorRTOptions(version_compatible=True), "--versionCompatible", "lacks the lean runtime"),
    (TensorRTOptions(refit=True), "--refit", "needs an NVIDIA driver .* no NVIDIA GPU on this machine"),
    (TensorRTOptions(strip_weights=True), "--stripWeights", "needs an NVIDIA driver"),
    (TensorRTOptions(max_aux_streams=2), "--maxAuxStreams", "with the NVIDIA driver only"),
    (TensorRTOptions({Pool.DLA_SRAM: 2**20}), "--memPoolSize", "without DLA"),
]


@pytest.mark.parametrize(("options", "option", "reason"), CANNOT, ids=[c[1] for c in CANNOT])
def test_rtx_without_a_driver_says_what_it_cannot_do_and_why(
    options: TensorRTOptions, option: str, reason: str
) -> None:
    with pytest.raises(CapabilityError, match=f"cannot honour {option}: .*{reason}.*; leave {option} out"):
        refuse(_rtx(), options)


@pytest.mark.parametrize(
    "options",
    [
        TensorRTOptions(refit=True),
        TensorRTOptions(strip_weights=True),
        TensorRTOptions(version_compatible=True),
    ],
    ids=["refit", "strip", "versions"],
)
def test_what_is_refused_really_does_not_build(options: TensorRTOptions) -> None:
    """The day this library can do it, the refusal has to go."""
    if isinstance(rtx_platform().gpu, Gpu):
        pytest.skip("a driver is here, with which refit and stripping may build")
    with pytest.raises(CapabilityError if not options.version_compatible else Exception):
        build_plan(
            rtx_platform(),
            conv_relu().SerializeToString(),
            BuildRequest(STATIC, ("sm_89",), options),
            SILENCE,
        )


def test_what_needs_a_driver_is_taken_where_one_is() -> None:
    driver = _rtx(Gpu("Card", "sm_89"))
    options = TensorRTOptions(refit=True, strip_weights=True, max_aux_streams=2)
    assert refuse(driver, options) == ()
    with pytest.raises(CapabilityError, match="--versionCompatible"):
        refuse(driver, TensorRTOptions(version_compatible=True))


def test_the_rest_is_taken_and_what_has_no_effect_is_told() -> None:
    options = TensorRTOptions({Pool.WORKSPACE: 1}, weight_streaming=True, max_aux_streams=0)
    assert refuse(_rtx(), options) == ()
    (note,) = refuse(_rtx(), TensorRTOptions(optimization_level=5))
    assert "the same engine at every level" in note
    (note,) = refuse(_rtx(), TensorRTOptions(tf32=True))
    assert "limits named tf32" in note


def test_a_level_that_is_said_to_do_nothing_does_nothing() -> None:
    data = conv_relu().SerializeToString()
    plans = {
        build_plan(
            rtx_platform(),
            data,
            BuildRequest(STATIC, ("sm_89",), TensorRTOptions(optimization_level=n)),
            SILENCE,
        ).data
        for n in (0, 5)
    }
    assert len(plans) == 1


def test_an_older_tensorrt_says_which_flag_it_lacks() -> None:
    with pytest.raises(
        CapabilityError, match=r"TensorRT 10\.0 cannot honour --allowWeightStreaming: this version has"
    ):
        refuse(_enterprise("REFIT"), TensorRTOptions(weight_streaming=True))
    assert refuse(_enterprise("REFIT"), TensorRTOptions(refit=True)) == ()
    with pytest.raises(CapabilityError, match="it has no level 'sameComputeCapability'"):
        refuse(_enterprise(), TensorRTOptions(hardware_compatibility=Compatibility.SAME_COMPUTE_CAPABILITY))
    assert refuse(_enterprise(), TensorRTOptions(hardware_compatibility=Compatibility.AMPERE_PLUS)) == ()


def test_time_is_kept_by_only_where_an_engine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "obstacle", lambda runtime: "no GPU")
    with pytest.raises(CapabilityError, match=r"cannot honour --keep time: .*\(no GPU\)"):
        refuse(_rtx(), TensorRTOptions(builds=2, keep=Keep.TIME))
    assert keep_by(_rtx(), TensorRTOptions(builds=2)) is Keep.KERNELS
    monkeypatch.setattr(refusals, "obstacle", lambda runtime: None)
    assert refuse(_rtx(), TensorRTOptions(builds=2, keep=Keep.TIME)) == ()
    assert keep_by(_rtx(), TensorRTOptions(builds=2)) is Keep.TIME
    assert keep_by(_rtx(), TensorRTOptions(builds=2, keep=Keep.SIZE)) is Keep.SIZE
