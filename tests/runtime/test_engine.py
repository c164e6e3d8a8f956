"""An engine says in words what it refuses, opens nothing that was altered, and needs only numpy + ORT."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.engine import Engine, open_bundle
from scconv_deploy.runtime.golden import read_golden
from tests.runtime.bundles import read, write_bundle, write_manifest, write_samples


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape or (1, 3, 8, 8)).astype(np.float32)


def test_a_good_bundle_runs(bundle: Path) -> None:
    x = image(2, 3, 12, 8)
    with open_bundle(bundle, threads=1, verify="golden") as engine:
        results = engine.run({"x": x})
        y, z = engine(x)
    np.testing.assert_array_equal(y, 2 * x)
    np.testing.assert_allclose(z, x.mean((2, 3)), atol=1e-6)
    np.testing.assert_array_equal(results["y"], y)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"X": image()}, r"no input is called 'X' \(the engine takes x\)"),
        ({"x": image(), "mask": image()}, "no input is called 'mask'"),
        ({}, "input 'x' is missing"),
        ({"x": [[1.0]]}, "must be a numpy array, not list"),
        ({"x": image().astype(np.float64)}, "must be float32, not float64; convert it"),
        ({"x": image().astype(np.int32)}, "must be float32, not int32"),
        ({"x": image(3, 8, 8)}, "has 3 axes; the engine takes 4"),
        ({"x": image(1, 1, 8, 8)}, "has 1 on axis 1; the engine takes 3"),
        ({"x": image(5, 3, 8, 8)}, "has 5 on axis 0; the engine takes 1 to 4"),
        ({"x": image(0, 3, 8, 8)}, "has 0 on axis 0"),
        ({"x": image(1, 3, 10, 8)}, "has 10 on axis 2; it must be a multiple of 4"),
        ({"x": image(1, 3, 8, 36)}, "has 36 on axis 3; the engine takes 8 to 32"),
    ],
)
def test_refusals_are_sentences(inputs: dict[str, np.ndarray], message: str, bundle: Path) -> None:
    with open_bundle(bundle, threads=1) as engine, pytest.raises(InputError, match=message):
        engine.run(inputs)


def test_the_number_of_positional_inputs(bundle: Path) -> None:
    with (
        open_bundle(bundle, threads=1) as engine,
        pytest.raises(InputError, match=r"takes 1 inputs \(x\), 2"),
    ):
        engine(image(), image())


def test_memory_layout_does_not_matter(bundle: Path) -> None:
    wide = image(1, 3, 16, 16)
    with open_bundle(bundle, threads=1) as engine:
        y, _ = engine(wide[:, :, ::2, ::2])
        np.testing.assert_array_equal(y, 2 * wide[:, :, ::2, ::2])


def test_a_closed_engine_says_so(bundle: Path) -> None:
    engine = open_bundle(bundle, threads=1)
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="is closed"):
        engine.run({"x": image()})


def test_threads_get_the_same_results(bundle: Path) -> None:
    inputs = [image(1 + i % 4, 3, 8 + 4 * (i % 3), 8) + i for i in range(24)]
    results: dict[int, np.ndarray] = {}
    with open_bundle(bundle, threads=1) as engine:

        def work(first: int) -> None:
            for i in range(first, len(inputs), 2):
                results[i] = engine.run({"x": inputs[i]})["y"]

        workers = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(results) == len(inputs)
    for i, x in enumerate(inputs):
        np.testing.assert_array_equal(results[i], 2 * x)


# Tampering.


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["model.onnx", "samples.npz"])
@pytest.mark.parametrize("verify", ["hash", "golden"])
def test_a_changed_file_is_refused(name: str, verify: str, bundle: Path) -> None:
    flip_a_byte(bundle / name)
    with pytest.raises(InputError, match=rf"{name} was altered or damaged"):
        open_bundle(bundle, verify=verify)


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "samples.npz").unlink()
    with pytest.raises(InputError, match=r"lacks samples\.npz"):
        open_bundle(bundle)


@pytest.mark.parametrize("change", [0.5, float("nan")])
def test_golden_sees_samples_altered_with_their_hashes(change: float, bundle: Path) -> None:
    write_samples(bundle, change)
    write_manifest(bundle, read(bundle))
    open_bundle(bundle, verify="hash").close()
    with pytest.raises(InputError, match="'y' differs from the bundle's golden samples"):
        open_bundle(bundle, verify="golden")


def taken_out(arrays: dict[str, np.ndarray]) -> None:
    del arrays["outputs.y"]


def all_taken_out(arrays: dict[str, np.ndarray]) -> None:
    del arrays["outputs.y"], arrays["outputs.z"]


def other_shape(arrays: dict[str, np.ndarray]) -> None:
    arrays["outputs.z"] = arrays["outputs.z"][:1]


def surplus(arrays: dict[str, np.ndarray]) -> None:
    arrays["outputs.w"] = arrays["outputs.z"]


def no_inputs(arrays: dict[str, np.ndarray]) -> None:
    del arrays["inputs.x"]


@pytest.mark.parametrize("forge", [taken_out, all_taken_out, other_shape, surplus, no_inputs])
def test_golden_samples_that_prove_nothing(
    forge: Callable[[dict[str, np.ndarray]], None], bundle: Path
) -> None:
    arrays = dict(np.load(bundle / "samples.npz"))
    forge(arrays)
    np.savez(bundle / "samples.npz", **arrays)
    write_manifest(bundle, read(bundle))
    with pytest.raises(InputError):
        open_bundle(bundle, verify="golden")


def test_damaged_samples(bundle: Path) -> None:
    (bundle / "samples.npz").write_bytes(b"PK\x03\x04 no zip at all")
    with pytest.raises(InputError, match=r"no readable samples\.npz"):
        read_golden(bundle)


@pytest.mark.parametrize("key", ["artifact", "runtime", "files", "inputs", "outputs", "schema_version"])
def test_manifests_that_lack_something(key: str, bundle: Path) -> None:
    manifest = read(bundle)
    del manifest[key]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="damaged"):
        open_bundle(bundle)


@pytest.mark.parametrize("artifact", ["../model.onnx", "/tmp/model.onnx", "sub/model.onnx"])
@pytest.mark.parametrize("verify", ["hash", "none"])
def test_the_artifact_lies_in_the_bundle(artifact: str, verify: str, bundle: Path) -> None:
    manifest = {**read(bundle), "artifact": artifact}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="not in the bundle"):
        open_bundle(bundle, verify=verify)


def test_an_artifact_without_a_hash(bundle: Path) -> None:
    manifest = read(bundle)
    del manifest["files"]["model.onnx"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="does not list its own artifact"):
        open_bundle(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 99}'])
def test_manifests_that_are_none(text: str, bundle: Path) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"damaged|schema 99"):
        open_bundle(bundle)


def test_other_refusals(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a bundle"):
        open_bundle(tmp_path)
    with pytest.raises(InputError, match="verify='all' is unknown"):
        open_bundle(bundle, verify="all")
    with pytest.raises(CapabilityError, match="has no NoSuchProvider"):
        open_bundle(bundle, provider="NoSuchProvider")
    manifest = {**read(bundle), "runtime": "abacus"}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="cannot run 'abacus' artifacts"):
        open_bundle(bundle)


# What it needs.


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, check=False
    )


def test_importing_the_engine_imports_neither_torch_nor_onnx() -> None:
    done = run_python(
        """
        import sys, scconv_deploy.runtime.engine
        heavy = {"torch", "onnx", "onnxscript", "onnxsim", "onnx_ir", "onnxruntime", "exporters", "rich"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_serving_needs_only_numpy_and_onnxruntime(bundle: Path) -> None:
    """Everything else of the install is hidden from the import system."""
    done = run_python(
        """
        import sys
        HIDDEN = {"torch", "onnx", "onnxscript", "onnxsim", "onnx_ir", "exporters", "rich", "typer", "click",
                  "jinja2", "psutil", "filelock", "safetensors", "sklearn", "scipy", "sympy", "ml_dtypes",
                  "tensorrt", "tensorrt_rtx", "openvino", "cuda", "platformdirs"}
        class Hide:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in HIDDEN:
                    raise ModuleNotFoundError(f"hidden: {name}", name=name)
        sys.meta_path.insert(0, Hide())
        try:
            import torch
        except ModuleNotFoundError:
            pass
        else:
            raise SystemExit("torch was not hidden")
        import scconv_deploy
        from scconv_deploy.runtime.golden import read_golden
        with scconv_deploy.open(sys.argv[1], threads=1, verify="golden", fallback="onnx") as engine:
            engine.warm_up()
            assert engine.info.runtime == "onnxruntime"
            print({k: v.shape for k, v in engine.run(read_golden(engine.path)[0]).items()})
        """,
        str(bundle),
    )
    assert done.stdout.strip() == "{'y': (2, 3, 8, 8), 'z': (2, 3)}", done.stderr


def test_engine_is_what_open_returns(bundle: Path) -> None:
    with open_bundle(bundle) as engine:
        assert isinstance(engine, Engine)
        assert engine.input_names == ("x",)
        assert engine.output_names == ("y", "z")
