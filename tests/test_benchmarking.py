"""From subjects to a report, on real bundles, files and modules, for fractions of a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.bench.baseline import read_baseline
from scconv_deploy.bench.models import wanted_kinds
from scconv_deploy.bench.naive import naive_export
from scconv_deploy.bench.openers import RunnerOpener
from scconv_deploy.bench.rounds import MIN_ROUNDS
from scconv_deploy.bench.subjects import Setting, bench_inputs, bundle_subject, onnx_subject, refusal
from scconv_deploy.bench_config import BackendKind, BenchConfig, BreakEvenConfig
from scconv_deploy.benchmarking import run_benchmark, run_benchmark_and_sweep
from scconv_deploy.config import ExportConfig, Precision, ShapeRange, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.kernels import loader
from scconv_deploy.measurements import SCHEMA_VERSION
from scconv_deploy.pipeline import run_export
from scconv_deploy.report.to_json import dumps
from scconv_deploy.runtime.nvidia_driver import Gpu, probe

DIGITS = Path(__file__).parents[1] / "samples" / "digits" / "model.pt"
EAGER, NAIVE, PLAIN, OURS = BackendKind.EAGER, BackendKind.NAIVE, BackendKind.PLAIN, BackendKind.OURS


class Summing(nn.Module):
    """Divides by Python's own sum over channels, as public SCConv code does (there over a parameter, which
    the exporter folds away after minutes; here over activations, which stay)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        attention = torch.sigmoid(y.mean((2, 3))).transpose(0, 1)
        weight = (attention / sum(attention)).transpose(0, 1)
        return y * weight[:, :, None, None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX bundle that takes batches 1 to 3."""
    out = tmp_path_factory.mktemp("bench") / "small"
    shapes = shape_ranges(minimum=["1x3x6x6"], optimum=["1x3x6x6"], maximum=["3x3x6x6"])
    torch.manual_seed(0)
    return run_export(Summing().eval(), ExportConfig("onnx", out=out, shapes=shapes), Silence()).path


QUICK = BenchConfig(
    warm_up_ms=0, duration_s=0.0, iterations=5, shapes=shape_ranges(["1x3x6x6"]), backends=(EAGER, NAIVE)
)


def test_the_trained_model_in_all_its_forms_and_then_against_itself(tmp_path: Path) -> None:
    config = BenchConfig(warm_up_ms=0, duration_s=0.0, iterations=5, backends=(PLAIN, OURS, NAIVE, EAGER))
    first = run_benchmark((str(DIGITS),), config, Silence())
    assert [(m.name, m.kind) for m in first.measurements] == [
        ("plain twin", "plain"),
        ("ours", "ours"),
        ("naive ONNX", "naive"),
        ("PyTorch eager", "eager"),
    ]
    assert first.conditions[0].yardstick == "plain twin"
    assert first.not_measured == ()
    for m in first.measurements:
        assert m.rounds >= MIN_ROUNDS
        assert 0 < m.min_ms <= m.median_ms <= m.percentiles_ms["99"] <= m.max_ms
        assert m.own_process
        assert m.memory is not None
        assert m.size_bytes is not None
        assert m.overhead_us < 20
        assert m.first_run_ms > 0
    # The stored report is a baseline for the next run; a limit nobody can miss passes.
    file = tmp_path / "stored.json"
    file.write_text(dumps(first), encoding="utf-8")
    assert json.loads(file.read_text())["schema_version"] == SCHEMA_VERSION
    assert len(read_baseline(file).measurements) == 4
    again = replace(config, backends=(NAIVE,), baseline=file, fail_if_slower=1000.0)
    second = run_benchmark((str(DIGITS),), again, Silence())
    assert second.baseline is not None
    assert second.baseline.same_machine
    assert second.baseline.slower == ()
    # Its yardstick was the twin, which is not here now.
    assert [(c.name, c.quantity) for c in second.baseline.checks] == [("naive ONNX", "median")]
    assert any("PyTorch eager" in note for note in second.baseline.notes)


def test_a_bundle_a_file_and_a_local_module_side_by_side(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "plain.onnx"
    shutil.copy(bundle / "model.onnx", file)

    class Local(Summing):
        """Cannot be rebuilt in another process: nothing can import it."""

    before = torch.get_num_threads()
    report = run_benchmark((str(bundle), file, Local()), QUICK, Silence())
    found = {m.name: m for m in report.measurements}
    assert list(found) == ["small", "plain.onnx", "PyTorch eager", "naive ONNX"]
    assert [m.own_process for m in found.values()] == [True, True, False, True]
    assert report.conditions[0].yardstick == "small"
    assert found["plain.onnx"].precision == "fp32"
    assert torch.get_num_threads() == before


def test_our_own_bundle_is_left_out_where_the_user_brings_one(bundle: Path) -> None:
    # Without certified blocks there is no twin, and that is said.
    report = run_benchmark((str(bundle), Summing()), replace(QUICK, backends=(PLAIN, EAGER)), Silence())
    assert [m.name for m in report.measurements] == ["small", "PyTorch eager"]
    assert "plain twin is not measured: no SCConv block was certified" in report.not_measured[0]


def test_a_batch_the_bundle_does_not_take_is_a_note_and_no_number(bundle: Path) -> None:
    report = run_benchmark((str(bundle),), replace(QUICK, batches=(2, 4), threads=(1, 2)), Silence())
    assert [(m.batch, m.threads) for m in report.measurements] == [(2, 1), (2, 2)]
    assert report.not_measured == (
        "small is not measured at batch 4: input 'x' takes 1 to 3 on axis 0, not 4",
    )


@pytest.mark.skipif(isinstance(probe(), Gpu), reason="a GPU is here: this machine can run TensorRT engines")
def test_a_bundle_that_cannot_run_here_is_listed_as_not_measured(bundle: Path, tmp_path: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    engine = tmp_path / "engine"
    shutil.copytree(bundle, engine)
    changed = json.dumps(manifest | {"runtime": "tensorrt-rtx"})
    (engine / "manifest.json").write_text(changed, encoding="utf-8")
    report = run_benchmark((engine, bundle), QUICK, Silence())
    assert [m.name for m in report.measurements] == ["small"]
    assert report.not_measured[0].startswith("engine is not measured at batch 1, 1 thread: ")
    with pytest.raises(CapabilityError, match="nothing could be measured here: engine is not measured"):
        run_benchmark((engine,), QUICK, Silence())


def test_a_model_the_exporter_refuses_is_still_measured_in_pytorch() -> None:
    class Untraceable(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if float(x.sum()) > 0 else x

    report = run_benchmark((Untraceable(),), QUICK, Silence())
    assert [m.name for m in report.measurements] == ["PyTorch eager"]
    assert "naive ONNX is not measured: the naive ONNX export fails" in report.not_measured[0]


def test_a_provider_that_is_not_here_is_an_error(bundle: Path) -> None:
    asked = replace(QUICK, provider="NoSuchExecutionProvider")
    with pytest.raises(CapabilityError, match=r"has no NoSuchExecutionProvider; available: .*CPU"):
        run_benchmark((bundle,), asked, Silence())


def test_a_provider_that_fell_back_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime offers it, and silently takes the CPU."""
    real = ort.InferenceSession
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def falling_back(source: object, options: object, providers: list[str]) -> object:
        return real(source, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)
    monkeypatch.setattr(ort, "InferenceSession", falling_back)
    opener = RunnerOpener("onnxruntime", bundle / "model.onnx", "CUDAExecutionProvider")
    with (
        pytest.raises(CapabilityError, match="fell back from CUDAExecutionProvider to CPU"),
        opener.open(1, {}),
    ):
        pass
    assert not bundle_subject(str(bundle), (), "CUDAExecutionProvider").candidates[0].optional


def test_shapes_asked_for_must_fit_the_bundle(bundle: Path) -> None:
    wide = (ShapeRange(None, (1, 3, 7, 7), (1, 3, 7, 7), (1, 3, 7, 7)),)
    (candidate,) = bundle_subject(str(bundle), wide).candidates
    assert "takes 6 on axis 2, not 7" in str(refusal(candidate.inputs, 1))
    assert refusal(bundle_subject(str(bundle), ()).candidates[0].inputs, 1) is None


def test_inputs_are_seeded_and_not_constant() -> None:
    spec = (TensorSpec("x", "float32", ("batch", 3, 6, 6), (1, 3, 6, 6), (1, 3, 6, 6), (9, 3, 6, 6)),)
    one, again, other = (bench_inputs(spec, Setting(4, 1, seed))["x"] for seed in (0, 0, 1))
    assert one.shape == (4, 3, 6, 6)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.std() > 0.5


def test_the_naive_export_is_naive(bundle: Path) -> None:
    """It unrolls the sum, which the package's own export does not, and takes every batch asked for."""
    spec = (TensorSpec("x", "float32", (1, 3, 6, 6), (1, 3, 6, 6), (1, 3, 6, 6), (1, 3, 6, 6)),)
    fixed = onnx.load_from_string(naive_export(Summing().eval(), spec, (4,), 0))
    free = onnx.load_from_string(naive_export(Summing().eval(), spec, (1, 8), 0))
    assert sum(n.op_type == "Add" for n in fixed.graph.node) >= 23
    assert sum(n.op_type == "Add" for n in onnx.load(bundle / "model.onnx").graph.node) <= 1
    assert fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    assert free.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def save(path: Path, *shape: int | str | None) -> Path:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=[opset]), path
    )
    return path


def test_an_onnx_files_free_axes_are_settled_or_asked_for(tmp_path: Path) -> None:
    free = save(tmp_path / "free.onnx", "n", 3, "h", 8)
    with pytest.raises(InputError, match="leaves h free; give its shape"):
        onnx_subject(str(free), ())
    (candidate,) = onnx_subject(str(free), shape_ranges(["1x3x5x8"])).candidates
    assert candidate.inputs[0].optimum == (1, 3, 5, 8)
    assert refusal(candidate.inputs, 7) is None
    (static,) = onnx_subject(str(save(tmp_path / "static.onnx", 2, 3)), ()).candidates
    assert refusal(static.inputs, 2) is None
    assert refusal(static.inputs, 1) == "input 'x' takes 2 on axis 0, not 1"
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\x08\x07 no model")
    with pytest.raises(InputError, match=r"no readable ONNX model|leaves"):
        onnx_subject(str(junk), ())


def test_several_models_are_told_apart() -> None:
    class One(Summing): ...

    class Other(Summing): ...

    report = run_benchmark((One(), Other()), replace(QUICK, backends=(EAGER,)), Silence())
    assert [m.name.rpartition(".")[2] for m in report.measurements] == ["One", "Other"]
    assert all(m.name.startswith("PyTorch eager of ") for m in report.measurements)


def test_a_missing_baseline_is_said_before_anything_runs(tmp_path: Path) -> None:
    def never(*_: object) -> Mapping[str, object]:
        raise AssertionError("nothing should be loaded")

    with pytest.raises(InputError, match=r"the baseline .* cannot be read"):
        run_benchmark((tmp_path / "no.pt",), replace(QUICK, baseline=tmp_path / "no.json"), Silence())


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16])
def test_a_bundle_with_16_bit_inputs_is_measured_in_its_own_process(
    precision: Precision, tmp_path: Path
) -> None:
    config = ExportConfig(
        "onnx", out=tmp_path / "b", shapes=shape_ranges(["1x3x6x6"]), io_dtype=precision, verify=False
    )
    bundle = run_export(Summing().eval(), config, Silence()).path
    arrays = bench_inputs(bundle_subject(str(bundle), ()).candidates[0].inputs, Setting(2, 1, 0))
    assert arrays["x"].dtype.name == {"bf16": "bfloat16", "fp16": "float16"}[precision.value]
    (measured,) = run_benchmark((bundle,), QUICK, Silence()).measurements
    assert measured.own_process


def test_every_backend_is_wanted_by_default_and_the_fused_one_where_it_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader, "instruction_set", lambda: "plain")
    assert set(wanted_kinds(BenchConfig(), bundles=False)) == set(BackendKind)
    assert not {OURS, BackendKind.PLUGIN} & set(wanted_kinds(BenchConfig(), bundles=True))
    monkeypatch.setattr(loader, "instruction_set", lambda: None)
    assert BackendKind.PLUGIN not in wanted_kinds(BenchConfig(), bundles=False)


def test_a_sweep_alone_and_beside_subjects(bundle: Path) -> None:
    sweep = BreakEvenConfig(channels=(16,), sides=(4,), batches=(1,), duration_s=0.0, warm_up_ms=0)
    alone = run_benchmark_and_sweep((), BenchConfig(), sweep, Silence())
    assert alone.measurements == ()
    both = run_benchmark_and_sweep((bundle,), QUICK, sweep, Silence())
    assert [m.name for m in both.measurements] == ["small"]
    for report in (alone, both):
        assert report.break_even is not None
        assert len(report.break_even.points) == 1
    assert run_benchmark_and_sweep((bundle,), QUICK, None, Silence()).break_even is None
    with pytest.raises(InputError, match="name what to measure"):
        run_benchmark_and_sweep((), BenchConfig(), None, Silence())
