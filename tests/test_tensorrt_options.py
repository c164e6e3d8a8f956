"""trtexec's option texts: parsed, checked, written again as the command, and back from a manifest."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.tensorrt_options import (
    MIB,
    Compatibility,
    Keep,
    Pool,
    TensorRTOptions,
    Verbosity,
    asked,
    from_json,
    one_of,
    pool_sizes,
    words,
)

EVERY = TensorRTOptions(
    pools={Pool.WORKSPACE: 1024 * MIB, Pool.TACTIC_SHARED_MEM: 48 * 1024, Pool.DLA_SRAM: 100},
    optimization_level=5,
    timing_cache=Path("timings.bin"),
    hardware_compatibility=Compatibility.AMPERE_PLUS,
    version_compatible=True,
    strip_weights=True,
    refit=True,
    weight_streaming=True,
    max_aux_streams=0,
    profiling_verbosity=Verbosity.NONE,
    tf32=True,
    builds=3,
    keep=Keep.KERNELS,
    card="L4",
)


@pytest.mark.parametrize(
    ("texts", "workspace", "sizes"),
    [
        ([], None, {}),
        ([], 64, {Pool.WORKSPACE: 64 * MIB}),
        (["workspace:1024,tacticSharedMem:1"], None, {Pool.WORKSPACE: 1 << 30, Pool.TACTIC_SHARED_MEM: MIB}),
        (["workspace:0.25M", "DLASRAM:1g"], None, {Pool.WORKSPACE: MIB // 4, Pool.DLA_SRAM: 1 << 30}),
        (
            ["tacticSharedMem:48K, dlaLocalDRAM:7b"],
            None,
            {Pool.TACTIC_SHARED_MEM: 49152, Pool.DLA_LOCAL_DRAM: 7},
        ),
        (["workspace:64"], 64, {Pool.WORKSPACE: 64 * MIB}),
    ],
)
def test_pool_sizes_as_trtexec_writes_them(
    texts: list[str], workspace: int | None, sizes: dict[Pool, int]
) -> None:
    assert pool_sizes(texts, workspace) == sizes


@pytest.mark.parametrize(
    ("texts", "workspace", "message"),
    [
        (["workspce:64"], None, "memory pool 'workspce' is unknown.*did you mean 'workspace'"),
        (["workspace"], None, "is not a pool and a size; write it like"),
        (["workspace:"], None, "has no size"),
        (["workspace:-5"], None, "has no size"),
        (["workspace:1T"], None, "has no size"),
        (["workspace:0"], None, "less than a byte"),
        (["workspace:0.1B"], None, "less than a byte"),
        ([], 0, "--workspace '0' is less than a byte"),
        (["workspace:32"], 64, "has two sizes"),
    ],
)
def test_wrong_pools_are_answered_in_words(texts: list[str], workspace: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pool_sizes(texts, workspace)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimization_level": 6}, r"--builderOptimizationLevel is 0 .* to 5 .* not 6"),
        ({"max_aux_streams": -1}, "--maxAuxStreams"),
        ({"builds": 0}, "--builds is 1 to 32"),
        ({"builds": 33}, "--builds is 1 to 32"),
        ({"keep": Keep.SIZE}, "chooses among several builds and there is one"),
        ({"pools": {Pool.WORKSPACE: 0}}, "must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TensorRTOptions(**wrong)


def test_every_option_survives_the_manifest_and_a_lost_one_is_noticed() -> None:
    stored = json.loads(json.dumps(asked(EVERY)))
    assert from_json(stored) == EVERY
    assert set(stored) == {f.name for f in fields(TensorRTOptions)}
    assert from_json({**stored, "from_a_later_version": 1}) == EVERY
    for name in stored:
        without = {k: v for k, v in stored.items() if k != name and not (name == "builds" and k == "keep")}
        assert from_json(without) != EVERY, f"{name} is its default here, so its loss would not be seen"


def test_a_manifest_without_options_means_the_defaults() -> None:
    assert from_json(None) == from_json({}) == TensorRTOptions()
    assert not TensorRTOptions().tf32, "TF32 is not the function that was verified"


def test_a_value_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="profiling_verbosity 'chatty' is unknown"):
        from_json({"profiling_verbosity": "chatty"})


def test_the_command_names_every_option_that_was_chosen_and_no_other() -> None:
    assert words(TensorRTOptions()) == []
    assert words(EVERY) == [
        "--memPoolSize=workspace:1024,tacticSharedMem:48K,dlaSRAM:100B",
        "--builderOptimizationLevel=5",
        "--timingCacheFile=timings.bin",
        "--maxAuxStreams=0",
        "--keep=kernels",
        "--card=L4",
        "--hardwareCompatibilityLevel=ampere+",
        "--profilingVerbosity=none",
        "--builds=3",
        *("--versionCompatible", "--stripWeights", "--refit", "--allowWeightStreaming", "--tf32"),
    ]
    for name in asked(EVERY):
        changed: dict[str, Any] = {name: getattr(TensorRTOptions(), name)}
        if name == "builds":
            changed["keep"] = None  # which means nothing for a single build
        other = replace(EVERY, **changed)
        assert len(words(other)) < len(words(EVERY)), name


def test_names_are_taken_in_any_case() -> None:
    assert one_of("level", "AMPERE+", Compatibility) is Compatibility.AMPERE_PLUS
    assert one_of("level", " samecomputecapability ", Compatibility) is Compatibility.SAME_COMPUTE_CAPABILITY
