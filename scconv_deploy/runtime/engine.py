"""``scconv_deploy.open``: a bundle's folder -> a callable, checked engine.

Imports neither torch nor the exporting half: numpy and the backend are enough to serve a bundle.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from scconv_deploy.contracts import Runner
from scconv_deploy.errors import InputError, nearest
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.dtypes import numpy_dtype
from scconv_deploy.tolerances import LIMITS
from scconv_deploy.verdicts import Tolerance

SCHEMA = 1
VERIFY_LEVELS = ("hash", "golden", "none")
REQUIRED = {"artifact": str, "runtime": str, "files": dict, "inputs": list, "outputs": list}
"""What a manifest must hold for its bundle to run."""


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    dtype: np.dtype[Any]
    minimum: tuple[int, ...]
    maximum: tuple[int, ...]
    multiple_of: dict[int, int]


class Engine:
    """A bundle ready to run. Thread-safe where the backend is (ONNX Runtime is); a context manager."""

    def __init__(
        self, path: Path, manifest: Mapping[str, Any], runner: AbstractContextManager[Runner]
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._context = runner
        self._runner: Runner | None = runner.__enter__()
        self._inputs = {i.name: i for i in map(_parse_input, manifest["inputs"])}
        self.input_names = tuple(self._inputs)
        self.input_dtypes = {i.name: i.dtype for i in self._inputs.values()}
        self.output_names = tuple(str(o["name"]) for o in manifest["outputs"])

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out.

        Raises:
            InputError: wrong names, dtypes, ranks or sizes, said before the backend sees them; or closed.
        """
        runner = self._runner  # another thread may close the engine between the test and the call
        if runner is None:
            raise InputError(f"this engine ({self.path}) is closed")
        self._check(inputs)
        return runner.run(inputs)

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

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        for name in inputs:
            if name not in self._inputs:
                known = ", ".join(self.input_names)
                raise InputError(
                    f"no input is called '{name}' (the engine takes {known}){nearest(name, self._inputs)}"
                )
        for name, spec in self._inputs.items():
            if name not in inputs:
                raise InputError(f"input '{name}' is missing")
            _check_array(inputs[name], spec)


def open_bundle(
    bundle_path: str | Path,
    threads: int | None = None,
    provider: str | None = None,
    verify: str = "hash",
) -> Engine:
    """Open a bundle.

    Args:
        bundle_path: the bundle's folder.
        threads: intra-op threads of the backend; None leaves it to the backend.
        provider: ONNX Runtime provider by its full name; never replaced silently.
        verify: ``hash`` compares every file with the manifest's SHA-256; ``golden`` also runs the bundle's
            own samples and refuses to open if they differ; ``none`` checks nothing.

    Raises:
        InputError: no bundle, damaged or altered files, or golden samples that differ.
        CapabilityError: the runtime or device it needs is missing.
    """
    if verify not in VERIFY_LEVELS:
        raise InputError(f"verify='{verify}' is unknown; choose one of {', '.join(VERIFY_LEVELS)}")
    path = Path(bundle_path)
    manifest = read_manifest(path)
    if verify != "none":
        check_hashes(path, manifest)
    artifact = path / str(manifest["artifact"])
    engine = Engine(path, manifest, open_runner(str(manifest["runtime"]), artifact, threads, provider))
    if verify == "golden":
        try:
            _check_golden(engine)
        except BaseException:
            engine.close()
            raise
    return engine


def read_manifest(path: Path) -> dict[str, Any]:
    """Parse a bundle's manifest.

    Raises:
        InputError: not a bundle, or a schema this version does not know.
    """
    file = path / "manifest.json"
    if not file.is_file():
        raise InputError(f"{path} is not a bundle: it has no manifest.json")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged: {error}") from error
    if version != SCHEMA:
        raise InputError(f"{path} has manifest schema {version}; this version reads schema {SCHEMA}")
    for key, kind in REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise InputError(f"{file} is damaged: it has no usable '{key}'")
    if Path(manifest["artifact"]).name != manifest["artifact"]:
        raise InputError(f"{file} is damaged: its artifact '{manifest['artifact']}' is not in the bundle")
    return dict(manifest)


def check_hashes(path: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file's SHA-256 with the manifest's.

    Raises:
        InputError: a file is missing or differs.
    """
    if manifest["artifact"] not in manifest["files"]:
        raise InputError(f"{path}: the manifest does not list its own artifact; the bundle is incomplete")
    for name, entry in manifest["files"].items():
        file = path / name
        if Path(name).name != name or not file.is_file():
            raise InputError(f"{path} lacks {name}, which its manifest lists; the bundle is incomplete")
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != entry["sha256"]:
            raise InputError(f"{file} was altered or damaged since the export (its SHA-256 differs)")


def read_golden(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The bundle's golden inputs and reference outputs by tensor name."""
    try:
        with np.load(path / "samples.npz", allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} has no readable samples.npz: {error}") from error
    inputs = {k.removeprefix("inputs."): a for k, a in arrays.items() if k.startswith("inputs.")}
    outputs = {k.removeprefix("outputs."): a for k, a in arrays.items() if k.startswith("outputs.")}
    return inputs, outputs


def _check_golden(engine: Engine) -> None:
    inputs, outputs = read_golden(engine.path)
    if set(outputs) != set(engine.output_names):
        raise InputError(
            f"{engine.path}: the golden samples hold outputs {', '.join(outputs) or 'none'}, the engine "
            f"gives {', '.join(engine.output_names)}; it is not served"
        )
    # Stored as float32; what the engine takes may be a half type.
    got = engine.run({name: array.astype(engine.input_dtypes[name]) for name, array in inputs.items()})
    precision = str((engine.manifest.get("precision") or {}).get("asked"))
    tolerance = LIMITS.get(precision, LIMITS["fp32"]).end_to_end
    for name, want in outputs.items():
        if not _agrees(got[name], want, tolerance):
            raise InputError(
                f"{engine.path}: output '{name}' differs from the bundle's golden samples on this machine; "
                "it is not served"
            )


def _agrees(got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> bool:
    """Within atol + rtol * (largest magnitude of the reference output), which is float32 in every precision."""
    if got.shape != want.shape:
        return False
    wide = want.astype(np.float64)
    limit = tolerance.atol + tolerance.rtol * float(np.abs(wide).max(initial=0.0))
    error = np.abs(got.astype(np.float64) - wide)
    if error.size and tolerance.metric == "p99_abs":
        # In half precision single gates may flip and move single values; but not to NaN.
        return bool(np.isfinite(error).all()) and float(np.quantile(error, 0.99)) <= limit
    # A NaN anywhere makes this comparison false.
    return float(error.max(initial=0.0)) <= limit


def _parse_input(entry: Mapping[str, Any]) -> _Input:
    return _Input(
        name=str(entry["name"]),
        dtype=numpy_dtype(str(entry["dtype"])),
        minimum=tuple(entry["minimum"]),
        maximum=tuple(entry["maximum"]),
        multiple_of={int(axis): int(m) for axis, m in entry.get("multiple_of", {}).items()},
    )


def _check_array(array: np.ndarray, spec: _Input) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(f"input '{spec.name}' must be a numpy array, not {type(array).__name__}")
    if array.dtype != spec.dtype:
        raise InputError(f"input '{spec.name}' must be {spec.dtype}, not {array.dtype}; convert it")
    if array.ndim != len(spec.minimum):
        raise InputError(f"input '{spec.name}' has {array.ndim} axes; the engine takes {len(spec.minimum)}")
    for axis, size in enumerate(array.shape):
        lo, hi = spec.minimum[axis], spec.maximum[axis]
        if not lo <= size <= hi:
            allowed = str(lo) if lo == hi else f"{lo} to {hi}"
            raise InputError(f"input '{spec.name}' has {size} on axis {axis}; the engine takes {allowed}")
        if size % spec.multiple_of.get(axis, 1):
            raise InputError(
                f"input '{spec.name}' has {size} on axis {axis}; "
                f"it must be a multiple of {spec.multiple_of[axis]}"
            )
