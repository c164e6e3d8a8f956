"""trtexec's option names on the command line: shown with examples, parsed, and refused in words."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from scconv_deploy.cli.build_options import tensorrt_options
from scconv_deploy.errors import InputError
from scconv_deploy.tensorrt_options import (
    MIB,
    Compatibility,
    Keep,
    Pool,
    TensorRTOptions,
    Verbosity,
    asked,
)
from tests.cli.program import scconv

TRTEXEC = (
    *("--memPoolSize", "--builderOptimizationLevel", "--timingCacheFile", "--hardwareCompatibilityLevel"),
    *("--versionCompatible", "--stripWeights", "--refit", "--allowWeightStreaming", "--maxAuxStreams"),
    *("--profilingVerbosity", "--noTF32", "--tf32", "--profile", "--builds", "--keep", "--workspace"),
)
NOTHING = {
    "workspace": None,
    "mem_pool_size": None,
    "optimization_level": None,
    "timing_cache_file": None,
    "hardware_compatibility": None,
    "version_compatible": False,
    "strip_weights": False,
    "refit": False,
    "weight_streaming": False,
    "max_aux_streams": None,
    "profiling_verbosity": None,
    "tf32": False,
    "builds": 1,
    "keep": None,
}


def test_help_names_every_option_and_shows_how_they_are_written(tmp_path: Path) -> None:
    shown = scconv("export", "--help", folder=tmp_path, extra={"COLUMNS": "200"}).stdout
    for option in TRTEXEC:
        assert option in shown, option
    assert "--memPoolSize workspace:1024,tacticSharedMem:48K --builds 3" in shown
    assert "--profile 2x3x224x224/8x3x224x224/16x3x224x224" in shown


def test_texts_become_options(tmp_path: Path) -> None:
    assert tensorrt_options(**NOTHING) == TensorRTOptions()  # type: ignore[arg-type]
    cache = tmp_path / "timings.bin"
    given = {
        "workspace": 64,
        "mem_pool_size": ["tacticSharedMem:48K"],
        "optimization_level": 4,
        "timing_cache_file": str(cache),
        "hardware_compatibility": "Ampere+",
        "version_compatible": True,
        "strip_weights": True,
        "refit": True,
        "weight_streaming": True,
        "max_aux_streams": 0,
        "profiling_verbosity": "layer_names_only",
        "tf32": True,
        "builds": 4,
        "keep": "Size",
    }
    made = tensorrt_options(**given)  # type: ignore[arg-type]
    assert made == TensorRTOptions(
        {Pool.WORKSPACE: 64 * MIB, Pool.TACTIC_SHARED_MEM: 48 * 1024},
        4,
        cache,
        Compatibility.AMPERE_PLUS,
        version_compatible=True,
        strip_weights=True,
        refit=True,
        weight_streaming=True,
        max_aux_streams=0,
        profiling_verbosity=Verbosity.LAYER_NAMES_ONLY,
        tf32=True,
        builds=4,
        keep=Keep.SIZE,
    )
    assert set(NOTHING) <= set(inspect.signature(tensorrt_options).parameters)
    for name, value in asked(TensorRTOptions()).items():
        if name != "card":
            assert asked(made)[name] != value, f"{name} was lost"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"hardware_compatibility": "amper+"},
            r"hardware compatibility level 'amper\+' is unknown.*did you mean",
        ),
        (
            {"profiling_verbosity": "detail"},
            "profiling verbosity 'detail' is unknown.*did you mean 'detailed'",
        ),
        ({"keep": "smallest", "builds": 2}, "choose one of size, kernels, bytes, time"),
        ({"timing_cache_file": "nowhere/at/all/t"}, "there is no folder 'nowhere/at/all'"),
        ({"timing_cache_file": "."}, "is a folder; give a file"),
        ({"builds": 99}, "--builds is 1 to 32"),
    ],
)
def test_wrong_texts_are_answered_in_words(
    wrong: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        tensorrt_options(**{**NOTHING, **wrong})  # type: ignore[arg-type]
