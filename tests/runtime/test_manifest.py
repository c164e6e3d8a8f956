"""A manifest from anyone: whatever stands in it, it is refused in words that name the entry, or its bundle runs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scconv_deploy.errors import InputError, ScconvDeployError
from scconv_deploy.runtime.engine import open_bundle
from scconv_deploy.runtime.manifest import LARGEST, check_hashes, read_manifest
from tests.runtime.bundles import write_bundle, write_manifest

X = np.zeros((1, 3, 8, 8), np.float32)
JUNK: list[Any] = [None, 7, -1, "x", [], {}, [7], {"a": 1}, True, 1e308, "missing"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "b")


@pytest.fixture
def manifest(bundle: Path) -> Iterator[dict[str, Any]]:
    """The manifest as it is; tests write others in its place."""
    text = (bundle / "manifest.json").read_text()
    yield json.loads(text)
    (bundle / "manifest.json").write_text(text)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("inputs", [], "no usable 'inputs'"),
        ("inputs", [7], r"no usable 'inputs\[0\]'"),
        ("inputs.0.name", None, r"no usable 'inputs\[0\]\.name'"),
        ("inputs.0.dtype", "float33", r"no usable 'inputs\[0\]\.dtype'"),
        ("inputs.0.dtype", "object", r"no usable 'inputs\[0\]\.dtype'"),
        ("inputs.0.minimum", [1, 3, 8], r"no usable 'inputs\[0\]\.maximum'"),
        ("inputs.0.maximum", [4, 3, 8, "8"], r"no usable 'inputs\[0\]\.maximum'"),
        ("inputs.0.multiple_of", {"2": 0}, r"no usable 'inputs\[0\]\.multiple_of'"),
        ("inputs.0.profiles", [{"minimum": [1]}], r"no usable 'inputs\[0\]\.profiles\[0\]\.maximum'"),
        ("outputs.0", "y", r"no usable 'outputs\[0\]'"),
        ("files", {"model.onnx": {}}, r"no usable SHA-256 of 'model\.onnx'"),
        ("precision", "fp32", "no usable 'precision'"),
        ("artifact", "../model.onnx", r"its artifact '\.\./model\.onnx' is not in the bundle"),
        ("schema_version", 2, "manifest schema 2; this version reads schema 1"),
    ],
)
def test_the_entry_is_named(
    place: str, value: object, message: str, bundle: Path, manifest: dict[str, Any]
) -> None:
    _put(manifest, place.split("."), value)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=message):
        read_manifest(bundle)


def test_a_good_manifest_is_read_as_it_is(bundle: Path, manifest: dict[str, Any]) -> None:
    assert read_manifest(bundle) == manifest
    manifest |= {"precision": None, "unknown": [1]}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert read_manifest(bundle) == manifest


def test_whatever_stands_in_it_no_other_error_comes_out(bundle: Path, manifest: dict[str, Any]) -> None:
    ran = refused = 0
    for place in _places(manifest):
        for value in JUNK:
            changed = copy.deepcopy(manifest)
            _put(changed, place, value)
            (bundle / "manifest.json").write_text(json.dumps(changed))
            try:
                with open_bundle(bundle, threads=1, verify="golden") as engine:
                    engine.run({"x": X})
                ran += 1
            except ScconvDeployError:
                refused += 1
    assert ran > 10
    assert refused > 100


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "\x00", '{"schema_version": 1', "7", "{}", " " * 10 + "]"], ids=lambda t: t[:9]
)
def test_text_that_is_no_manifest(text: str, bundle: Path, manifest: dict[str, Any]) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        read_manifest(bundle)


def test_a_gigantic_file_is_not_read(bundle: Path, manifest: dict[str, Any]) -> None:
    with (bundle / "manifest.json").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(InputError, match=f"it has {LARGEST + 1} bytes"):
        read_manifest(bundle)


def test_files_outside_the_bundle_are_not_looked_at(bundle: Path, manifest: dict[str, Any]) -> None:
    (bundle.parent / "other").write_text("secret")
    manifest["files"]["../other"] = manifest["files"]["model.onnx"]
    with pytest.raises(InputError, match=r"lacks \.\./other"):
        check_hashes(bundle, manifest)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_another_models_samples_prove_nothing(side: str, bundle: Path, manifest: dict[str, Any]) -> None:
    stored = (bundle / "samples.npz").read_bytes()
    with np.load(bundle / "samples.npz") as data:
        arrays = {k.replace(f"{side}.", f"{side}.other_"): data[k] for k in data.files}
    try:
        np.savez(bundle / "samples.npz", **arrays)
        write_manifest(bundle, manifest)
        with pytest.raises(InputError, match=f"golden samples hold {side} other_"):
            open_bundle(bundle, verify="golden")
    finally:
        (bundle / "samples.npz").write_bytes(stored)


def _places(value: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    )
    for key, entry in inner:
        yield (*above, str(key))
        yield from _places(entry, (*above, str(key)))


def _put(manifest: Any, place: list[str] | tuple[str, ...], value: object) -> None:
    *above, last = place
    for key in above:
        manifest = manifest[int(key)] if isinstance(manifest, list) else manifest[key]
    key: Any = int(last) if isinstance(manifest, list) else last
    if value == "missing":
        del manifest[key]
    else:
        manifest[key] = value
