"""A bundle comes back as it was packed; what is missing, altered or cannot run here is said."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import ExportConfig, GateForm, Precision
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.graph.fingerprint import fingerprint as fingerprint_of
from scconv_deploy.report.to_json import to_json
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import reopen
from tests.runtime.bundles import read, write_bundle, write_manifest, write_samples


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = write_bundle(tmp_path / "bundle")
    extra = {
        "precision": {"asked": "fp32", "built": "fp32"},
        "recognition": {"blocks": [{"path": "stage1.conv"}], "left_as_is": []},
        "opset": 18,
        "outputs": [
            {"name": "y", "dtype": "float32", "shape": ["batch", 3, "height", "width"]},
            {"name": "z", "dtype": "float32", "shape": ["batch", 3]},
        ],
    }
    write_manifest(folder, {**read(folder), **extra})
    return folder


def test_what_was_packed_comes_back(bundle: Path) -> None:
    opened = reopen.run(bundle)
    built, graph, golden = opened.built, opened.graph, opened.golden
    assert built.primary == bundle / "model.onnx"
    assert (built.runtime, built.precision_built, built.not_executed) == ("onnxruntime", "fp32", None)
    assert graph.model == onnx.load(bundle / "model.onnx")
    assert graph.inputs[0].multiple_of == {2: 4, 3: 4}
    assert [o.shape for o in graph.outputs] == [("batch", 3, "height", "width"), ("batch", 3)]
    assert (graph.opset, graph.block_paths) == (18, ("stage1.conv",))
    np.testing.assert_array_equal(golden.outputs["y"], 2 * golden.inputs["x"])


def test_an_altered_file_is_refused(bundle: Path) -> None:
    write_samples(bundle, change=0.5)
    with pytest.raises(InputError, match=r"samples\.npz was altered"):
        reopen.run(bundle)


def test_an_engine_without_its_graph_is_refused(bundle: Path) -> None:
    engine = (bundle / "model.onnx").rename(bundle / "model.engine")
    digest = hashlib.sha256(engine.read_bytes()).hexdigest()
    manifest = {**read(bundle), "artifact": engine.name, "files": {engine.name: {"sha256": digest}}}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"lacks model\.onnx, the graph it was built from"):
        reopen.run(bundle)


def test_a_runtime_that_is_missing_here_is_a_reason_not_an_error(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(runtime: str, artifact: Path) -> None:
        raise CapabilityError(f"no {runtime} here")

    monkeypatch.setattr(reopen, "open_runner", absent)
    built = reopen.run(bundle).built
    assert built.not_executed == "not executed: no onnxruntime here"


def test_a_tensor_spec_survives_json() -> None:
    spec = TensorSpec("x", "float32", ("n", 3), (1, 3), (2, 3), (8, 3), {0: 2})
    assert reopen.tensor_spec(json.loads(json.dumps(to_json(spec)))) == spec
    with pytest.raises(KeyError, match="shape"):
        reopen.tensor_spec({"name": "x", "dtype": "float32"})


def test_how_it_was_made_comes_back(bundle: Path) -> None:
    opened = reopen.run(bundle)
    assert opened.config == ExportConfig(target="onnx", opset=18)
    assert (opened.style, opened.has_real_samples) == (GraphStyle(), False)
    assert opened.built.precision_per_block == {}
    roles = {"stage1.conv": {"convolutions": "bf16", "gate": "fp32"}}
    made = {
        "target": "trt-rtx",
        "opset": 22,
        "gate": "sigmoid",
        "samples": "real",
        "precision": {"asked": "bf16", "built": "bf16", "io": "fp16", "blocks": roles},
        "style": {"where_mask": True, "literal_gate": True, "of_a_later_version": True},
    }
    write_manifest(bundle, {**read(bundle), **made})
    opened = reopen.run(bundle)
    assert opened.config == ExportConfig(
        target="trt-rtx",
        precision=Precision.BF16,
        opset=22,
        gate=GateForm.SIGMOID,
        io_dtype=Precision.FP16,
    )
    assert opened.style == GraphStyle(where_mask=True, literal_gate=True)
    assert opened.has_real_samples
    assert opened.built.precision_per_block == roles


def test_a_bfloat16_end_keeps_its_name() -> None:
    assert reopen.tensor_spec({"name": "x", "dtype": "bfloat16", "shape": [1]}).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recognition", {}),
        ("recognition", {"blocks": [7]}),
        ("opset", "x"),
        ("gate", "neither"),
        ("style", 7),
        ("calibration", {"a": 1}),
        ("source", [7]),
        ("tool_versions", "x"),
    ],
)
def test_a_manifest_of_other_kinds_is_refused_in_words(key: str, value: object, bundle: Path) -> None:
    reopen.run(bundle)
    write_manifest(bundle, {**read(bundle), key: value})
    with pytest.raises(InputError, match=r"cannot be read back, its manifest or model\.onnx is damaged"):
        reopen.run(bundle)


def test_what_shaped_the_graph_comes_back(bundle: Path) -> None:
    assert reopen.run(bundle).config.simplify
    write_manifest(bundle, {**read(bundle), "simplify": False, "variant": "F3"})
    config = reopen.run(bundle).config
    assert (config.simplify, config.variant) == (False, "F3")
    # Bundles of earlier versions say it in the command that makes them again.
    old = {k: v for k, v in read(bundle).items() if k not in ("simplify", "variant")}
    write_manifest(bundle, {**old, "reproduce": "scconv-export m.pt --target onnx --no-simplify"})
    config = reopen.run(bundle).config
    assert (config.simplify, config.variant) == (False, None)


def test_outputs_of_the_artifact_itself_come_back_where_there_are_any(bundle: Path) -> None:
    assert reopen.run(bundle).golden.own == {}
    arrays: dict[str, Any] = dict(np.load(bundle / "samples.npz"))
    arrays["artifact.y"] = np.stack([arrays["outputs.y"]] * 2)
    np.savez(bundle / "samples.npz", **arrays)
    write_manifest(bundle, read(bundle))
    golden = reopen.run(bundle).golden
    assert set(golden.own) == {"y"}
    np.testing.assert_array_equal(golden.own["y"][1], golden.outputs["y"])


@pytest.mark.parametrize(
    ("fingerprint", "versions", "sha256", "refused"),
    [
        ("its own", {"torch": "2.0"}, "other", None),  # the same graph: whoever traced it
        (None, {"torch": "2.0"}, "same", None),  # nothing to compare with
        ("another", {}, "other", None),  # another model, which the comparison says
        ("another", {}, "same", "model.pt is traced to another graph here"),
        ("another", {"torch": "2.0"}, "other", r"made with torch 2\.0, now \d"),
        ("another", {"onnxsim": "0.1", "unknown": "1"}, "same", r"made with onnxsim 0\.1, now "),
    ],
)
def test_a_graph_that_is_traced_otherwise_is_told_from_another_model(
    fingerprint: str | None, versions: dict[str, str], sha256: str, refused: str | None, bundle: Path
) -> None:
    opened = reopen.run(bundle)
    own = fingerprint_of(opened.graph.model) if fingerprint == "its own" else fingerprint
    opened = replace(opened, trace=reopen.Traced(own, "same", versions))
    if refused is None:
        reopen.must_trace_alike(opened, opened.graph, Path("model.pt"), sha256)
        return
    with pytest.raises(CapabilityError, match=refused) as caught:
        reopen.must_trace_alike(opened, opened.graph, Path("model.pt"), sha256)
    assert caught.value.exit_code == 3
