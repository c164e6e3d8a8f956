"""Build the fused kernels for ONNX Runtime beside the Python package, where there is a C++ compiler.

Everything else about the package stands in ``pyproject.toml``. The kernels make files exported with
``--form plugin`` faster; without a compiler (GCC or Clang) the installation succeeds all the same, and those
files run on the standard operators that they carry with them.
"""

from __future__ import annotations

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

PACKAGE = "scconv_deploy.kernels"
LIBRARY = "libscconv_ort"
SOURCES = Path("scconv_deploy") / "kernels" / "src"
ONCE = (
    "dispatch.cpp",
    "sru.cpp",
    "sru_blocked.cpp",
    "fuse.cpp",
    "fuse_blocked.cpp",
    "block.cpp",
    "block_sample.cpp",
    "ort_ops.cpp",
    "ort_block.cpp",
    "register.cpp",
)
PER_INSTRUCTION_SET = "inner_loops.cpp"
FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    # NaN and infinity keep their meaning; errno and floating-point traps are nobody's business here.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-Wno-maybe-uninitialized",  # GCC 12 warns about its own AVX-512 headers
]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]


class BuildKernels(build_ext):
    """Compiles the inner loops once per instruction set; the best one is chosen when the library runs."""

    def get_ext_filename(self, fullname: str) -> str:
        """A library with a fixed name: it is loaded by ONNX Runtime, not imported by Python."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        """Raise CompileError where it cannot be built; the extension is optional, so that is a warning."""
        if self.compiler.compiler_type != "unix":
            raise CompileError("the fused kernels need GCC or Clang; they are left out")
        is_x86 = platform.machine().lower() in ("x86_64", "amd64")
        builds = {"plain": [], "avx2": AVX2, "avx512": AVX512} if is_x86 else {"plain": []}
        macros = [("SCCONV_X86_BUILDS", "1")] if is_x86 else []
        objects = self._compile([str(SOURCES / name) for name in ONCE], "once", macros, [])
        for name, flags in builds.items():
            source = [str(SOURCES / PER_INSTRUCTION_SET)]
            objects += self._compile(source, name, [*macros, ("SCCONV_BUILD", name)], flags)
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(target), target_lang="c++")

    def _compile(
        self, sources: list[str], folder: str, macros: list[tuple[str, str]], flags: list[str]
    ) -> list[str]:
        made: list[str] = self.compiler.compile(
            sources,
            output_dir=str(Path(self.build_temp) / folder),
            macros=macros,
            extra_postargs=[*FLAGS, *flags],
            depends=[str(header) for header in SOURCES.glob("*.h")],
        )
        return made


setup(
    ext_modules=[
        Extension(
            f"{PACKAGE}.{LIBRARY}",
            [str(SOURCES / name) for name in (*ONCE, PER_INSTRUCTION_SET)],
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
