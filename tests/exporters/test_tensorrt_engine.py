"""The two targets over TensorRT, with real engines built ahead of time."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from exporters import tensorrt_engine
from exporters.tensorrt_engine import TensorRTExporter, TensorRTRTXExporter
from exporters.trt import platform
from exporters.trt.build import Plan, build_plan
from exporters.trt.layers import read_kernels
from exporters.trt.process import BuildProcess
from exporters.trt.report import report
from exporters.trt.settings import BuildRequest
from scconv_deploy.artifacts import TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Exporter
from scconv_deploy.errors import BuildError, CapabilityError, InputError
from scconv_deploy.graph.expand import expand_blocks
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import can_emit
from scconv_deploy.scconv.operator import with_block_operators
from scconv_deploy.scconv.spec import (
    Comparison,
    ConvSpec,
    CRUSpec,
    GammaWeight,
    Gate,
    Norm,
    SCConvSpec,
    SRUSpec,
)
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tensorrt_options import Keep, TensorRTOptions, Verbosity
from tests.exporters.trt.models import DYNAMIC, SILENCE, STATIC, conv_chain, conv_relu, rtx, rtx_platform
from tests.exporters.trt.test_watch import Recorder

RTX = ExportConfig("trt-rtx")
BLOCKS = ("layer1.0.conv2", "head")


def _traced(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...] = STATIC) -> TracedGraph:
    return TracedGraph(model, inputs, (), 20, BLOCKS)


def test_both_classes_are_exporters() -> None:
    for made, name in ((TensorRTExporter(), "trt"), (TensorRTRTXExporter(), "trt-rtx")):
        exporter: Exporter = made
        assert exporter.target == name
        assert exporter.summary


def test_an_engine_and_its_graph_are_written_and_described(tmp_path: Path) -> None:
    rtx()
    source = conv_relu("N")
    built = TensorRTRTXExporter().build(_traced(source, DYNAMIC), RTX, tmp_path, SILENCE)
    assert [f.name for f in built.files] == ["model.engine", "model.onnx"]
    assert built.primary == tmp_path / "model.engine"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["model.engine", "model.onnx"]
    assert built.details["engine_bytes"] == built.primary.stat().st_size
    assert onnx.load(tmp_path / "model.onnx").graph == source.graph
    assert built.runtime == "tensorrt-rtx"
    assert built.precision_built == "fp32"
    assert built.tool_versions == {"tensorrt_rtx": rtx().__version__}
    assert built.details["compute_capabilities"] == ["sm_80", "sm_86", "sm_89", "sm_120", "sm_121"]
    profile = [{"input": "x", "min": [1, 3, 16, 16], "opt": [4, 3, 16, 16], "max": [8, 3, 16, 16]}]
    assert built.details["profile"] == [profile]
    assert built.kernel_report is not None
    assert built.kernel_report.kernels_per_block["layer1.0.conv2"] >= 1
    assert built.kernel_report.bytes_moved > 4 * (3 + 8) * 16 * 16 * 4
    assert built.notes == ()


def test_the_engine_is_the_plan_and_nothing_before_it(tmp_path: Path) -> None:
    module = rtx()
    built = TensorRTRTXExporter().build(_traced(conv_relu()), RTX, tmp_path, SILENCE)
    runtime = module.Runtime(module.Logger(module.Logger.INTERNAL_ERROR))
    malformed = int(module.EngineInvalidityDiagnostics.MALFORMED_ENGINE)
    plan = built.primary.read_bytes()
    assert not runtime.get_engine_validity(plan)[1] & malformed
    assert runtime.get_engine_validity(b"metadata" + plan)[1] & malformed, "this check cannot fail"


def test_named_compute_capabilities_are_built_for(tmp_path: Path) -> None:
    rtx()
    config = replace(RTX, compute_capabilities=("8.9", "sm_120"))
    built = TensorRTRTXExporter().build(_traced(conv_relu()), config, tmp_path, SILENCE)
    assert built.details["compute_capabilities"] == ["sm_89", "sm_120"]
    settings = built.details["settings"]
    assert isinstance(settings, dict)
    assert settings["compute_capabilities"] == ["SM89", "SM120"]


def test_without_a_gpu_the_artifact_says_what_it_was_built_for_and_that_it_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rtx()
    monkeypatch.setattr(tensorrt_engine, "obstacle", lambda runtime: "no NVIDIA GPU on this machine")
    config = replace(RTX, compute_capabilities=("89", "86"))
    built = TensorRTRTXExporter().build(_traced(conv_relu()), config, tmp_path, SILENCE)
    assert built.not_executed == (
        "built ahead of time for sm_86, sm_89; not executed: no NVIDIA GPU on this machine"
    )


@pytest.mark.parametrize(
    ("here", "sentence"),
    [
        ("sm_89", None),
        ("sm_90", "built ahead of time for sm_89; not executed: this machine's G is sm_90"),
    ],
)
def test_with_a_gpu_it_depends_on_whether_the_engine_is_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, sentence: str | None
) -> None:
    rtx()
    monkeypatch.setattr(tensorrt_engine, "obstacle", lambda runtime: None)
    monkeypatch.setattr(platform, "probe", lambda: Gpu("G", here))
    config = replace(RTX, compute_capabilities=("89",))
    built = TensorRTRTXExporter().build(_traced(conv_relu()), config, tmp_path, SILENCE)
    assert built.not_executed == sentence


def test_check_says_which_tensorrt_and_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    version = rtx().__version__
    monkeypatch.setattr(platform, "probe", lambda: NoGpu("none"))
    monkeypatch.setattr(platform, "load", lambda name: rtx() if name == "tensorrt_rtx" else None)
    assert TensorRTExporter().check(ExportConfig("trt", compute_capabilities=("sm_89",))) == (
        f"TensorRT is not installed, so TensorRT for RTX {version} builds ahead of time for named compute "
        "capabilities: sm_89",
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(RTX, form=Form.PLUGIN, precision=Precision.INT8), "--form plugin exists in fp32 and fp16"),
        (
            replace(RTX, compute_capabilities=("sm_75",), precision=Precision.INT8),
            "int8 cannot be built for sm_75: .*convolves in fp16",
        ),
        (
            replace(RTX, compute_capabilities=("sm_80",), precision=Precision.FP8),
            "fp8 cannot be built for sm_80",
        ),
        (replace(RTX, compute_capabilities=("sm_90",)), "cannot build for sm_90"),
    ],
)
def test_check_refuses_before_anything_is_built(config: ExportConfig, words: str) -> None:
    rtx()
    with pytest.raises(InputError, match=words):
        TensorRTRTXExporter().check(config)


def test_check_without_any_builder_is_exit_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "load", lambda name: None)
    with pytest.raises(CapabilityError, match=r'pip install "scconv-deploy\[trt-rtx\]"'):
        TensorRTExporter().check(ExportConfig("trt"))
    assert TensorRTExporter().versions() == {}


def test_tensorrt_itself_builds_for_its_own_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the choice is tested: no machine with TensorRT and a GPU was at hand (2026-11-22)."""
    enterprise = type("tensorrt", (), {"__version__": "10.13"})
    monkeypatch.setattr(platform, "load", lambda name: enterprise if name == "tensorrt" else None)
    monkeypatch.setattr(platform, "probe", lambda: Gpu("H200", "sm_90"))
    assert TensorRTExporter().check(ExportConfig("trt")) == (
        "TensorRT 10.13 builds for this machine's H200 (sm_90): sm_90",
    )
    with pytest.raises(InputError, match="not for 'sm_89'"):
        TensorRTExporter().check(ExportConfig("trt", compute_capabilities=("sm_89",)))


def test_a_refused_graph_leaves_no_files(tmp_path: Path) -> None:
    rtx()
    broken = conv_relu()
    broken.graph.node[1].op_type = "Det"
    with pytest.raises(BuildError, match=r"layer1\.0\.conv2/Relu_1"):
        TensorRTRTXExporter().build(_traced(broken), RTX, tmp_path, SILENCE)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_files(tmp_path: Path) -> None:
    rtx()
    chain = TracedGraph(conv_chain(30), (TensorSpec("x", "float32", (1, 32, 32, 32)),), (), 20)
    with pytest.raises(KeyboardInterrupt):
        TensorRTRTXExporter().build(chain, RTX, tmp_path, Recorder(KeyboardInterrupt(), at=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("layers", "note"), [(None, "wrote no layer log"), ("Layers:\nnew format", "could not be read")]
)
def test_a_report_that_cannot_be_made_costs_a_note_and_not_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: str | None, note: str
) -> None:
    rtx()
    plan = Plan(b"plan", layers, {}, [], 0.1, ("a warning",))
    monkeypatch.setattr(BuildProcess, "plan", lambda *arguments: plan)
    built = TensorRTRTXExporter().build(_traced(conv_relu()), RTX, tmp_path, SILENCE)
    assert built.primary.read_bytes() == b"plan"
    assert built.kernel_report is None
    assert note in built.notes[0]
    assert built.notes[-1] == "a warning"


class _Residual(nn.Module):
    """A convolution, a deploy block and a shortcut; the form of the graph follows the style."""

    def __init__(self, channels: int, style: GraphStyle) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        half, quarter = channels // 2, channels // 4
        squeeze, point = ConvSpec(half, quarter), ConvSpec(quarter, channels)
        gwc = ConvSpec(quarter, channels, (3, 3), padding=(1, 1), groups=2, bias=True)
        merge = ConvSpec(quarter, channels - quarter)
        spec = SCConvSpec(
            SRUSpec(
                channels,
                Norm.GROUP_NORM,
                4,
                1e-5,
                GammaWeight.SUM,
                Gate.SOFT,
                Comparison.GT,
                0.5,
            ),
            CRUSpec(half, half, squeeze, squeeze, gwc, point, merge),
        )

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        weights = {
            "gamma": random(channels),
            "beta": random(channels),
            "squeeze_up.weight": random(quarter, half, 1, 1),
            "squeeze_low.weight": random(quarter, half, 1, 1),
            "gwc.weight": random(channels, quarter // 2, 3, 3),
            "gwc.bias": random(channels),
            "pwc1.weight": random(channels, quarter, 1, 1),
            "pwc2.weight": random(channels - quarter, quarter, 1, 1),
        }
        self.conv = nn.Conv2d(channels, channels, 1)
        self.block = DeploySCConv(spec, weights, style)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.block(torch.relu(self.conv(x)))
        return torch.relu(x + y)


def _cost(style: GraphStyle) -> tuple[int, int]:
    net = nn.Sequential(_Residual(64, style), _Residual(64, style)).eval()
    with torch.no_grad():
        program = torch.onnx.export(
            with_block_operators(net, can_emit),
            (torch.zeros(1, 64, 28, 28),),
            dynamo=True,
            opset_version=20,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto  # made anew by every read
    assert expand_blocks(model) == 2
    request = BuildRequest((), ("sm_89",))
    plan = build_plan(rtx_platform(), model.SerializeToString(), request, SILENCE)
    counted = report(read_kernels(plan.layers or ""), ())
    return counted.kernels, counted.bytes_moved


def test_the_style_is_the_cheapest_that_the_builder_makes() -> None:
    rtx()
    chosen = TensorRTRTXExporter().style(RTX)
    best = _cost(chosen)
    turned: dict[str, bool | int] = {
        "where_mask": False,
        "centred_norm": False,
        "cru_convolutions": 5,
    }
    for field, value in turned.items():
        other = _cost(replace(chosen, **{field: value}))  # type: ignore[arg-type]
        # Kernels only: which form moves fewer bytes depends on the net (exporters.trt.forms has ResNet-50's).
        assert best[0] <= other[0], f"{field} should be turned round: {other} against {best}"


def test_a_quiet_engine_gets_its_report_from_a_second_build(tmp_path: Path) -> None:
    """Below detailed verbosity the builder logs no kernels, so nobody would know what was built."""
    rtx()
    loud, quiet = tmp_path / "loud", tmp_path / "quiet"
    loud.mkdir()
    quiet.mkdir()
    detailed = TensorRTRTXExporter().build(_traced(conv_relu()), RTX, loud, SILENCE)
    config = replace(RTX, tensorrt=TensorRTOptions(profiling_verbosity=Verbosity.NONE))
    silent = TensorRTRTXExporter().build(_traced(conv_relu()), config, quiet, SILENCE)
    assert silent.kernel_report is not None
    assert detailed.kernel_report is not None
    assert silent.kernel_report.kernels == detailed.kernel_report.kernels
    assert silent.primary.read_bytes() != detailed.primary.read_bytes()
    assert any("that of a second build" in note for note in silent.notes)
    assert not any("that of a second build" in note for note in detailed.notes)


def test_several_builds_are_reported_and_static_ones_are_the_same_bytes(tmp_path: Path) -> None:
    rtx()
    config = replace(RTX, tensorrt=TensorRTOptions(builds=3, keep=Keep.BYTES))
    built = TensorRTRTXExporter().build(_traced(conv_relu()), config, tmp_path, SILENCE)
    spread = built.details["builds"]
    assert isinstance(spread, dict)
    assert (spread["builds"], spread["different_engines"], spread["unit"]) == (3, 1, "bytes moved")
    assert built.notes[0].startswith("all 3 builds gave the same engine, byte for byte")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["model.engine", "model.onnx"]


def test_an_option_that_the_platform_lacks_is_refused_by_the_check_and_by_the_build(tmp_path: Path) -> None:
    rtx()
    config = replace(RTX, tensorrt=TensorRTOptions(version_compatible=True))
    with pytest.raises(CapabilityError, match="cannot honour --versionCompatible"):
        TensorRTRTXExporter().check(config)
    with pytest.raises(CapabilityError, match="cannot honour --versionCompatible"):
        TensorRTRTXExporter().build(_traced(conv_relu()), config, tmp_path, SILENCE)
    assert list(tmp_path.iterdir()) == []
