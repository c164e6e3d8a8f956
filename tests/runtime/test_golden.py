"""A bundle's own samples: the reference's outputs, or those of the artifact where they were no reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.runtime.engine import open_bundle
from scconv_deploy.runtime.golden import check_golden, read_own
from tests.runtime.bundles import read, write_bundle, write_manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def forge(bundle: Path, **changes: np.ndarray) -> None:
    """Other samples, with their hashes."""
    arrays = {**np.load(bundle / "samples.npz"), **{k.replace("_", "."): v for k, v in changes.items()}}
    np.savez(bundle / "samples.npz", **arrays)
    write_manifest(bundle, read(bundle))


def test_an_ambiguous_artifact_is_served_where_it_gives_its_own_outputs_again(bundle: Path) -> None:
    own = np.load(bundle / "samples.npz")["outputs.y"]
    forge(bundle, outputs_y=own + np.float32(0.5))
    assert read_own(bundle) == {}
    with pytest.raises(InputError, match=r"'y' differs from .* it is not served$"):
        open_bundle(bundle, verify="golden")
    # Two runs, as it was judged and as it was served; either will do.
    for runs in ([own], [own + 1, own], [own, own + 1]):
        forge(bundle, artifact_y=np.stack(runs))
        open_bundle(bundle, verify="golden").close()


@pytest.mark.parametrize("change", [0.5, float("nan")])
def test_an_artifact_that_gives_neither_is_refused_with_what_to_do(change: float, bundle: Path) -> None:
    own = np.load(bundle / "samples.npz")["outputs.y"]
    forge(bundle, outputs_y=own + np.float32(1.5), artifact_y=(own + np.float32(change))[None])
    with pytest.raises(InputError, match=r"another machine may round otherwise: verify='hash' opens it"):
        open_bundle(bundle, verify="golden")


class Fixed:
    """An engine that gives always the same."""

    output_names: tuple[str, ...] = ("y",)

    def __init__(self, made: np.ndarray) -> None:
        self.input_dtypes: dict[str, np.dtype[Any]] = {"x": np.dtype(np.float32)}
        self._made = made

    def run(self, inputs: object) -> dict[str, np.ndarray]:
        return {"y": self._made}


def stored(folder: Path, want: np.ndarray) -> Path:
    arrays: dict[str, Any] = {"inputs.x": want, "outputs.y": want}
    np.savez(folder / "samples.npz", **arrays)
    return folder


@pytest.mark.parametrize(("mean", "served"), [(0.14, True), (0.16, False)])
def test_int8_is_judged_by_its_mean_error_as_a_verification_judges(
    mean: float, served: bool, tmp_path: Path
) -> None:
    want = np.ones((1, 100), np.float32)
    made = want.copy()
    made[0, :20] += np.float32(mean * 5)  # the largest error is five times the mean
    manifest = {"precision": {"asked": "int8"}, "outputs": [{"name": "y", "dtype": "float32"}]}
    if served:
        check_golden(stored(tmp_path, want), manifest, Fixed(made))
        return
    with pytest.raises(InputError, match="differs"):
        check_golden(stored(tmp_path, want), manifest, Fixed(made))


def test_a_16_bit_border_rounds_once_more(tmp_path: Path) -> None:
    want = np.full((1, 10), 1.0, np.float32)
    off = want * np.float32(1 + 1e-3 + 3e-4)  # the limit of fp32 is 1e-3, one rounding to fp16 is 4.9e-4
    folder = stored(tmp_path, want)
    for kind, served in (("float16", True), ("float32", False)):
        manifest = {"precision": {"asked": "fp32"}, "outputs": [{"name": "y", "dtype": kind}]}
        if served:
            check_golden(folder, manifest, Fixed(off))
        else:
            with pytest.raises(InputError, match="differs"):
                check_golden(folder, manifest, Fixed(off))
