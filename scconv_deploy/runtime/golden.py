"""A bundle's golden samples -> its engine gives them on this machine, or is not served."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scconv_deploy.errors import InputError
from scconv_deploy.metrics import judge
from scconv_deploy.tolerances import END_TO_END_TF32, LIMITS
from scconv_deploy.verdicts import Tolerance, Verdict

BORDERS = {"float16": "fp16", "bfloat16": "bf16"}
"""Types of outputs that round once more, whatever the precision inside."""
CHAOTIC = (
    ". Its outputs were not PyTorch's at the export either, since rounding flips gates in this network, and another "
    "machine may round otherwise: verify='hash' opens it unproved"
)


class Checked(Protocol):
    """What is checked: an open engine."""

    input_dtypes: dict[str, np.dtype[Any]]
    output_names: tuple[str, ...]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out."""


def read_golden(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The bundle's golden inputs and reference outputs by tensor name.

    Raises:
        InputError: there are no readable samples.
    """
    return _stored(path, "inputs."), _stored(path, "outputs.")


def read_own(path: Path) -> dict[str, np.ndarray]:
    """The artifact's own outputs at the export, by name, one run per index of the first axis: there only where one
    of them missed the reference's.

    Raises:
        InputError: there are no readable samples.
    """
    return _stored(path, "artifact.")


def _stored(path: Path, prefix: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path / "samples.npz", allow_pickle=False) as data:
            return {key.removeprefix(prefix): data[key] for key in data.files if key.startswith(prefix)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} has no readable samples.npz: {error}") from error


def check_golden(path: Path, manifest: Mapping[str, Any], engine: Checked) -> None:
    """Run a bundle's own samples: the engine gives the reference's outputs, or those that the artifact gave at the
    export where they were not the reference's (the verdict then was AMBIGUOUS).

    Raises:
        InputError: the results differ, or the samples prove nothing.
    """
    inputs, outputs = read_golden(path)
    if set(outputs) != set(engine.output_names):
        raise InputError(
            f"{path}: the golden samples hold outputs {', '.join(outputs) or 'none'}, the engine "
            f"gives {', '.join(engine.output_names)}; it is not served"
        )
    if set(inputs) != set(engine.input_dtypes):
        raise InputError(
            f"{path}: the golden samples hold inputs {', '.join(inputs) or 'none'}, the engine "
            f"takes {', '.join(engine.input_dtypes)}; it is not served"
        )
    own = read_own(path)
    # Stored as float32; what the engine takes may be a half type.
    got = engine.run({name: array.astype(engine.input_dtypes[name]) for name, array in inputs.items()})
    if missing := [name for name in outputs if name not in got]:
        raise InputError(f"{path}: its artifact gives no output '{missing[0]}'; it is not served")
    for name, want in outputs.items():
        tolerance = _tolerance(manifest, name)
        if not any(_agrees(got[name], one, tolerance) for one in (want, *own.get(name, ()))):
            raise InputError(
                f"{path}: output '{name}' differs from the bundle's golden samples on this machine; "
                f"it is not served{CHAOTIC if own else ''}"
            )


def _tolerance(manifest: Mapping[str, Any], output: str) -> Tolerance:
    """The precision's limit, and one rounding to a 16-bit type at the border."""
    precision = str((manifest.get("precision") or {}).get("asked"))
    tolerance = LIMITS.get(precision, LIMITS["fp32"]).end_to_end
    if precision == "fp32" and (manifest.get("tensorrt") or {}).get("tf32"):
        tolerance = END_TO_END_TF32
    types = {str(o["name"]): str(o.get("dtype")) for o in manifest["outputs"]}
    border = BORDERS.get(types.get(output, ""))
    return tolerance if border is None else replace(tolerance, rtol=tolerance.rtol + LIMITS[border].unit)


def _agrees(got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> bool:
    """As a verification judges: by the tolerance's own statistic, and never where a value is not finite."""
    return judge("golden samples", "output", want, got, tolerance).verdict is Verdict.PASS
