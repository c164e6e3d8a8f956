"""The C++ under the address, undefined-behaviour and thread sanitizers."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "scconv_deploy" / "kernels" / "src"
DRIVER = Path(__file__).parent / "driver.cpp"
COMPILER = shutil.which("g++") or shutil.which("clang++")
FLAGS = ["-std=c++17", "-O1", "-g", "-Wno-psabi", "-Wno-maybe-uninitialized", "-pthread", f"-I{SOURCES}"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
ONCE = ("dispatch", "sru", "sru_blocked", "fuse", "fuse_blocked", "block", "block_sample")
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
BUILDS = {"plain": [], "avx2": AVX2, "avx512": AVX512} if IS_X86 else {"plain": []}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here"),
]


def build(folder: Path, driver: Path, flags: list[str]) -> Path:
    """The driver with the kernels of every instruction set, compiled with ``flags``."""
    common = [str(COMPILER), *FLAGS, *flags, *(["-DSCCONV_X86_BUILDS"] if IS_X86 else [])]
    jobs = {path.stem: ([], path) for path in (driver, *(SOURCES / f"{n}.cpp" for n in ONCE))}
    for name, extra in BUILDS.items():
        jobs[f"loops_{name}"] = ([*extra, f"-DSCCONV_BUILD={name}"], SOURCES / "inner_loops.cpp")
    for name, (extra, source) in jobs.items():
        subprocess.run([*common, *extra, "-c", str(source), "-o", str(folder / f"{name}.o")], check=True)
    program = folder / "driver"
    objects = [str(folder / f"{name}.o") for name in jobs]
    subprocess.run([*common, *objects, "-o", str(program)], check=True)
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_nothing_is_found(sanitizer: str, tmp_path: Path) -> None:
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    done = run(build(tmp_path, DRIVER, flags))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "builds ran" in done.stdout


@pytest.mark.parametrize(
    ("sanitizer", "old", "new", "found"),
    [
        ("address", "values / 2, type), b(", "values / 2 - 1, type), b(", "heap-buffer-overflow"),
        ("thread", "sru.y_b = b.get()", "sru.y_b = a.get()", "data race"),
    ],
)
@pytest.mark.parametrize("layout", ["planar", "blocked"])
def test_the_alarm_rings(sanitizer: str, old: str, new: str, found: str, layout: str, tmp_path: Path) -> None:
    """An output that is one value short, and one that two threads write."""
    text = DRIVER.read_text(encoding="utf-8")
    shapes = "kShapes" if layout == "blocked" else "kBlocked"
    text = text.replace(f"for (const Shape& shape : {shapes})", "for (const Shape& shape : kNone)")
    text = text.replace("const float* floats(", "const std::vector<Shape> kNone;\n\nconst float* floats(", 1)
    assert old in text
    # The empty batch has no value to be short of.
    broken = text.replace(old, new).replace("{0, 4, 9, 2}, ", "").replace("{0, 32, 9, 2, 16},", "")
    if sanitizer == "thread":
        # Halves that start one channel apart: every channel but the ends is written by two tasks.
        broken = broken.replace(
            "a.get();\n  scconv::compute(sru", "static_cast<char*>(a.get()) + 4;\n  scconv::compute(sru"
        )
    (tmp_path / "broken.cpp").write_text(broken, encoding="utf-8")
    done = run(build(tmp_path, tmp_path / "broken.cpp", [f"-fsanitize={sanitizer}"]))
    assert found in done.stderr


@pytest.mark.parametrize(
    ("sanitizer", "old", "new", "found"),
    [
        (
            "address",
            "const Buffer added = of(values), out = of(values);",
            "const Buffer added = of(values), out = of(values - 1);",
            "heap-buffer-overflow",
        ),
        (
            "address",
            "low = of(block.low * block.up_inputs)",
            "low = of(block.low * block.up_inputs - 1)",
            "heap-buffer-overflow",
        ),
        ("thread", "block.added = floats(added);", "block.added = floats(out) + b;", "data race"),
    ],
)
def test_the_alarm_rings_for_a_whole_block(
    sanitizer: str, old: str, new: str, found: str, tmp_path: Path
) -> None:
    """A result or a constant that is one value short, and a residual that other tasks are writing."""
    text = DRIVER.read_text(encoding="utf-8")
    assert old in text
    # The empty batch has no value to be short of.
    broken = text.replace(old, new).replace("{0, 1, 1, 1, 1, 2, 3, 3, 3, 16}, ", "")
    for shapes in ("kShapes", "kBlocked"):
        broken = broken.replace(f"for (const Shape& shape : {shapes})", "for (const Shape& shape : kNone)")
    broken = broken.replace(
        "const float* floats(", "const std::vector<Shape> kNone;\n\nconst float* floats(", 1
    )
    (tmp_path / "broken.cpp").write_text(broken, encoding="utf-8")
    done = run(build(tmp_path, tmp_path / "broken.cpp", [f"-fsanitize={sanitizer}"]))
    assert found in done.stderr
