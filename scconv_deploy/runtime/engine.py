"""``scconv_deploy.open``: a bundle's folder -> a callable, checked engine.

Imports neither torch nor the exporting half: numpy and the backend are enough to serve a bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from scconv_deploy.contracts import Runner
from scconv_deploy.errors import CapabilityError, InputError, nearest
from scconv_deploy.kernels.loader import say_once
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.engine_info import EngineInfo, describe
from scconv_deploy.runtime.engine_options import EngineOptions
from scconv_deploy.runtime.golden import check_golden
from scconv_deploy.runtime.input_checks import InputChecks, moved_into
from scconv_deploy.runtime.manifest import check_hashes, read_manifest

GRAPH = "model.onnx"
FALLBACK = "onnx"
VERIFY_LEVELS = ("hash", "golden", "none")


class Opened(NamedTuple):
    """What was opened: the runtime, the file, the provider that was asked for, and why it is not the artifact."""

    runtime: str
    artifact: str
    provider: str | None = None
    fallback: str | None = None


class Engine:
    """A bundle ready to run. Thread-safe where the backend is (ONNX Runtime, OpenVINO and TensorRT's pool are); a
    context manager.

    Attributes:
        path, manifest: of the bundle.
        input_names, output_names, input_dtypes: as the manifest has them.
    """

    def __init__(
        self,
        path: Path,
        manifest: Mapping[str, Any],
        runner: AbstractContextManager[Runner],
        opened: Opened | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._opened = opened or Opened(str(manifest["runtime"]), str(manifest["artifact"]))
        self._checks = InputChecks(manifest["inputs"], getattr(runner, "takes_gpu_tensors", False))
        self._context = runner
        self._runner: Runner | None = runner.__enter__()
        self.input_names = tuple(spec.name for spec in self._checks.specs)
        self.input_dtypes = {spec.name: spec.dtype for spec in self._checks.specs}
        self.output_names = tuple(str(o["name"]) for o in manifest["outputs"])

    @property
    def info(self) -> EngineInfo:
        """What runs this engine, on what device, and what it takes and gives.

        Raises:
            InputError: the engine is closed.
        """
        return describe(self.manifest, *self._opened[:3], self._living(), self._opened.fallback)

    def run(
        self, inputs: Mapping[str, np.ndarray], into: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out.

        Args:
            inputs: arrays by name; tensors of other libraries on the CPU are taken through DLPack, uncopied, and for
                TensorRT engines those on the GPU, copied there without a way over the host.
            into: contiguous arrays that take outputs of their names. ONNX Runtime writes into them, a GPU's
                results are copied there once, and so are those of a backend that makes its own. For TensorRT
                engines also tensors on the GPU, which come back as they were given.

        Raises:
            InputError: wrong names, dtypes, ranks or sizes, said before the backend sees them; or closed.
        """
        runner = self._living()
        arrays = self._checks(inputs)
        if not into:
            return runner.run(arrays)
        for name in into:
            if name not in self.output_names:
                raise InputError(
                    f"no output is called '{name}' (the engine gives {', '.join(self.output_names)})"
                    f"{nearest(name, self.output_names)}"
                )
        targets = self._checks.targets(into)
        run_into = getattr(runner, "run_into", None)
        results: dict[str, np.ndarray] = (
            moved_into(runner.run(arrays), targets) if run_into is None else run_into(arrays, targets)
        )
        return {**results, **into}

    def warm_up(self, runs: int = 3) -> None:
        """Run zeros of every profile's optimum shape ``runs`` times, so that the first real call is as fast as the
        rest: kernels are compiled, memory is taken, graphs are captured."""
        for profile in self._checks.optima():
            inputs = {name: np.zeros(shape, self.input_dtypes[name]) for name, shape in profile.items()}
            for _ in range(runs):
                self.run(inputs)

    def check(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Compare names, dtypes, ranks and sizes with the manifest, without running anything.

        Raises:
            InputError: in words, for the first that does not fit.
        """
        self._checks(inputs)

    def __call__(self, *args: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Positional arrays in; one array, or a tuple in the manifest's order, out."""
        if len(args) != len(self.input_names):
            raise InputError(
                f"this engine takes {len(self.input_names)} inputs ({', '.join(self.input_names)}), "
                f"{len(args)} were given"
            )
        results = self.run(dict(zip(self.input_names, args, strict=True)))
        ordered = tuple(results[name] for name in self.output_names)
        return ordered[0] if len(ordered) == 1 else ordered

    def close(self) -> None:
        """Release the backend; further calls raise InputError."""
        if self._runner is not None:
            self._runner = None
            self._context.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _living(self) -> Runner:
        runner = self._runner  # another thread may close the engine between the test and the call
        if runner is None:
            raise InputError(f"this engine ({self.path}) is closed")
        return runner


def open_bundle(
    bundle_path: str | Path,
    threads: int | None = None,
    provider: str | None = None,
    verify: str = "hash",
    *,
    fallback: str | None = None,
    options: EngineOptions | None = None,
) -> Engine:
    """Open a bundle.

    Args:
        bundle_path: the bundle's folder.
        threads: intra-op threads of the backend; None leaves it to the backend.
        provider: ONNX Runtime provider by its full name; never replaced silently.
        verify: ``hash`` compares every file with the manifest's SHA-256; ``golden`` also runs the bundle's
            own samples and refuses to open if they differ; ``none`` checks nothing.
        fallback: ``"onnx"`` runs the bundle's ``model.onnx`` in ONNX Runtime on the CPU where its own artifact
            cannot run here, and says so once; None refuses.
        options: the layout in ONNX Runtime; contexts, CUDA graphs and caches of TensorRT engines.

    Raises:
        InputError: no bundle, damaged or altered files, or golden samples that differ.
        CapabilityError: the runtime or device it needs is missing.
    """
    if verify not in VERIFY_LEVELS:
        raise InputError(f"verify='{verify}' is unknown; choose one of {', '.join(VERIFY_LEVELS)}")
    if fallback not in (None, FALLBACK):
        raise InputError(f"fallback='{fallback}' is unknown; it is '{FALLBACK}' or left out")
    path = Path(bundle_path)
    manifest = read_manifest(path)
    if verify != "none":
        check_hashes(path, manifest)
    opened = Opened(str(manifest["runtime"]), str(manifest["artifact"]), provider)
    try:
        runner = open_runner(opened.runtime, path / opened.artifact, threads, provider, options, manifest)
        engine = Engine(path, manifest, runner, opened)
    except CapabilityError as error:
        if opened.artifact == GRAPH or GRAPH not in manifest["files"]:
            raise
        if fallback is None:
            raise CapabilityError(
                f"{error}; fallback='{FALLBACK}' (--fallback {FALLBACK}) runs the bundle's {GRAPH} instead"
            ) from error
        engine = _fall_back(path, manifest, threads, options, str(error))
    if verify == "golden":
        try:
            check_golden(path, manifest, engine)
        except BaseException:
            engine.close()
            raise
    return engine


def _fall_back(
    path: Path, manifest: Mapping[str, Any], threads: int | None, options: EngineOptions | None, reason: str
) -> Engine:
    say_once(f"{path}: {reason}; its {GRAPH} runs in ONNX Runtime on the CPU instead, as was asked for")
    runner = open_runner("onnxruntime", path / GRAPH, threads, options=options)
    return Engine(path, manifest, runner, Opened("onnxruntime", GRAPH, fallback=reason))
