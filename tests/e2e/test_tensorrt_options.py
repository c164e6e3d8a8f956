"""The builder's options and several profiles through the whole command line, with real engines."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.runtime.input_checks import InputChecks
from scconv_deploy.stages import reopen
from scconv_deploy.tensorrt_options import MIB, Keep, Pool, TensorRTOptions, Verbosity
from tests.cli.program import scconv
from tests.exporters.trt.models import rtx

MODEL = Path(__file__).parents[2] / "samples" / "digits" / "model.pt"
CHOSEN = (
    *("--profile", "1x1x8x8", "--profile", "8x1x8x8/16x1x8x8/32x1x16x16"),
    *("--memPoolSize", "workspace:512,tacticSharedMem:64K", "--allowWeightStreaming", "--maxAuxStreams", "0"),
    *("--builds", "2", "--keep", "kernels", "--profilingVerbosity", "none", "--tf32"),
    *("--compute-capability", "sm_89"),
)


def test_every_option_reaches_the_engine_the_manifest_and_the_command(tmp_path: Path) -> None:
    rtx()
    done = scconv("export", str(MODEL), "--target", "trt-rtx", "-o", "out", *CHOSEN, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    details = manifest["details"]
    assert [[(r["min"], r["opt"], r["max"]) for r in p] for p in details["profile"]] == [
        [([1, 1, 8, 8], [1, 1, 8, 8], [1, 1, 8, 8])],
        [([8, 1, 8, 8], [16, 1, 8, 8], [32, 1, 16, 16])],
    ]
    assert details["settings"] == {
        "strongly_typed": True,
        "tf32": True,
        "profiling_verbosity": "DETAILED",
        "weight_streaming": True,
        "workspace_bytes": 512 * MIB,
        "tactic_shared_mem_bytes": 64 * 1024,
        "max_aux_streams": 0,
        "compute_capabilities": ["SM89"],
    }
    assert len(details["builds"]["figures"]) == 2
    assert details["builds"]["figures"][details["builds"]["kept"]] == min(details["builds"]["figures"])
    assert any("2 builds gave" in note for note in manifest["notes"])
    assert manifest["kernel_report"]["kernels"] > 0
    opened = reopen.run(tmp_path / "out")
    assert opened.config.tensorrt == TensorRTOptions(
        {Pool.WORKSPACE: 512 * MIB, Pool.TACTIC_SHARED_MEM: 64 * 1024},
        weight_streaming=True,
        max_aux_streams=0,
        profiling_verbosity=Verbosity.NONE,
        tf32=True,
        builds=2,
        keep=Keep.KERNELS,
    )
    assert [len(i.profiles) for i in opened.graph.inputs] == [2]
    words = shlex.split(manifest["reproduce"])
    for word in ("--profile=1x1x8x8", "--profile=8x1x8x8/16x1x8x8/32x1x16x16", "--tf32", "--builds=2"):
        assert word in words, manifest["reproduce"]
    # The runtime's own check of the same manifest: a batch that lies between the profiles fits none of them.
    checks = InputChecks(manifest["inputs"])
    name = manifest["inputs"][0]["name"]
    checks({name: np.zeros((8, 1, 16, 16), np.float32)})
    with pytest.raises(InputError, match=r"4x1x8x8.*takes"):
        checks({name: np.zeros((4, 1, 8, 8), np.float32)})


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ["--target", "onnx", "--refit"],
            2,
            "--refit is an option of TensorRT's builder and --target onnx has no",
        ),
        (["--target", "onnx", "--workspace", "64"], 2, "--memPoolSize is an option of TensorRT's builder"),
        (["--target", "onnx", "--profile", "1x1x8x8"], 2, "--profile is an option of TensorRT's builder"),
        (
            ["--target", "trt-rtx", "--versionCompatible"],
            3,
            "cannot honour --versionCompatible: its wheel lacks",
        ),
        (["--target", "trt-rtx", "--profile", "1x1x8x8", "--profile", "1x1x8x8"], 2, "are the same"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_anything_is_loaded(
    tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    if "trt-rtx" in words:
        rtx()
    done = scconv("export", str(MODEL), "-o", "out", *words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert list(tmp_path.iterdir()) == []
