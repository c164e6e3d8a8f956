"""From a model to its honesty table, and a bundle of it beside the model: real exports, profiled briefly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scconv_deploy.artifacts import Recognition
from scconv_deploy.bench.explain import poolings
from scconv_deploy.bench.subjects import ModelParts
from scconv_deploy.bench.twin import PlainTwin
from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.benchmarking import run_benchmark
from scconv_deploy.config import ExportConfig, Form, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.kernels import loader
from scconv_deploy.measurements import BenchReport
from scconv_deploy.pipeline import run_export
from scconv_deploy.profiles import Standing
from scconv_deploy.report.bench_html import render_benchmark
from scconv_deploy.report.to_json import dumps
from scconv_deploy.scconv import zoo

SHAPE = shape_ranges(["1x3x32x32"])
QUICK = BenchConfig(
    warm_up_ms=0,
    duration_s=0.0,
    iterations=5,
    shapes=SHAPE,
    backends=(BackendKind.PLAIN, BackendKind.NAIVE, BackendKind.PLUGIN),
)


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> BenchReport:
    """A network with strided SCConv blocks, and a bundle of it with the fused operators."""
    torch.manual_seed(0)
    net = zoo.build("scconv_resnet50", width=16, blocks=[1, 1, 1, 1], image=32, num_classes=4).eval()
    out = tmp_path_factory.mktemp("explained") / "net-onnx"
    config = ExportConfig("onnx", out=out, shapes=SHAPE, form=Form.PLUGIN, verify=False)
    bundle = run_export(net, config, Silence()).path
    return run_benchmark((net, str(bundle)), QUICK, Silence())


def test_a_bundle_beside_its_model_is_taken_apart_against_the_models_twin(explained: BenchReport) -> None:
    table = next(t for t in explained.honesty if t.name == "net-onnx")
    assert table.runs >= 12
    shares = [c.share for c in (*(b.cost for b in table.blocks), table.outside, table.unattributed)]
    assert sum(shares) == pytest.approx(1.0)
    assert table.unattributed.share < 0.02
    for block in table.blocks:
        assert [u.name for u in block.units] == ["SRU", "CRU"]
        assert block.plain_ms is not None
        assert block.standing is not Standing.UNKNOWN
        assert block.cost.gflops > 0
    assert table.net.ratio == next(m.against_yardstick for m in explained.measurements if m.kind == "bundle")


def test_the_pooling_before_a_strided_block_is_part_of_its_place(explained: BenchReport) -> None:
    table = explained.honesty[0]
    assert any("average pooling" in note for note in table.notes)


def test_the_naive_export_and_the_fused_one_are_taken_apart_too(explained: BenchReport) -> None:
    assert [t.name for t in explained.honesty] == ["naive ONNX", "ours, fused", "net-onnx"]
    blocks = [[b.cost.name for b in t.blocks] for t in explained.honesty]
    assert blocks[0] == blocks[1] == blocks[2]
    assert blocks[0]
    naive = explained.honesty[0]
    assert naive.unattributed.share < 0.05
    for block in naive.blocks:
        assert [u.name for u in block.units] == ["SRU", "CRU"]
        assert all(u.share > 0 for u in block.units)
        assert block.plain_ms is not None


@pytest.mark.skipif(loader.block_version() == 0, reason=f"no kernel of whole blocks: {loader.REBUILD}")
def test_blocks_that_ran_as_one_kernel_are_named_as_such(explained: BenchReport) -> None:
    (fused,) = (m for m in explained.measurements if m.kind == "plugin")
    assert "are one node each" in fused.notes[0]
    naive, ours, _ = explained.honesty
    assert not any("as one kernel each" in note for note in naive.notes)
    (note,) = (note for note in ours.notes if "as one kernel each" in note)
    assert 0 < int(note.split()[0]) <= len(ours.blocks)


def test_the_report_travels_as_json_and_as_a_page(explained: BenchReport) -> None:
    assert '"honesty"' in dumps(explained)
    assert "The honesty table" in render_benchmark(explained)


def test_poolings_are_named_by_their_own_path() -> None:
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AvgPool2d(2), torch.nn.Identity())
    twin = PlainTwin(net, {}, ("2",))
    parts = ModelParts(net, (), Recognition((), ()), twin, {"plain": Path("x")})
    assert poolings(parts) == {"2": ("1",)}


def test_no_explain_profiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("profiled")

    monkeypatch.setattr("scconv_deploy.benchmarking.explain", never)
    config = BenchConfig(
        warm_up_ms=0,
        duration_s=0.0,
        iterations=5,
        shapes=shape_ranges(["1x3x4x4"]),
        backends=(BackendKind.EAGER,),
        explain=False,
    )
    assert run_benchmark((torch.nn.Conv2d(3, 4, 1),), config, Silence()).honesty == ()
