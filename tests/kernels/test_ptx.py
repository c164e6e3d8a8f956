"""CUDA source -> PTX, by NVRTC, without a GPU; and what ptxas makes of it, where there is one."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scconv_deploy.errors import BuildError, CapabilityError, InputError
from scconv_deploy.kernels import ptx
from scconv_deploy.kernels.names import operators
from scconv_deploy.kernels.ptx import (
    BYTES,
    POOL,
    TYPES,
    KernelSpec,
    Layout,
    compile_ptx,
    compile_source,
    source,
)

SOME = (
    KernelSpec("SRU_soft", "fp32"),
    KernelSpec("SRUWhole_complement_soft_ge_normalised", "fp16", Layout.LAST, 4),
    KernelSpec("SRU_static_std", "bf16", Layout.LAST, 1),
    KernelSpec(POOL, "bf16"),
    KernelSpec("CRUPoolWhole", "fp16", Layout.LAST, 8),
    KernelSpec("CRUMix_joint_affine_add_relu", "fp32", Layout.LAST, 4),
    KernelSpec("CRUMixWhole_pair", "fp16"),
)


@pytest.fixture(autouse=True)
def _nvrtc() -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip(f"NVRTC is not installed: {ptx.INSTALL}")


@pytest.mark.parametrize("spec", SOME, ids=lambda s: s.entry)
def test_one_entry_for_the_target_with_the_arguments_in_order(spec: KernelSpec) -> None:
    made = compile_ptx(spec)
    assert re.findall(r"\.visible \.entry (\w+)\(", made.text) == [spec.entry]
    assert re.search(r"(?m)^\.version 7\.0$", made.text)
    assert re.search(r"(?m)^\.target sm_80$", made.text)
    kinds = re.findall(
        r"\.param \.(u64|u32)\b[^,]*_param_\d+", made.text.partition(".entry")[2].partition(")")[0]
    )
    wanted = ["u64"] * len(spec.inputs) + ["u32"] * len(spec.extras) + ["u64"] * len(spec.outputs)
    assert kinds == wanted


@pytest.mark.parametrize("spec", SOME, ids=lambda s: s.entry)
def test_nothing_in_local_memory_and_no_calls(spec: KernelSpec) -> None:
    text = compile_ptx(spec).text
    assert ".local" not in text
    assert not re.search(r"\bcall\b", text)


def test_activations_move_in_vectors() -> None:
    assert "ld.global.nc.v4" in compile_ptx(SOME[0]).text
    assert re.search(r"ld\.global\.nc\.v2\.u32|ld\.global\.nc\.v4", compile_ptx(SOME[1]).text)
    assert not re.search(r"ld\.global\S*\.v[24]", compile_ptx(SOME[2]).text)


def test_the_text_is_the_same_in_another_process() -> None:
    code = (
        "from scconv_deploy.kernels.ptx import KernelSpec, compile_ptx; import sys;"
        "sys.stdout.write(compile_ptx(KernelSpec('SRU_soft', 'fp32')).text)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == compile_ptx(SOME[0]).text


def test_a_broken_source_is_an_error_with_its_line() -> None:
    with pytest.raises(
        BuildError, match=r"cannot compile the kernel twin for compute_80: .*\(1\).*identifier"
    ):
        compile_source('extern "C" __global__ void twin() { nothing(); }', "twin")


def test_an_unknown_architecture_is_an_error() -> None:
    with pytest.raises(BuildError, match="compute_1"):
        compile_ptx(SOME[0], "compute_1")


@pytest.mark.parametrize(
    "spec",
    [
        KernelSpec("SRU_static_ge", "fp32"),
        KernelSpec("SRU_soft_within_std", "fp32"),
        KernelSpec("SRU_soft", "int8"),
        KernelSpec("CRUMix_triple", "fp32"),
        KernelSpec("CRUFuse_joint", "fp32"),
        KernelSpec("SRU_soft", "fp32", Layout.LAST, 8),
    ],
)
def test_what_is_no_kernel_is_refused(spec: KernelSpec) -> None:
    with pytest.raises(InputError, match="there is no kernel"):
        source(spec)


def test_without_nvrtc_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(CapabilityError, match="pip install"):
        ptx.compiler()


def test_every_operator_has_a_source_in_every_type_and_layout() -> None:
    texts = {source(s) for s in every_kernel()}
    assert len(texts) == len(every_kernel())


def every_kernel() -> list[KernelSpec]:
    found = []
    for name in operators():
        for dtype in TYPES:
            widths = (1, 4 if name.startswith("SRU") else 16 // BYTES[dtype])
            found += [
                KernelSpec(name, dtype),
                *(KernelSpec(name, dtype, Layout.LAST, each) for each in widths),
            ]
    return found


def ptxas() -> str | None:
    """Of the wheel nvidia-cuda-nvcc, or of a CUDA toolkit."""
    spec = importlib.util.find_spec("nvidia")
    homes = list(spec.submodule_search_locations or []) if spec else []
    return next((str(p) for h in homes for p in Path(h).glob("cu*/bin/ptxas")), shutil.which("ptxas"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_89", "sm_90"])
def test_ptxas_assembles_without_spills(target: str, tmp_path: Path) -> None:
    """Which also confirms that nothing newer than the lowered version of the language is used."""
    assembler = ptxas()
    if assembler is None:
        pytest.skip("no ptxas here: pip install nvidia-cuda-nvcc")
    report = {}
    for spec in SOME:
        file = tmp_path / f"{spec.entry}.ptx"
        file.write_text(compile_ptx(spec).text)
        done = subprocess.run(
            [assembler, "-v", f"-arch={target}", str(file), "-o", str(tmp_path / "cubin")],
            capture_output=True,
            text=True,
            check=True,
        )
        spilled = re.findall(r"(\d+) bytes spill", done.stderr)
        registers = re.search(r"Used (\d+) registers", done.stderr)
        assert registers
        report[spec.entry] = int(registers[1])
        assert spilled
        assert set(spilled) == {"0"}, (spec.entry, done.stderr)
    assert max(report.values()) <= 128, report  # 512 threads of a block share 65536
