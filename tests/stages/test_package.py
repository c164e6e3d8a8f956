"""A packed bundle opens, serves and reopens; every file is hashed; the command in it repeats the export."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.artifacts import ShapeBounds
from scconv_deploy.config import Budgets, ErrorStat, ExportConfig, GateForm, Precision, shape_ranges
from scconv_deploy.errors import InputError
from scconv_deploy.graph.fingerprint import fingerprint
from scconv_deploy.runtime.engine import open_bundle
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.shape_profiles import parse_profiles
from scconv_deploy.stages import package, reopen
from scconv_deploy.tensorrt_options import MIB, Keep, Pool, TensorRTOptions
from scconv_deploy.verdicts import GoldenSamples
from scconv_deploy.workspace import sha256
from tests.stages.small import CONFIG, EXAMPLE, built_in, half_config, ready


def contents(folder: Path) -> package.Contents:
    ours = ready()
    golden = GoldenSamples(
        {"image": EXAMPLE.numpy()},
        {ours.graph.outputs[0].name: ours.lowered.reference(EXAMPLE).detach().numpy()},
    )
    built = built_in(folder, ours.graph)
    return package.Contents(ours.source, ours.recognition, ours.graph, built, None, golden, (), ("a note",))


def test_a_bundle_opens_and_comes_back(tmp_path: Path) -> None:
    packed = contents(tmp_path)
    package.run(packed, CONFIG, tmp_path)
    with open_bundle(tmp_path, threads=1, verify="golden") as engine:
        assert [a.shape for a in engine.run({"image": EXAMPLE.numpy()}).values()] == [(2, 8, 6, 6)]
    opened = reopen.run(tmp_path)
    graph, golden = opened.graph, opened.golden
    assert graph.model == packed.graph.model
    assert (graph.inputs, graph.outputs) == (packed.graph.inputs, packed.graph.outputs)
    assert graph.block_paths == packed.graph.block_paths
    np.testing.assert_array_equal(golden.inputs["image"], EXAMPLE.numpy())


def test_golden_samples_of_another_function_are_not_served(tmp_path: Path) -> None:
    packed = contents(tmp_path)
    doubled = {name: 2 * array for name, array in packed.golden.outputs.items()}
    package.run(replace(packed, golden=GoldenSamples(packed.golden.inputs, doubled)), CONFIG, tmp_path)
    with pytest.raises(InputError, match="differs from the bundle's golden samples"):
        open_bundle(tmp_path, threads=1, verify="golden")


def test_the_manifest_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    manifest = package.run(contents(tmp_path), CONFIG, tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    files = {
        p.name: {"sha256": sha256(p), "size_bytes": p.stat().st_size}
        for p in tmp_path.iterdir()
        if p.name != "manifest.json"
    }
    assert manifest["files"] == files
    assert set(files) == {"model.onnx", "samples.npz", "report.html"}
    assert manifest["verification"] is None
    assert manifest["notes"] == ["a note"]


def test_a_number_json_does_not_know_never_reaches_the_file(tmp_path: Path) -> None:
    packed = contents(tmp_path)
    packed = replace(packed, built=replace(packed.built, details={"speed": float("nan")}))
    manifest = package.run(packed, CONFIG, tmp_path)
    json.dumps(manifest, allow_nan=False)
    assert "NaN" not in (tmp_path / "manifest.json").read_text()


def test_reproduce_holds_every_choice_and_no_default() -> None:
    source = replace(ready().source, origin="my model.pt")
    assert package.reproduce(source, CONFIG) == ("scconv-export 'my model.pt' --target onnx --precision fp32")
    chosen = ExportConfig(
        target="trt",
        opset=18,
        shapes=(
            *shape_ranges(["a:1x3"]),
            *shape_ranges(minimum=["b:1x2"], optimum=["b:2x2"], maximum=["b:4x2"]),
        ),
        factory="nets:make",
        variant="F3",
        trust=("nets", "more"),
        calib=Path("real.npz"),
        compute_capabilities=("8.6", "9.0"),
        profiles=parse_profiles(["b:1x2/2x2/3x2", "b:4x2"]),
        tensorrt=TensorRTOptions({Pool.WORKSPACE: 64 * MIB}, refit=True, builds=3, keep=Keep.SIZE),
        simplify=False,
        verify=False,
        seed=7,
    )
    assert shlex.split(package.reproduce(source, chosen))[1:] == [
        *("my model.pt", "--target", "trt", "--precision", "fp32", "--opset", "18"),
        *("--input-shape", "a:1x3", "--profile=b:1x2/2x2/3x2", "--profile=b:4x2"),
        *("--memPoolSize=workspace:64", "--keep=size", "--builds=3", "--refit"),
        *("--factory", "nets:make", "--variant", "F3", "--calib", "real.npz"),
        *("--compute-capability", "8.6,9.0", "--trust", "nets", "--trust", "more"),
        *("--seed", "7", "--no-simplify", "--no-verify"),
    ]


def test_reproduce_writes_one_range_as_three_shapes() -> None:
    one = replace(CONFIG, shapes=shape_ranges(minimum=["b:1x2"], optimum=["b:2x2"], maximum=["b:4x2"]))
    words = shlex.split(package.reproduce(ready().source, one))
    assert words[-3:] == ["--minShapes=b:1x2", "--optShapes=b:2x2", "--maxShapes=b:4x2"]


def test_builder_options_and_profiles_come_back_from_a_bundle(tmp_path: Path) -> None:
    options = TensorRTOptions({Pool.TACTIC_SHARED_MEM: 48 * 1024}, tf32=True, builds=2, keep=Keep.KERNELS)
    package.run(contents(tmp_path), replace(CONFIG, tensorrt=options), tmp_path)
    assert reopen.run(tmp_path).config.tensorrt == options
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert "--memPoolSize=tacticSharedMem:48K --keep=kernels --builds=2 --tf32" in manifest["reproduce"]
    bounds = [{"minimum": [1, 2], "optimum": [1, 2], "maximum": [3, 2]}]
    spec = {"name": "x", "dtype": "float32", "shape": ["n", 2], "profiles": bounds}
    assert reopen.tensor_spec(spec).profiles == (ShapeBounds((1, 2), (1, 2), (3, 2)),)


def test_reproduce_names_gate_io_type_and_budgets_where_they_were_chosen() -> None:
    source = replace(ready().source, origin="m.pt")
    half = half_config(Precision.BF16)
    assert package.reproduce(source, half) == "scconv-export m.pt --target onnx --precision bf16"
    chosen = replace(
        half,
        opset=23,
        gate=GateForm.SIGMOID,
        io_dtype=Precision.FP16,
        budgets=Budgets(1e-3, {"": 0.1, "y": 0.2}, {"y": 0.3}, ErrorStat.MEDIAN),
        bisect=True,
    )
    assert package.reproduce(source, chosen) == (
        "scconv-export m.pt --target onnx --precision bf16 --opset 23 --gate sigmoid --io-dtype fp16 "
        "--max-flip-rate 0.001 --atol 0.1 --atol y:0.2 --rtol y:0.3 --check-error-stat median --bisect"
    )


def test_the_manifest_says_how_precise_each_block_was_built(tmp_path: Path) -> None:
    roles = {"2": {"convolutions": "fp16", "gate": "fp32", "fuse": "fp32"}}
    packed = contents(tmp_path)
    packed = replace(
        packed,
        built=replace(packed.built, precision_built="fp16", precision_per_block=roles),
        style=GraphStyle(where_mask=True),
    )
    config = half_config(Precision.FP16, io_dtype=Precision.FP16, calib=Path("real.npz"))
    manifest = package.run(packed, config, tmp_path)
    assert manifest["precision"] == {"asked": "fp16", "built": "fp16", "io": "fp16", "blocks": roles}
    assert (manifest["gate"], manifest["samples"]) == ("exact", "real")
    assert manifest["style"] == {**asdict(GraphStyle()), "where_mask": True}


def test_what_shapes_the_graph_is_in_the_manifest(tmp_path: Path) -> None:
    packed = contents(tmp_path)
    manifest = package.run(packed, CONFIG, tmp_path)
    assert (manifest["simplify"], manifest["variant"], manifest["traced"]) == (True, None, None)
    quantised = replace(packed, graph=replace(packed.graph, unquantised=packed.graph))
    manifest = package.run(quantised, replace(CONFIG, simplify=False, variant="F3"), tmp_path)
    assert (manifest["simplify"], manifest["variant"]) == (False, "F3")
    assert manifest["traced"] == fingerprint(packed.graph.model)
    assert reopen.run(tmp_path).trace.fingerprint == manifest["traced"]


def test_the_artifacts_own_outputs_are_packed_where_they_were_kept(tmp_path: Path) -> None:
    packed = contents(tmp_path)
    package.run(packed, CONFIG, tmp_path)
    assert set(np.load(tmp_path / "samples.npz").files) == {"inputs.image", "outputs.output"}
    (name, right), *_ = packed.golden.outputs.items()
    # The reference's are others, as they are where the verdict was AMBIGUOUS.
    own = GoldenSamples(packed.golden.inputs, {name: 2 * right}, {name: np.stack([right, 3 * right])})
    package.run(replace(packed, golden=own), CONFIG, tmp_path)
    open_bundle(tmp_path, threads=1, verify="golden").close()
    broken = replace(own, own={name: np.stack([4 * right, 3 * right])})
    package.run(replace(packed, golden=broken), CONFIG, tmp_path)
    with pytest.raises(InputError, match="differs from the bundle's golden samples"):
        open_bundle(tmp_path, threads=1, verify="golden")
