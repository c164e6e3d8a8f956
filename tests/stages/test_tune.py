"""A style per block, from a race of real sessions whose judge is replaced where a certain outcome is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

import scconv_deploy
from exporters.onnx_model import OnnxExporter
from exporters.tensorrt_engine import TensorRTExporter
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Exporter, Silence
from scconv_deploy.errors import InputError
from scconv_deploy.scconv.reference import scconv
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import recognise, reopen, tune
from scconv_deploy.tuning.race import Result
from scconv_deploy.tuning.record import RULE, TimedForm, Tuning
from scconv_deploy.verdicts import Verdict
from tests.stages.small import IMAGE, source_of

CONFIG = ExportConfig(target="onnx", autotune_seconds=60.0)
EXPORTER = OnnxExporter()
Judge = Callable[..., Result]


def network() -> nn.Sequential:
    """Two equal blocks, and a third at half the size."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), scconv("F3", 8), scconv("F3", 8), nn.AvgPool2d(2), scconv("F3", 8)
    )
    for parameter in net.parameters():
        if parameter.ndim != 4:
            nn.init.normal_(parameter, 0.5, 0.5)
    return net.eval()


def always(name: str) -> Judge:
    """Runs every call once and names ``name`` the fastest."""

    def judge(calls: Mapping[str, Callable[[], object]], budget_s: float, seed: int) -> Result:
        assert budget_s > 0
        for call in calls.values():
            call()
        return Result(name, 9, tuple(TimedForm(n, 1.0, 1.0, 1.0, 1.0) for n in calls))

    return judge


def tuned(config: ExportConfig = CONFIG) -> Tuning:
    net = network()
    rule = EXPORTER.style(config)
    styles = tune.candidates(EXPORTER, config, rule)
    return tune.run(source_of(net), recognise.run(net, seed=0), rule, styles, [IMAGE], config, Silence())


def test_equal_blocks_are_timed_once_and_share_a_style(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "race", always("grouped Y1"))
    found = tuned()
    assert [(b.paths, b.shape) for b in found.blocks] == [(("1", "2"), (1, 8, 6, 6)), (("4",), (1, 8, 3, 3))]
    assert {style.dense_y1_below for style in found.styles.values()} == {0}
    assert set(found.styles) == {"1", "2", "4"}
    assert {f.name for f in found.blocks[0].forms} >= {RULE, "grouped Y1", "three convolutions"}
    assert found.machine["cpu"]
    assert (found.threads >= 1, found.budget_s) == (True, 60.0)


def test_the_rule_holds_where_no_time_is_left() -> None:
    found = tuned(ExportConfig(target="onnx", autotune_seconds=1e-9))
    assert set(found.styles.values()) == {EXPORTER.style(CONFIG)}
    assert all(b.chosen == RULE and not b.forms for b in found.blocks)


def test_a_real_race_ends_in_time_and_records_every_form() -> None:
    found = tuned(ExportConfig(target="onnx", autotune_seconds=1.5))
    assert found.seconds < 15
    assert all(
        style in {EXPORTER.style(CONFIG), *EXPORTER.candidate_styles(CONFIG).values()}
        for style in found.styles.values()
    )
    timed = [b for b in found.blocks if b.forms]
    assert all(f.milliseconds > 0 and f.low <= f.ratio <= f.high for b in timed for f in b.forms)


def test_the_users_module_is_left_alone() -> None:
    net = network()
    tune.block_shapes(net, recognise.run(net, seed=0), [IMAGE], 0)
    assert all(not m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("exporter", "config", "words"),
    [
        (
            TensorRTExporter(),
            ExportConfig(target="trt", autotune_seconds=1.0),
            "--target trt has no graph forms",
        ),
        (
            EXPORTER,
            ExportConfig(target="onnx", precision=Precision.FP16, autotune_seconds=1.0),
            "fp16 graphs",
        ),
        (EXPORTER, ExportConfig(target="onnx", form=Form.PLUGIN, autotune_seconds=1.0), "--form plugin"),
    ],
)
def test_what_cannot_be_timed_here_is_refused(exporter: Exporter, config: ExportConfig, words: str) -> None:
    with pytest.raises(InputError, match=words):
        tune.must_be_timeable(exporter, config)
    with pytest.raises(InputError, match="leave --autotune out"):
        tune.candidates(exporter, config, GraphStyle())


def test_without_autotune_nothing_is_refused() -> None:
    tune.must_be_timeable(TensorRTExporter(), ExportConfig(target="trt"))


def test_the_literal_gate_is_kept_in_every_candidate() -> None:
    styles = tune.candidates(EXPORTER, CONFIG, GraphStyle(literal_gate=True))
    assert all(style.literal_gate for style in styles.values())


def test_an_export_writes_the_choice_and_is_verified_and_reopened_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tune, "race", always("grouped Y1"))
    net = network()
    made = scconv_deploy.export(net, torch.randn(1, 3, 6, 6), autotune_seconds=60.0, out=tmp_path / "b")
    assert made.parity is not None
    assert made.parity.verdict is Verdict.PASS
    names = [n.name for n in onnx.load(made.artifact).graph.node if n.op_type == "Conv"]
    assert any("cru.gwc" in name for name in names)
    assert not any("cru.y1" in name for name in names)
    record = made.manifest["autotune"]
    assert isinstance(record, dict)
    assert [b["chosen"] for b in record["blocks"]] == ["grouped Y1"] * 2  # type: ignore[index, call-overload, union-attr]
    assert "--autotune 60" in str(made.manifest["reproduce"])
    assert any("grouped Y1" in str(note) for note in made.manifest["notes"])  # type: ignore[union-attr]
    assert {s.dense_y1_below for s in reopen.run(made.path).styles.values()} == {0}
    assert "grouped Y1" in (made.path / "report.html").read_text()


def test_without_it_the_rule_is_written(tmp_path: Path) -> None:
    made = scconv_deploy.export(network(), torch.randn(1, 3, 6, 6), out=tmp_path / "b", verify=False)
    names = [n.name for n in onnx.load(made.artifact).graph.node if n.op_type == "Conv"]
    assert any("cru.y1" in name for name in names)
    assert made.manifest["autotune"] is None
