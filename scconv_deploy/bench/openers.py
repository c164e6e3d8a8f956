"""How each kind of backend is opened: a small picklable recipe -> a call that runs the network once.

A new kind of backend is one class here. Recipes travel to worker processes, so they hold paths and plain
values; heavy runtimes are imported by ``prepare``, before memory and load time are taken.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from scconv_deploy.errors import CapabilityError, InputError, first_line
from scconv_deploy.measurements import GpuTimes
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.dtypes import BFLOAT16

if TYPE_CHECKING:
    from torch import nn

IMPORTS = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
"""Runtime -> module whose import is not the model's cost."""


class NotPortableError(InputError):
    """A module cannot be rebuilt in another process: its class lives where only the caller finds it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open backend: ``call`` runs it once on inputs it holds; ``device_times`` exists on a GPU.

    ``notes``: what the runtime says of the open model (the layout of its fused nodes), as sentences.
    """

    call: Callable[[], object]
    device_times: Callable[[], GpuTimes] | None = None
    notes: tuple[str, ...] = ()


class Opener(Protocol):
    """A recipe."""

    def prepare(self, threads: int) -> None:
        """Import the runtime and set its global thread count."""

    def open(self, threads: int, arrays: Mapping[str, np.ndarray]) -> AbstractContextManager[Opened]:
        """Open the model for these inputs; leaving the context releases it."""


@dataclass(frozen=True, slots=True)
class RunnerOpener:
    """An artifact of a deployment runtime: what an application would open.

    ``runtime`` is a manifest's word ("onnxruntime", "tensorrt-rtx", ...). Inputs that the network does not
    read, which torch's exporter drops, are left out.
    """

    runtime: str
    artifact: Path
    provider: str | None = None

    def prepare(self, threads: int) -> None:
        """Import the runtime where it can be imported without a device."""
        del threads
        name = IMPORTS.get(self.runtime)
        if name is not None:
            with contextlib.suppress(ImportError):  # opening says it in words
                importlib.import_module(name)

    @contextlib.contextmanager
    def open(self, threads: int, arrays: Mapping[str, np.ndarray]) -> Iterator[Opened]:
        """One runner, one call per run, end to end with its transfers."""
        with open_runner(self.runtime, self.artifact, threads, self.provider) as runner:
            names = getattr(runner, "input_names", tuple(arrays))
            given = {name: arrays[name] for name in names}
            device = getattr(runner, "device_times", None)
            times = None if device is None else lambda: device(given)
            yield Opened(lambda: runner.run(given), times, tuple(getattr(runner, "notes", ())))


@dataclass(frozen=True, slots=True)
class ModuleOpener:
    """The user's module, saved whole by this program into ``file``; ``compiled`` runs it by torch.compile.

    ``cache`` is where inductor keeps what it compiles: a folder of this run, so that every run compiles anew.
    """

    file: Path
    compiled: bool
    cache: Path

    def prepare(self, threads: int) -> None:
        """Import torch; one thread count for the whole process."""
        # Inductor's own pool of compiling processes would outlive the compilation and take memory and turns.
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self.cache)
        import torch

        if self.compiled:
            torch.compile(torch.nn.Identity())  # imports the compiler; compiles nothing before a call
        torch.set_num_threads(threads)

    @contextlib.contextmanager
    def open(self, threads: int, arrays: Mapping[str, np.ndarray]) -> Iterator[Opened]:
        """Load the module; ``torch.compile`` itself happens in the first call.

        Raises:
            NotPortableError: its class cannot be imported in this process.
        """
        del threads
        import torch

        try:
            # Our own file, written a moment ago from the module that the caller handed us.
            module = torch.load(self.file, map_location="cpu", weights_only=False)
        except Exception as error:
            raise NotPortableError(
                f"the module cannot be rebuilt in a process: {first_line(error)}"
            ) from error
        yield Opened(module_call(module, arrays, compiled=self.compiled))


@dataclass(frozen=True, slots=True)
class LocalModule:
    """A module that stays in the caller's process, since it cannot travel."""

    module: nn.Module
    compiled: bool

    def prepare(self, threads: int) -> None:
        """Torch is imported already; its thread count is the stage's affair."""

    @contextlib.contextmanager
    def open(self, threads: int, arrays: Mapping[str, np.ndarray]) -> Iterator[Opened]:
        """The module itself."""
        del threads
        yield Opened(module_call(self.module, arrays, compiled=self.compiled))


def module_call(
    module: nn.Module, arrays: Mapping[str, np.ndarray], *, compiled: bool
) -> Callable[[], object]:
    """``module`` on tensors that share the arrays' memory, without gradients.

    The call raises CapabilityError where torch.compile cannot work on this machine or module.
    """
    import torch

    tensors = [
        torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        if a.dtype.name == BFLOAT16
        else torch.from_numpy(a)
        for a in arrays.values()
    ]
    run: Any = torch.compile(module, dynamic=False) if compiled else module
    ready = not compiled

    def call() -> object:
        with torch.no_grad():
            return run(*tensors)

    def first_then_call() -> object:
        nonlocal ready
        if ready:
            return call()
        try:
            result = call()
        except Exception as error:
            raise CapabilityError(_compile_refusal(error)) from error
        ready = True
        return result

    return call if not compiled else first_then_call


def _compile_refusal(error: Exception) -> str:
    text = f"{type(error).__name__} {error}"
    if "CppCompiler" in text or "C++ compiler" in text:
        return (
            "torch.compile's inductor needs a C++ compiler and finds none here; install g++ or clang++, or name "
            "one in the environment variable CXX"
        )
    return f"torch.compile fails: {first_line(error)}"
