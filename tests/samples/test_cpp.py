"""The C++ sample for ONNX Runtime: compiled here, run on real bundles and on broken ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

from scconv_deploy.config import ExportConfig, Form
from scconv_deploy.contracts import Silence
from scconv_deploy.kernels import loader
from scconv_deploy.pipeline import run_export
from tests.runtime.bundles import read, write_manifest
from tests.samples import cpp_packages

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "cpp" / "onnxruntime"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cpp_packages.require_compiler()
    folder = tmp_path_factory.mktemp("cpp")
    headers = cpp_packages.debian(folder / "debian", "libonnxruntime-dev", "nlohmann-json3-dev")
    library = cpp_packages.onnxruntime_library(folder / "lib")
    settings = (f"-DONNXRUNTIME_ROOT={headers}", f"-DONNXRUNTIME_LIBRARY={library}")
    return cpp_packages.built(SAMPLE, folder, *settings, f"-DCMAKE_PREFIX_PATH={headers}")


@pytest.fixture(scope="module", params=Form)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("bundle"), form=request.param)


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("bundle"), form=Form.PLUGIN)


@pytest.fixture
def copy(fused: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fused, tmp_path / "copy"))


def exported(folder: Path, form: Form) -> Path:
    model = ROOT / "samples" / "digits" / "model.pt"
    return run_export(model, ExportConfig("onnx", out=folder / "digits", form=form), Silence()).path


def ran(program: Path, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key != "SCCONV_OPERATORS"}
    return cpp_packages.run([program, *words], **{**kept, **environment})


def refused(done: subprocess.CompletedProcess[str], words: str, code: int = 2) -> bool:
    """One sentence, no other line, and the exit code."""
    lines = done.stderr.splitlines()
    return (
        done.returncode == code and len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]
    )


def rewrite_golden(
    folder: Path, change: Callable[[dict[str, np.ndarray]], None], packed: bool = True
) -> None:
    with np.load(folder / "samples.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    change(arrays)
    (np.savez_compressed if packed else np.savez)(folder / "samples.npz", **arrays)
    write_manifest(folder, read(folder))


def operators_run(prefix: Path) -> set[str]:
    """What ONNX Runtime's profile says it ran."""
    (file,) = prefix.parent.glob(f"{prefix.name}_*.json")
    events = json.loads(file.read_text())
    return {str(e["args"]["op_name"]) for e in events if "op_name" in e.get("args", {})}


def test_it_reproduces_the_golden_outputs(program: Path, bundle: Path) -> None:
    done = ran(program, bundle)
    assert done.returncode == 0, done.stderr
    assert "image float32 [batch, 1, 8, 8]" in done.stdout
    assert done.stdout.count("PASS") == 2
    assert "batch of 3" in done.stdout


@pytest.mark.skipif(loader.library() is None, reason="the operator library is not built here")
@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_operator_library_replaces_the_functions(
    how: str, program: Path, fused: Path, tmp_path: Path
) -> None:
    library = str(loader.library())
    named: tuple[str, ...] = ("--operators", library) if how == "option" else ()
    environment = {} if named else {"SCCONV_OPERATORS": library}
    done = ran(program, fused, *named, "--threads", "1", "--profile", tmp_path / "with", **environment)
    assert done.returncode == 0, done.stderr
    plain = ran(program, fused, "--profile", tmp_path / "without")
    assert plain.returncode == 0, plain.stderr
    assert any(name.startswith("SRU") for name in operators_run(tmp_path / "with"))
    assert not any(name.startswith("SRU") for name in operators_run(tmp_path / "without"))


@pytest.mark.parametrize("change", [1.0, np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 3])
def test_another_golden_output_is_a_difference(row: int, change: float, program: Path, copy: Path) -> None:
    def add(arrays: dict[str, np.ndarray]) -> None:
        arrays["outputs.output"][row, 3] += np.float32(change)

    rewrite_golden(copy, add)
    done = ran(program, copy)
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.count("FAIL") == (2 if row < 3 else 1)


def test_samples_may_be_stored_uncompressed(program: Path, copy: Path) -> None:
    rewrite_golden(copy, lambda arrays: None, packed=False)
    assert ran(program, copy).returncode == 0


def test_a_truncated_model_is_refused(program: Path, copy: Path) -> None:
    model = copy / "model.onnx"
    model.write_bytes(model.read_bytes()[:5000])
    assert refused(ran(program, copy), "was altered or damaged since the export")
    write_manifest(copy, read(copy))
    assert refused(ran(program, copy), "ONNX Runtime cannot load")


@pytest.mark.parametrize(
    ("keep", "words"),
    [(slice(0, 300), "no zip directory"), (slice(40, None), "is damaged"), (slice(0, 0), "no zip directory")],
)
def test_cut_samples_are_refused(keep: slice, words: str, program: Path, copy: Path) -> None:
    samples = copy / "samples.npz"
    samples.write_bytes(samples.read_bytes()[keep])
    write_manifest(copy, read(copy))
    assert refused(ran(program, copy), words)


def test_no_flipped_bit_of_the_samples_goes_unseen(program: Path, copy: Path) -> None:
    samples = copy / "samples.npz"
    whole = samples.read_bytes()
    with zipfile.ZipFile(samples) as archive:
        first = archive.infolist()[0]
    begin = first.header_offset + 30 + len(first.filename) + 20  # NumPy leaves room for long sizes
    for place in range(begin, begin + first.compress_size, 97):
        samples.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        write_manifest(copy, read(copy))
        done = ran(program, copy)
        assert done.returncode == 2, place
        assert "error: " in done.stderr


def test_an_array_in_fortran_order_is_refused(program: Path, copy: Path) -> None:
    def turn(arrays: dict[str, np.ndarray]) -> None:
        arrays["outputs.output"] = np.asfortranarray(arrays["outputs.output"])

    rewrite_golden(copy, turn)
    assert refused(ran(program, copy), "not in C order")


def end(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["outputs"][0].update(changes)


MANIFESTS: Mapping[str, tuple[Callable[[dict[str, Any]], None], str, int]] = {
    "schema": (lambda m: m.update(schema_version=2), "has manifest schema 2", 2),
    "key": (lambda m: m.pop("inputs"), "is damaged", 2),
    "runtime": (lambda m: m.update(runtime="tensorrt"), "is a bundle for tensorrt", 2),
    "dtype": (end(dtype="float64"), "is not float64", 1),
    "unknown": (end(dtype="complex64"), "does not read values of type 'complex64'", 2),
    "name": (end(name="other"), "samples.npz lacks outputs.other", 2),
    "axis": (lambda m: m["inputs"][0].update(multiple_of={"x": 2}), "is damaged", 2),
    "shape": (lambda m: m["inputs"][0].update(maximum=[2, 1, 8, 8]), "does not allow", 2),
    "metric": (lambda m: m["verification"]["tolerance"].update(metric="mood"), "judges by 'mood'", 2),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_does_not_fit_is_refused(case: str, program: Path, copy: Path) -> None:
    change, words, code = MANIFESTS[case]
    manifest = read(copy)
    change(manifest)
    write_manifest(copy, manifest)
    assert refused(ran(program, copy), words, code)


def test_files_outside_the_bundle_are_not_read(program: Path, copy: Path) -> None:
    manifest = read(copy)
    manifest["files"]["../copy/model.onnx"] = manifest["files"]["model.onnx"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert refused(ran(program, copy), "outside the bundle")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the bundle's folder"),
        (("{bundle}", "other"), "name one bundle"),
        (("{bundle}", "--operators"), "--operators needs a value"),
        (("{bundle}", "--threads", "many"), "takes a number, not 'many'"),
        (("{bundle}", "--fast"), "there is no option --fast"),
        (("{bundle}", "--operators", "nowhere.so"), "the operator library nowhere.so cannot be used"),
        (("nowhere",), "nowhere is not a bundle"),
    ],
)
def test_a_wrong_command_line_is_refused(
    words: tuple[str, ...], said: str, program: Path, fused: Path
) -> None:
    assert refused(ran(program, *(word.format(bundle=fused) for word in words)), said)


def test_a_library_older_than_the_headers_is_named(program: Path, fused: Path, tmp_path: Path) -> None:
    source = tmp_path / "old.cpp"
    source.write_text(
        "struct Base { const void* (*api)(unsigned); const char* (*version)(); };\n"
        'static const Base base = {[](unsigned) -> const void* { return nullptr; }, [] { return "1.2.3"; }};\n'
        'extern "C" const Base* OrtGetApiBase() { return &base; }\n'
    )
    library = tmp_path / "libonnxruntime.so.1"
    versions = tmp_path / "versions"
    versions.write_text(f"VERS_{onnxruntime.__version__} {{ global: *; }};")
    linked = f"-Wl,-soname,libonnxruntime.so.1,--version-script,{versions}"
    made = cpp_packages.run(["c++", "-shared", "-fPIC", linked, source, "-o", library])
    assert made.returncode == 0, made.stderr
    done = ran(program, fused, LD_LIBRARY_PATH=str(tmp_path))
    assert refused(done, "is 1.2.3, older than the headers", code=3)


HALVES = [
    1 / 3,
    1 + 2**-11,
    1 + 3 * 2**-11,
    65504,
    2**-14,
    2**-24,
    3 * 2**-25,
    5e-8,
    -0.1,
    1e-9,
    0,
    2049,
    1e4,
]


@pytest.mark.parametrize(
    ("name", "kind", "onnx_kind"),
    [
        ("float16", np.float16, onnx.TensorProto.FLOAT16),
        ("bfloat16", ml_dtypes.bfloat16, onnx.TensorProto.BFLOAT16),
    ],
)
def test_half_precision_is_rounded_as_numpy_does(
    name: str, kind: type, onnx_kind: int, program: Path, tmp_path: Path
) -> None:
    ends = [onnx.helper.make_tensor_value_info(n, onnx_kind, ["batch", 1]) for n in ("x", "y")]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "same", [ends[0]], [ends[1]])
    opsets = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    random = np.random.default_rng(0).standard_normal(500) * 10.0 ** np.arange(-10, 0).repeat(50)
    x = np.array([*HALVES, *random], np.float32)[:, None]
    want = x.astype(kind).astype(np.float32)
    np.savez(tmp_path / "samples.npz", allow_pickle=False, **{"inputs.x": x, "outputs.y": want})
    entry = {"dtype": name, "shape": ["batch", 1]}
    tolerance = {"metric": "max_abs", "atol": 0.0, "rtol": 0.0}
    manifest = {
        "schema_version": 1,
        "artifact": "model.onnx",
        "runtime": "onnxruntime",
        "form": "standard",
        "precision": {"asked": "fp32"},
        "verification": {"tolerance": tolerance},
        "inputs": [{"name": "x", **entry}],
        "outputs": [{"name": "y", **entry}],
    }
    write_manifest(tmp_path, manifest)
    done = ran(program, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # The twin: one value rounded the other way is seen.
    want[0] = np.nextafter(x[0].astype(kind), kind(1)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", allow_pickle=False, **{"inputs.x": x, "outputs.y": want})
    write_manifest(tmp_path, manifest)
    assert ran(program, tmp_path).returncode == 1
