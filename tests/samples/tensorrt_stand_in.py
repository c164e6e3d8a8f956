"""TensorRT's own headers -> libraries that stand in for it and for CUDA, where there is no GPU.

What the sample calls is written by hand (``tensorrt_stand_in.cpp``, ``cuda_stand_in.cpp``). TensorRT's interfaces
have 130 methods more, all of which a class must have: those are written here from the header, and abort with their
name.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.samples import cpp_packages

HEADERS = "kernel-lens==2.0.1"
"""A wheel that carries the headers of TensorRT 10.14, which NVIDIA publishes under the Apache licence."""
CUDA = ("nvidia-cuda-runtime==13.5.37", "nvidia-cuda-crt==13.5.37")
INTERFACES = ("VRuntime", "VCudaEngine", "VExecutionContext")
METHOD = re.compile(r"virtual\s+([^;{}]+?)\b(\w+)\(([^;{}]*?)\)\s*(const)?\s*noexcept\s*=\s*0;", re.DOTALL)
FEATURE = re.compile(r"^#if ENABLE_FEATURE.*?^#endif[^\n]*$", re.DOTALL | re.MULTILINE)


class Toolkit:
    """Headers of TensorRT and CUDA, the real CUDA runtime, and the stand-ins for both."""

    def __init__(self, folder: Path) -> None:
        self.tensorrt = (
            cpp_packages.wheel(folder / "wheels", HEADERS) / "kernel_lens" / "include" / "tensorrt"
        )
        runtime, compiler = (cpp_packages.wheel(folder / "wheels", each) / "nvidia" / "cu13" for each in CUDA)
        self.cuda = runtime / "include"
        (self.cuda / "crt").symlink_to(compiler / "include" / "crt")
        self.cudart = runtime / "lib"
        self._folder = folder
        (folder / "stand_in_defaults.h").write_text(defaults((self.tensorrt / "NvInferImpl.h").read_text()))
        self._build("cuda_stand_in.cpp", "libcudart.so")
        self._build("tensorrt_stand_in.cpp", "libnvinfer.so", folder / "libcudart.so")

    def settings(self) -> tuple[str, ...]:
        """What CMake must be told to find all of it."""
        return (
            f"-DTENSORRT_INCLUDE_DIR={self.tensorrt}",
            f"-DTENSORRT_LIBRARY={self._folder / 'libnvinfer.so'}",
            f"-DCUDA_INCLUDE_DIR={self.cuda}",
            f"-DCUDART_LIBRARY={self._folder / 'libcudart.so'}",
        )

    def _build(self, source: str, name: str, *libraries: Path) -> None:
        command: list[str | Path] = ["c++", "-std=c++17", "-shared", "-fPIC", *cpp_packages.FLAGS.split()]
        command += [f"-I{self._folder}", "-isystem", self.tensorrt, "-isystem", self.cuda]
        command += [
            Path(__file__).with_name(source),
            *libraries,
            f"-Wl,-soname,{name}",
            "-o",
            self._folder / name,
        ]
        made = cpp_packages.run(command)
        assert made.returncode == 0, made.stderr


def defaults(header: str) -> str:
    """For each interface of ``NvInferImpl.h`` a class that has all of its methods; each aborts with its name."""
    classes = []
    for interface in INTERFACES:
        found = re.search(rf"^class {interface} .*?^}};", header, re.DOTALL | re.MULTILINE)
        assert found is not None, interface
        methods = METHOD.findall(FEATURE.sub("", found[0]))
        assert len(methods) > 20, interface
        name = interface.removeprefix("V") + "Defaults"
        lines = [
            f"  {kind.strip()} {method}({_types(given)}) {constant} noexcept override {{ "
            f'stop("{interface}::{method} was called"); }}'
            for kind, method, given, constant in methods
        ]
        classes.append(f"class {name} : public {interface} {{\n public:\n" + "\n".join(lines) + "\n};\n")
    return "namespace nvinfer1::apiv {\n" + "\n".join(classes) + "}\n"


def _types(parameters: str) -> str:
    """``char const* name, int32_t index`` without the names, of which a default makes no use."""
    kept = []
    for parameter in filter(None, (p.strip() for p in parameters.split(","))):
        words = re.fullmatch(r"(.*[\s*&])(\w+)", parameter, re.DOTALL)
        kept.append(
            words[1].strip() if words and words[1].strip() not in ("const", "unsigned") else parameter
        )
    return ", ".join(kept)
