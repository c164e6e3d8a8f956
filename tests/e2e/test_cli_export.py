"""The command line over the real pipeline, as a subprocess: every exit code of the contract.

Two more targets exist for these tests alone, in a distribution of two small files on PYTHONPATH: one whose
artifact is deliberately wrong, and one whose library is not there. That they are found at all shows that a
new target is one file and one entry point.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.program import environment, scconv

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "samples" / "digits" / "model.pt"
PICKLED = ROOT / "samples" / "digits" / "pickled.pt"

TWIN = '''
import onnx
from exporters.onnx_model import OnnxExporter

class Doubled(OnnxExporter):
    """The ONNX exporter, but every output is doubled."""

    target = "doubled"

    def build(self, graph, config, folder, progress):
        built = super().build(graph, config, folder, progress)
        model = onnx.load(built.primary)
        for output in model.graph.output:
            for node in model.graph.node:
                node.output[:] = [n + "_" if n == output.name else n for n in node.output]
                node.input[:] = [n + "_" if n == output.name else n for n in node.input]
            model.graph.node.append(
                onnx.helper.make_node("Add", [output.name + "_", output.name + "_"], [output.name])
            )
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, built.primary)
        return built

class Honest(OnnxExporter):
    """The same detour without the doubling."""

    target = "honest"
'''


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment in which three more targets are installed."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "test_targets.py").write_text(TWIN)
    info = folder / "test_targets-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: test-targets\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(
        "[scconv_deploy.exporters]\n"
        "doubled = test_targets:Doubled\nhonest = test_targets:Honest\nabsent = not_installed_here:Exporter\n"
    )
    return {"PYTHONPATH": str(folder)}


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files included."""
    return sorted(p.name for p in folder.iterdir())


def test_exit_0_leaves_one_complete_bundle(tmp_path: Path) -> None:
    done = scconv("export", str(MODEL), "--target", "onnx", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    bundle = Path(said["bundle"])
    assert names(tmp_path) == [bundle.name] == ["model-onnx-fp32"]
    assert {"model.onnx", "manifest.json", "samples.npz", "report.html"} <= set(names(bundle))
    assert said["verdict"] == "PASS"
    assert json.loads((bundle / "manifest.json").read_text()) == said["manifest"]
    assert "\x1b" not in done.stderr
    assert [line.split()[1] for line in done.stderr.splitlines() if line.startswith("[")] == [
        "load",
        "recognise",
        "lower",
        "trace",
        "simplify",
        "build",
        "verify",
        "package",
    ]
    assert "</html>" in (bundle / "report.html").read_text()

    again = scconv("export", str(MODEL), "--target", "onnx", folder=tmp_path)
    assert again.returncode == 2
    assert "--force" in again.stderr

    check = scconv("verify", str(bundle), "--quiet", folder=tmp_path)
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_exit_1_promotes_nothing(targets: Mapping[str, str], tmp_path: Path) -> None:
    done = scconv(
        "export", str(MODEL), "--target", "doubled", "-o", "b", "--json", folder=tmp_path, extra=targets
    )
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["kind"] == "VerificationError"
    assert said["parity"]["verdict"] == "FAIL"
    assert "[✗] verify" in done.stderr
    assert names(tmp_path) == []


def test_a_failed_run_never_replaces_a_bundle(targets: Mapping[str, str], tmp_path: Path) -> None:
    good = scconv(
        "export", str(MODEL), "--target", "honest", "-o", "b", "--quiet", folder=tmp_path, extra=targets
    )
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    before = {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    bad = scconv(
        "export", str(MODEL), "--target", "doubled", "-o", "b", "--force", folder=tmp_path, extra=targets
    )
    assert bad.returncode == 1, bad.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()} == before
    assert names(tmp_path) == ["b"]


@pytest.mark.parametrize(
    ("source", "arguments", "words"),
    [
        (PICKLED, [], "--trust digits_net"),
        (MODEL, ["--input-shape", "1x3x8x8"], "1x3x8x8"),
        (ROOT / "README.md", [], "README.md"),
    ],
)
def test_exit_2_is_a_sentence(source: Path, arguments: list[str], words: str, tmp_path: Path) -> None:
    done = scconv("export", str(source), "--target", "onnx", *arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert names(tmp_path) == []


def test_exit_2_for_an_altered_bundle(tmp_path: Path) -> None:
    made = scconv("export", str(MODEL), "--target", "onnx", "-o", "b", "--no-verify", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "UNVERIFIED" in made.stdout
    artifact = tmp_path / "b" / "model.onnx"
    artifact.write_bytes(artifact.read_bytes() + b"\0")
    done = scconv("verify", "b", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "model.onnx" in done.stderr


def test_exit_3_names_what_is_missing(targets: Mapping[str, str], tmp_path: Path) -> None:
    done = scconv("export", str(MODEL), "--target", "absent", folder=tmp_path, extra=targets)
    assert done.returncode == 3, done.stderr
    assert "not_installed_here" in done.stderr
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_exit_130_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "scconv_deploy", "export", str(MODEL), "--target", "onnx", "-o", "b"],
        cwd=tmp_path,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if " lower " in line:  # the next stage, trace, is the longest one before the bundle is written
                process.send_signal(number)
        assert process.wait(60) == 130, "".join(said)
    assert said[-1] == "interrupted; nothing was left behind\n"
    assert "Traceback" not in "".join(said)
    assert names(tmp_path) == []


def test_inspect_executes_nothing(tmp_path: Path) -> None:
    done = scconv("inspect", str(PICKLED), "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "digits_net.DigitsNet" in said["needs_classes"]
    assert zipfile.is_zipfile(PICKLED)


def test_bench_compares_a_bundle_with_pytorch(tmp_path: Path) -> None:
    made = scconv("export", str(MODEL), "--target", "onnx", "-o", "b", "--quiet", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    options = ("--duration", "0.1", "--iterations", "3", "--backends", "eager,naive", "--json")
    done = scconv("bench", str(MODEL), "b", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["schema_version"] == 1
    found = {m["name"]: m for m in said["measurements"]}
    assert set(found) == {"PyTorch eager", "naive ONNX", "b"}
    assert all(m["median_ms"] > 0 and m["max_ms"] >= m["percentiles_ms"]["99"] for m in found.values())
    assert all(m["own_process"] and m["memory"]["peak_bytes"] > 0 for m in found.values())
