"""OpenVINO's kernel of a whole block under the address, undefined-behaviour and thread sanitizers.

The kernel knows nothing of OpenVINO or TBB: it is compiled with a driver that brings threads of its own. AMX's tiles
are replaced by plain C++ (``soft_tiles.h``), whose reads a sanitizer sees, and the scratch memory's arrays lie apart
(``SCCONV_GUARDED_SCRATCH``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "scconv_deploy" / "kernels"
COMPILER = shutil.which("g++") or shutil.which("clang++")
FLAGS = ["-std=c++17", "-O1", "-g", "-Wno-psabi", "-pthread", "-fno-sanitize-recover=all"]
AVX512 = ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
AMX = ["-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-include", str(HERE / "soft_tiles.h")]
SOURCES = ("openvino/channels_last.cpp", "openvino/whole_block.cpp", "openvino_driver.cpp")
ADDRESS, THREAD = "address", "thread"
# A vector that lies half behind the end has no name of its own.
OVERFLOW = "heap-buffer-overflow|unknown-crash"
SHORT_SCRATCH = ("openvino/whole_block.cpp", "behind = 2 * kRows + 32;", "behind = 4;")


def cpu_flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()


CPU = cpu_flags()
HAS_AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "fma", "f16c"} <= CPU
HAS_AMX = HAS_AVX512 and {"avx512_bf16", "amx_bf16", "amx_tile"} <= CPU

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here"),
    pytest.mark.skipif(not HAS_AVX512, reason="a whole block has no kernel on a CPU without AVX-512"),
]


def run(sanitizer: str, folder: Path, *changes: tuple[str, str, str]) -> tuple[int, str, str]:
    """Build a copy of the sources with changes (file, old, new), and run it: exit code and streams."""
    for name in ("src", "openvino"):
        shutil.copytree(KERNELS / name, folder / name)
    shutil.copy(HERE / "openvino_driver.cpp", folder)
    for name, old, new in changes:
        text = (folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1
        # The empty batch has no value to be short of.
        text = text.replace(old, new).replace("{0, {32, 16, 16, 32, 3}, 5, 5},", "")
        (folder / name).write_text(text, encoding="utf-8")
    guarded = [] if sanitizer == THREAD else ["-DSCCONV_GUARDED_SCRATCH"]
    flags = [*FLAGS, *AVX512, *(AMX if HAS_AMX else []), *guarded, f"-fsanitize={sanitizer}"]
    command = [str(COMPILER), *flags, f"-I{folder / 'src'}", f"-I{folder / 'openvino'}"]
    program = folder / "driver"
    subprocess.run([*command, *(str(folder / name) for name in SOURCES), "-o", str(program)], check=True)
    # The first finding of any thread ends the program.
    settings = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, env=settings)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("sanitizer", ["address,undefined", THREAD])
def test_nothing_is_found(sanitizer: str, tmp_path: Path) -> None:
    code, told, found = run(sanitizer, tmp_path)
    assert code == 0, found[-3000:]
    assert told == f"{1 + HAS_AMX} types ran\n"


@pytest.mark.parametrize(
    ("sanitizer", "change", "found"),
    [
        pytest.param(
            ADDRESS,
            (
                "openvino_driver.cpp",
                "out(shape.batch * plane * sizes.out, element)",
                "out(shape.batch * plane * sizes.out - 1, element)",
            ),
            OVERFLOW,
            id="a short result",
        ),
        pytest.param(
            ADDRESS,
            ("openvino_driver.cpp", "y2(sizes.out * sizes.low,", "y2(sizes.out * sizes.low - 1,"),
            OVERFLOW,
            id="a short weight",
        ),
        pytest.param(
            ADDRESS,
            SHORT_SCRATCH,
            "use-after-poison",
            id="a short scratch array",
        ),
        pytest.param(
            THREAD,
            ("openvino/arena.h", "static thread_local std::vector", "static std::vector"),
            "data race",
            id="scratch memory that threads share",
        ),
        pytest.param(
            THREAD,
            ("openvino/whole_block.cpp", "sums_ + item * (sizes_.up + sizes_.low)", "sums_"),
            "data race",
            id="sums that tasks share",
        ),
    ],
)
def test_the_alarm_rings(sanitizer: str, change: tuple[str, str, str], found: str, tmp_path: Path) -> None:
    code, _, told = run(sanitizer, tmp_path, change)
    assert code != 0
    assert re.search(f"Sanitizer: ({found})", told), told[:500]


@pytest.mark.skipif(not HAS_AMX, reason="this CPU has no AMX")
def test_what_the_tiles_read_is_seen(tmp_path: Path) -> None:
    driver = ("openvino_driver.cpp", "{scconv::kFloat32, scconv::kBFloat16}", "{scconv::kBFloat16}")
    code, _, told = run(ADDRESS, tmp_path, driver, SHORT_SCRATCH)
    assert code != 0
    assert "use-after-poison" in told
    assert "soft_tiles::load" in told
