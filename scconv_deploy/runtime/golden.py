"""A bundle's golden samples -> its engine gives them on this machine, or is not served."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scconv_deploy.errors import InputError
from scconv_deploy.tolerances import END_TO_END_TF32, LIMITS
from scconv_deploy.verdicts import Tolerance


class Checked(Protocol):
    """What is checked: an open engine."""

    input_dtypes: dict[str, np.dtype[Any]]
    output_names: tuple[str, ...]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out."""


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


def check_golden(path: Path, manifest: Mapping[str, Any], engine: Checked) -> None:
    """Run a bundle's own samples.

    Raises:
        InputError: the results differ, or the samples prove nothing.
    """
    inputs, outputs = read_golden(path)
    if set(outputs) != set(engine.output_names):
        raise InputError(
            f"{path}: the golden samples hold outputs {', '.join(outputs) or 'none'}, the engine "
            f"gives {', '.join(engine.output_names)}; it is not served"
        )
    # Stored as float32; what the engine takes may be a half type.
    got = engine.run({name: array.astype(engine.input_dtypes[name]) for name, array in inputs.items()})
    precision = str((manifest.get("precision") or {}).get("asked"))
    tolerance = LIMITS.get(precision, LIMITS["fp32"]).end_to_end
    if precision == "fp32" and (manifest.get("tensorrt") or {}).get("tf32"):
        tolerance = END_TO_END_TF32
    for name, want in outputs.items():
        if not _agrees(got[name], want, tolerance):
            raise InputError(
                f"{path}: output '{name}' differs from the bundle's golden samples on this machine; "
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
