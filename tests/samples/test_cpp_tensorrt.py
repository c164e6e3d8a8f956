"""The C++ sample for TensorRT: compiled against the headers of TensorRT 10.14 and CUDA 13.5, run on stand-ins.

Unproved on a GPU. What is proved here is that it compiles, that its calls come in an order, with shapes and with
memory that a stand-in of the same interfaces accepts, and what it says where one of them fails.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scconv_deploy.runtime.nvidia_driver import NoGpu, probe
from tests.runtime.bundles import read, write_bundle, write_manifest, write_samples
from tests.samples import cpp_packages
from tests.samples.tensorrt_stand_in import Toolkit

SAMPLE = Path(__file__).parents[2] / "samples" / "cpp" / "tensorrt"
FILES = ("model.engine", "samples.npz")
LEAKED = 99

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Toolkit:
    cpp_packages.require_compiler()
    return Toolkit(tmp_path_factory.mktemp("toolkit"))


@pytest.fixture(scope="module")
def json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cpp_packages.debian(tmp_path_factory.mktemp("json") / "debian", "nlohmann-json3-dev")


@pytest.fixture(scope="module")
def program(toolkit: Toolkit, json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cpp")
    return cpp_packages.built(SAMPLE, folder, *toolkit.settings(), f"-DCMAKE_PREFIX_PATH={json}")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """``y = 2 x``, ``z`` the mean; its golden samples are a batch of two."""
    folder = write_bundle(tmp_path / "bundle")
    (folder / "model.onnx").unlink()
    plan(folder, "TWICE 1 4")
    manifest = read(folder)
    manifest.update(artifact="model.engine", runtime="tensorrt", form="plugin", precision={"asked": "fp32"})
    manifest["outputs"] = [
        {"name": "y", "dtype": "float32", "shape": ["batch", 3, "height", "width"]},
        {"name": "z", "dtype": "float32", "shape": ["batch", 3]},
    ]
    write_manifest(folder, manifest, FILES)
    return folder


def plan(folder: Path, words: str) -> None:
    (folder / "model.engine").write_text(words)
    write_manifest(folder, read(folder), FILES)


def largest(folder: Path, batch: int) -> None:
    manifest = read(folder)
    manifest["inputs"][0]["maximum"][0] = batch
    write_manifest(folder, manifest, FILES)


def ran(program: Path, bundle: Path, fails: str = "") -> subprocess.CompletedProcess[str]:
    return cpp_packages.run([program, bundle], STAND_IN_FAILS=fails)


def refused(done: subprocess.CompletedProcess[str], words: str, code: int) -> bool:
    lines = done.stderr.splitlines()
    return (
        done.returncode == code and len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]
    )


def test_it_reproduces_the_golden_outputs(program: Path, bundle: Path) -> None:
    done = ran(program, bundle)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASS") == 4
    assert "3x3x8x8" in done.stdout


def test_a_batch_outside_the_profiles_is_not_tried(program: Path, bundle: Path) -> None:
    largest(bundle, 2)
    plan(bundle, "TWICE 1 2")
    done = ran(program, bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PASS") == 2


@pytest.mark.parametrize("profiles", ["1 2 3 4", "3 4 1 2"])
def test_each_shape_gets_the_profile_that_takes_it(profiles: str, program: Path, bundle: Path) -> None:
    plan(bundle, f"TWICE {profiles}")
    done = ran(program, bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PASS") == 4


def test_shapes_that_no_profile_takes_are_refused(program: Path, bundle: Path) -> None:
    plan(bundle, "TWICE 5 8")
    assert refused(ran(program, bundle), "no profile of", 2)


@pytest.mark.parametrize("change", [1e-2, float("nan")])
def test_another_golden_output_is_a_difference(change: float, program: Path, bundle: Path) -> None:
    write_samples(bundle, change)
    write_manifest(bundle, read(bundle), FILES)
    done = ran(program, bundle)
    assert done.returncode == 1, done.stderr
    assert "FAIL" in done.stdout


def test_a_plan_of_another_version_is_named_with_the_reason(program: Path, bundle: Path) -> None:
    plan(bundle, "OTHER 1 4")
    done = ran(program, bundle)
    assert refused(done, "cannot load", 3)
    assert done.stderr.strip().endswith("on this GPU: this plan was made by a stranger")


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("count", "there is no NVIDIA GPU here"),
        ("driver", "no NVIDIA GPU can be used here: some CUDA error"),
        ("runtime", "TensorRT cannot be started here"),
        ("context", "does not hold an execution context"),
        ("profile", "does not change to profile 0"),
        ("malloc", "an error in allocating 1536 bytes: out of memory"),
        ("copy", "an error in copying to the device"),
        ("enqueue", "the plan could not be started"),
        ("wait", "an error in waiting for the stream"),
    ],
)
def test_every_failure_is_one_sentence_and_leaves_nothing_behind(
    fails: str, words: str, program: Path, bundle: Path
) -> None:
    assert refused(ran(program, bundle, fails), words, 3)


def test_tensors_that_are_not_the_manifests_are_refused(program: Path, bundle: Path) -> None:
    manifest = read(bundle)
    manifest["outputs"][1]["dtype"] = "int64"
    write_manifest(bundle, manifest, FILES)
    assert refused(ran(program, bundle), "no such tensor as its manifest's z int64", 2)


def test_a_bundle_of_another_runtime_is_refused(program: Path, bundle: Path) -> None:
    manifest = read(bundle)
    manifest["runtime"] = "tensorrt-rtx"
    write_manifest(bundle, manifest, FILES)
    assert refused(ran(program, bundle), "is a bundle for tensorrt-rtx, this program for tensorrt", 2)


def test_the_real_cuda_runtime_says_that_there_is_no_gpu(
    program: Path, toolkit: Toolkit, bundle: Path, tmp_path: Path
) -> None:
    if not isinstance(probe(), NoGpu):
        pytest.skip("there is a GPU here")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "libcudart.so").symlink_to(toolkit.cudart / "libcudart.so.13")
    done = cpp_packages.run([program, bundle], LD_LIBRARY_PATH=str(tmp_path / "real"))
    assert refused(done, "no NVIDIA GPU can be used here: ", 3)


@pytest.mark.parametrize(
    ("before", "after", "profiles", "code"),
    [
        ("  stream_.wait();\n  return answers;", "  return answers;", "1 2", 1),
        ("static_cast<void>(cudaFree(address_));", "", "1 4", LEAKED),
        ("placed(name, array.bytes.size())", "placed(name, array.bytes.size() / 2)", "1 4", LEAKED),
        ("setOptimizationProfileAsync(profile,", "setOptimizationProfileAsync(0 * profile,", "3 4 1 2", 2),
    ],
    ids=["wait", "free", "size", "profile"],
)
def test_the_stand_ins_see_what_is_wrong(
    before: str,
    after: str,
    profiles: str,
    code: int,
    toolkit: Toolkit,
    json: Path,
    bundle: Path,
    tmp_path: Path,
) -> None:
    """The twins: without them, stand-ins that accept everything would prove nothing."""
    samples = tmp_path / "cpp"
    shutil.copytree(SAMPLE.parent, samples)
    (source,) = (f for f in (samples / "tensorrt").glob("*.cpp") if before in f.read_text())
    source.write_text(source.read_text().replace(before, after))
    broken = cpp_packages.built(
        samples / "tensorrt", tmp_path, *toolkit.settings(), f"-DCMAKE_PREFIX_PATH={json}"
    )
    largest(bundle, int(profiles.split()[1]))
    plan(bundle, f"TWICE {profiles}")
    assert ran(broken, bundle).returncode == code


def test_compiled_for_rtx_it_takes_plans_of_rtx_without_plugins(
    toolkit: Toolkit, json: Path, bundle: Path, tmp_path: Path
) -> None:
    """The branch for TensorRT for RTX, by its macro; its own headers cannot be had from a registry."""
    flags = f"-DCMAKE_CXX_FLAGS={cpp_packages.FLAGS} -DTRT_MAJOR_RTX=1"
    program = cpp_packages.built(SAMPLE, tmp_path, *toolkit.settings(), f"-DCMAKE_PREFIX_PATH={json}", flags)
    assert refused(ran(program, bundle), "is a bundle for tensorrt, this program for tensorrt-rtx", 2)
    manifest = read(bundle)
    manifest["runtime"] = "tensorrt-rtx"
    write_manifest(bundle, manifest, FILES)
    assert refused(ran(program, bundle), "needs plugins that this program does not have", 3)
    manifest["form"] = "standard"
    write_manifest(bundle, manifest, FILES)
    assert ran(program, bundle).returncode == 0


def test_what_is_missing_is_said_when_it_is_configured(tmp_path: Path) -> None:
    cpp_packages.require_compiler()
    nothing = [f"-D{name}_ROOT={tmp_path}" for name in ("TENSORRT", "CUDA")]
    done = cpp_packages.run([cpp_packages.cmake(tmp_path), "-S", SAMPLE, "-B", tmp_path / "build", *nothing])
    if done.returncode == 0:
        pytest.skip("TensorRT's headers and CUDA are installed here")
    assert "was not found; give -DTENSORRT_ROOT=FOLDER" in " ".join(done.stderr.split())
