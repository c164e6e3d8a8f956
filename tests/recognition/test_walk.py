"""Whole trees: every representable row is certified, every near miss left with a reason, nothing modified."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from scconv_deploy.recognition.equality import proved_equal
from scconv_deploy.recognition.walk import recognise
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.reference import ReferenceSCConv, family_spec
from scconv_deploy.scconv.reference.families import FAMILIES
from scconv_deploy.scconv.spec import SCConvSpec
from tests.recognition import wild

C = 16

SWEEP: list[tuple[str, dict[str, object]]] = [
    *((family, {}) for family in FAMILIES),
    ("F3", {"gate": "hard"}),
    ("F3", {"gate": "complement_soft", "comparison": "ge"}),
    ("F1", {"gate": "soft"}),
    ("F1", {"comparison": "gt"}),
    ("F3", {"comparison": "ge"}),
    ("F3", {"threshold": 0.6}),
    ("F1", {"threshold": 0.3}),
    ("F0", {"threshold": 0.05}),
    ("F0", {"comparison": "ge", "threshold": 0.25}),
    ("F3", {"gamma_weight": "abs_sum"}),
    ("F3", {"gamma_weight": "softmax"}),
    ("F3", {"gamma_weight": "none"}),
    ("F1", {"gamma_weight": "softmax"}),
    ("F1", {"gamma_weight": "abs_sum"}),
    ("F3", {"weight_eps": 1e-5}),
    ("F1", {"weight_eps": 1e-8}),
    ("F3", {"weight_clamp": 1e-6}),
    ("F3", {"gated": "normalised"}),
    ("F1", {"reconstruct": "within"}),
    ("F3", {"reconstruct": "within"}),
    ("F3", {"groups": 1, "eps": 1e-3}),
    ("F2", {"groups": 16, "eps": 1e-5}),
    ("F1", {"groups": 6}),
    ("paper", {"y2_order": "low_pwc2"}),
    ("F2", {"fuse": "pair"}),
    ("F3", {"order": "cru_sru"}),
    ("F1", {"order": "cru_sru", "threshold": 0.55}),
    ("F2", {"order": "cru_sru"}),
]


def varied(family: str, changes: dict[str, object]) -> SCConvSpec:
    """The family's specification with some axes changed; strings become the axis's own enum."""
    spec = family_spec(family, C)
    assert spec.sru is not None
    assert spec.cru is not None
    sru, cru = spec.sru, spec.cru
    for axis, value in changes.items():
        if hasattr(sru, axis):
            sru = replace(sru, **{axis: type(getattr(sru, axis))(value) if axis != "weight_clamp" else value})
        elif hasattr(cru, axis):
            cru = replace(cru, **{axis: type(getattr(cru, axis))(value)})
    order = type(spec.order)(changes.get("order", spec.order))
    return SCConvSpec(sru, cru, order)


@pytest.mark.parametrize(("family", "changes"), SWEEP, ids=lambda v: str(v).replace("'", ""))
def test_every_axis_value_is_recognised(family: str, changes: dict[str, object]) -> None:
    spec = varied(family, changes)
    torch.manual_seed(1)
    module = ReferenceSCConv(spec)
    found = recognise(nn.Sequential(nn.Conv2d(3, C, 1), module))
    assert [b.path for b in found.blocks] == ["1"], found.left_as_is
    assert proved_equal(found.blocks[0].spec, spec)
    assert found.blocks[0].certificate.worst_error < 1e-6


WILD: list[tuple[str, Callable[[], nn.Module], str]] = [
    ("F0", lambda: wild.Both(wild.StaticMaskUnit(C), wild.TwoBranch(C)), "F0"),
    ("F1", lambda: wild.Both(wild.HardUnit(C), wild.TwoBranch(C)), "F1"),
    ("flat groups", lambda: wild.Both(wild.HardUnit(24, 16), wild.TwoBranch(24)), "F1"),
    ("F2", lambda: wild.Both(wild.HardUnit(C, 4, on_norm=True), wild.TwoBranch(C)), "F2"),
    ("F3", lambda: wild.Both(wild.SoftUnit(C), wild.TwoBranch(C)), "F3"),
    ("CRU first", lambda: wild.Both(wild.TwoBranch(C), wild.SoftUnit(C)), "custom (F3 with CRU before SRU)"),
    ("SRU only", lambda: wild.SoftUnit(C), "F3 (SRU only)"),
    ("CRU only", lambda: wild.TwoBranch(C), "CRU only"),
    ("low branch first", lambda: wild.LowFirst(C), "CRU only"),
    ("low branch first, in a block", lambda: wild.Both(wild.SoftUnit(C), wild.LowFirst(C)), "F3"),
    ("alpha 1/4", lambda: wild.Both(wild.SoftUnit(C), wild.TwoBranch(C, ratio=0.25)), "F3"),
    ("threshold Parameter", lambda: wild.ThresholdParameterUnit(C, 0.5), "F3 (SRU only)"),
    (
        "threshold 0.6 Parameter",
        lambda: wild.ThresholdParameterUnit(C, 0.6),
        "custom (F3 (SRU only) with threshold 0.6)",
    ),
    (
        "in != out, stride",
        lambda: wild.Both(wild.SoftUnit(C), wild.TwoBranch(C, 24, 0.25, stride=2)),
        "custom (F3 with stride 2 on squeeze_up, stride 2 on squeeze_low)",
    ),
    (
        "flat functional",
        wild.FlatEverything,
        "custom (paper with eps 0.001, joint fuse)",
    ),
    ("dead parameters", wild.DeadWeight, "F3"),
    (
        "full PWC2, reflect",
        lambda: wild.TwoBranch(C, full=True, mode="reflect", k=5),
        "custom (CRU only, with Y2 order pwc2_only, reflect padding)",
    ),
    (
        "complement-soft",
        lambda: wild.ComplementUnit(C),
        "custom (F1 (SRU only) with norm group_norm, gamma weight abs_sum, complement_soft gate, "
        "1e-05 added to the gamma sum)",
    ),
    (
        "clamped sum, functional norm",
        lambda: wild.WithinUnit(C),
        "custom (paper (SRU only) with within reconstruction, a clamped gamma sum)",
    ),
]


@pytest.mark.parametrize(("make", "variant"), [row[1:] for row in WILD], ids=[row[0] for row in WILD])
def test_copies_in_the_wild_are_named(make: Callable[[], nn.Module], variant: str) -> None:
    torch.manual_seed(2)
    module = make().eval()
    found = recognise(module)
    assert [b.variant for b in found.blocks] == [variant], found.left_as_is
    assert not found.left_as_is
    block = found.blocks[0]
    part = module.get_submodule(block.path)
    tensors = dict(module.state_dict())
    deployed = DeploySCConv(block.spec, {role: tensors[name] for role, name in block.parameters.items()})
    x = torch.randn(2, block.spec.c_in, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), part(x), rtol=1e-4, atol=1e-5)


NEAR_MISSES: list[tuple[str, Callable[[], nn.Module], str]] = [
    (
        "BatchNorm between",
        lambda: wild.Both(wild.SoftUnit(C), wild.TwoBranch(C), nn.BatchNorm2d(C)),
        "batch norm",
    ),
    ("ReLU between", lambda: wild.Both(wild.SoftUnit(C), wild.TwoBranch(C), nn.ReLU()), "a ReLU"),
    ("max pooling", lambda: wild.MaxPooled(C), "global max pooling"),
    ("per-sample threshold", lambda: wild.PerSampleThreshold(C), "different function"),
    ("learned fusion", lambda: wild.LearnedFusion(C), "different function"),
    ("layer in forward", lambda: wild.BuildsInForward(C), "layer is built inside forward"),
    ("lazy layer", lambda: wild.LazyLayer(C), "builds layers or tensors of its own"),
    ("random forward", lambda: wild.AlwaysDropout(C), "random numbers"),
    ("stateful forward", lambda: wild.Counting(C), "rewrites its own state"),
    ("1-D form", lambda: wild.OneDimensional(C), "1-D form"),
    ("Self-Calibrated Convolution", wild.SCConv, "called SCConv but is not"),
    ("Simple Recurrent Unit", wild.SRU, "called SRU but is not"),
    ("odd channels", lambda: wild.OddUnit(15), "odd number of channels"),
    ("doubled output", lambda: wild.Scaled(wild.SoftUnit(C), 2.0), "different function"),
    ("shifted output", lambda: wild.Scaled(wild.SoftUnit(C), 1.0, 1e-3), "different function"),
]


@pytest.mark.parametrize(
    ("make", "reason"), [row[1:] for row in NEAR_MISSES], ids=[row[0] for row in NEAR_MISSES]
)
def test_near_misses_are_left_with_a_reason(make: Callable[[], nn.Module], reason: str) -> None:
    torch.manual_seed(3)
    found = recognise(make())
    assert all(b.path for b in found.blocks), "the near miss itself was accepted"
    assert not any(b.spec.sru and b.spec.cru for b in found.blocks)
    assert len(found.left_as_is) == 1
    assert found.left_as_is[0].path == ""
    assert reason in found.left_as_is[0].reason


def test_units_of_a_near_miss_are_recognised_separately() -> None:
    found = recognise(wild.Both(wild.SoftUnit(C), wild.TwoBranch(C), nn.BatchNorm2d(C)))
    assert [(b.path, b.variant) for b in found.blocks] == [("s", "F3 (SRU only)"), ("t", "CRU only")]


def test_ordinary_networks_are_not_mentioned() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, C, 3),
        nn.GroupNorm(4, C),
        nn.Sigmoid(),
        nn.BatchNorm2d(C),
        wild.ChannelGroupNormalizer(C),
    )
    found = recognise(net)
    assert not found.blocks
    assert not found.left_as_is


def f3() -> nn.Module:
    torch.manual_seed(4)
    return wild.Both(wild.SoftUnit(C), wild.TwoBranch(C))


def test_shared_modules_give_a_block_at_each_path() -> None:
    block = f3()
    net = nn.ModuleDict({"a": nn.Sequential(block, nn.ReLU()), "b": nn.ModuleList([block])})
    found = recognise(net)
    assert [b.path for b in found.blocks] == ["a.0", "b.0"]
    assert found.blocks[1].parameters["gamma"] == "b.0.s.layer1.weight"


def test_wrappers_are_entered() -> None:
    assert [b.path for b in recognise(nn.DataParallel(f3())).blocks] == ["module"]
    assert [b.path for b in recognise(nn.Sequential(nn.Sequential(f3()))).blocks] == ["0.0"]
    compiled = torch.compile(f3())
    assert isinstance(compiled, nn.Module)
    assert [b.path for b in recognise(compiled).blocks] == ["_orig_mod"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_stored_type_and_train_mode(dtype: torch.dtype) -> None:
    found = recognise(f3().to(dtype).train())
    assert [b.variant for b in found.blocks] == ["F3"]


class ScriptableHost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = wild.ThresholdParameterUnit(C)
        self.head = nn.Conv2d(C, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(x))


def test_scripted_blocks_are_recognised_but_not_replaced_inside_a_scripted_parent() -> None:
    part = nn.Sequential(torch.jit.script(wild.ThresholdParameterUnit(C)), nn.ReLU())
    assert [b.variant for b in recognise(part).blocks] == ["F3 (SRU only)"]
    found = recognise(torch.jit.script(ScriptableHost()))
    assert not found.blocks
    assert [item.path for item in found.left_as_is] == ["block"]
    assert "scripted" in found.left_as_is[0].reason


def test_the_users_module_is_not_modified_and_hooks_are_kept() -> None:
    module = f3().half()
    seen: list[int] = []
    handle = module.register_forward_hook(lambda *_: seen.append(1))
    before = copy.deepcopy(module.state_dict())
    versions = [p._version for p in module.parameters()]
    found = recognise(nn.Sequential(module, nn.ReLU()))
    assert found.blocks
    assert versions == [p._version for p in module.parameters()]
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert handle.id in module._forward_hooks


def test_a_hook_that_changes_the_output_is_respected() -> None:
    module = f3()
    module.register_forward_hook(lambda _m, _i, out: out * 2)
    found = recognise(module)
    assert not any(b.path == "" for b in found.blocks)
    assert "forward hook" in found.left_as_is[0].reason


def test_tied_weights_share_a_name() -> None:
    unit = wild.TwoBranch(C)
    unit.c2.weight = unit.c1.weight
    found = recognise(unit)
    assert [b.variant for b in found.blocks] == ["CRU only"]
    assert found.blocks[0].parameters["squeeze_up.weight"] == found.blocks[0].parameters["squeeze_low.weight"]
