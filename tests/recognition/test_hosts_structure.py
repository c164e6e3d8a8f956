"""Blocks inside any tree: found wherever they are, tied weights stay tied, the user's module stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from scconv_deploy.artifacts import LoweredModel, Recognition, SourceModel, TensorSpec
from scconv_deploy.errors import InputError
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import lower, recognise
from tests.recognition import wild
from tests.recognition.photograph import photograph

C = 8


def f3() -> nn.Module:
    return wild.Both(wild.SoftUnit(C), wild.TwoBranch(C))


def f1() -> nn.Module:
    return wild.Both(wild.HardUnit(C, 4), wild.TwoBranch(C, ratio=0.5, flip=True))


class Deep(nn.Module):
    """Blocks in lists, dictionaries and sequences, some only reached by indexing or by key."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, C, 1)
        self.levels = nn.ModuleList([nn.ModuleDict({"a": f3(), "b": nn.Sequential(nn.ReLU(), f1())})])
        self.tail = nn.Sequential(nn.Sequential(nn.Sequential(f3())), nn.BatchNorm2d(C))
        self.again = self.levels[0]["a"]
        self.unused = f1()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.levels[0]["b"](self.levels[0]["a"](x)) + x
        return self.tail(self.again(x))


def lowered(module: nn.Module, found: Recognition, shape: tuple[int, ...] = (2, 3, 6, 6)) -> LoweredModel:
    inputs = (TensorSpec("x", "float32", shape),)
    source = SourceModel(module, "here", "a module", None, None, inputs)
    dtype = next(p.dtype for p in module.parameters())
    return lower.run(source, found, GraphStyle(), [torch.randn(shape, dtype=dtype)], inputs)


def paths(found: Recognition) -> list[str]:
    return [b.path for b in found.blocks]


def test_nested_anywhere_and_shared_between_places() -> None:
    torch.manual_seed(0)
    module = Deep().eval()
    found = recognise.run(module)
    assert paths(found) == ["levels.0.a", "levels.0.b.1", "tail.0.0.0", "again", "unused"]
    assert not found.left_as_is
    low = lowered(module, found).module
    assert low.get_submodule("again") is low.get_submodule("levels.0.a")
    assert isinstance(low.get_submodule("again"), DeploySCConv)
    x = torch.randn(3, 3, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(low(x), module(x), rtol=1e-4, atol=1e-5)


def wrapped_parallel(net: nn.Module) -> nn.Module:
    return nn.DataParallel(net)


def wrapped_compiled(net: nn.Module) -> nn.Module:
    compiled: nn.Module = torch.compile(net)  # type: ignore[assignment]
    return compiled


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (wrapped_parallel, "module."),
        (wrapped_compiled, "_orig_mod."),
        (lambda net: wrapped_parallel(wrapped_compiled(net)), "module._orig_mod."),
        (lambda net: nn.Sequential(nn.Sequential(net)), "0.0."),
    ],
    ids=["DataParallel", "compiled", "both", "Sequential"],
)
def test_wrapped_parents_are_entered_and_not_run(
    wrap: Callable[[nn.Module], nn.Module], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net = Deep().eval()
    expected = paths(recognise.run(net))

    def called(*_: object) -> None:
        raise AssertionError("the whole network was run")

    monkeypatch.setattr(Deep, "forward", called)
    found = recognise.run(wrap(net))
    assert paths(found) == [prefix + path for path in expected]


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = wild.ThresholdParameterUnit(C)
        self.deep = nn.ModuleList([nn.Sequential(nn.Conv2d(C, C, 1), wild.ThresholdParameterUnit(C))])

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        for part in self.deep:
            x = part(x)
        return x


def test_blocks_in_scripted_parents_are_left_and_named() -> None:
    net = nn.Sequential(f3(), torch.jit.script(Scripted()))
    found = recognise.run(net)
    assert paths(found) == ["0"]
    assert [item.path for item in found.left_as_is] == ["1.one", "1.deep.0.1"]
    assert all("scripted module" in item.reason for item in found.left_as_is)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_stored_type(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = Deep().to(dtype).eval()
    found = recognise.run(module)
    assert len(found.blocks) == 5
    low = lowered(module, found).module
    assert {t.dtype for t in [*low.parameters(), *low.buffers()] if t.is_floating_point()} == {dtype}


def test_train_mode_with_frozen_batch_norm() -> None:
    """As in fine-tuning: the model trains, its BatchNorms do not; the export is of the model in eval mode."""
    torch.manual_seed(0)
    module = Deep().train()
    module.tail[1].eval()
    for parameter in module.tail[1].parameters():
        parameter.requires_grad_(False)
    found = recognise.run(module)
    assert len(found.blocks) == 5
    low = lowered(module, found)
    assert module.training
    assert not module.tail[1].training
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(low.module(x), copy.deepcopy(module).eval()(x), rtol=1e-4, atol=1e-5)


def test_weight_tying_is_kept() -> None:
    torch.manual_seed(0)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, C, 1, bias=False), nn.Conv2d(C, 3, 1, bias=False)
            self.block, self.twin = f3(), f3()
            self.back = nn.Conv2d(3, C, 1, bias=False)
            self.back.weight = self.stem.weight
            self.twin.t.c3.weight = self.block.t.c3.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.twin(self.back(self.head(self.block(self.stem(x))))))

    module = Tied().eval()
    found = recognise.run(module)
    assert paths(found) == ["block", "twin"]
    assert module.back.weight is module.stem.weight
    low = lowered(module, found).module
    assert low.get_submodule("back").weight is low.get_submodule("stem").weight
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(low(x), module(x), rtol=1e-4, atol=1e-5)


def every_convolution(module: nn.Module, change: Callable[[nn.Module], object]) -> nn.Module:
    for part in list(module.modules()):
        if isinstance(part, nn.Conv2d):
            change(part)
    return module


@pytest.mark.parametrize("change", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrised_convolutions(change: Callable[[nn.Module], object]) -> None:
    torch.manual_seed(0)
    module = every_convolution(Deep(), change).eval()
    before = photograph(module)
    found = recognise.run(module)
    assert photograph(module)["modules"] == before["modules"]
    assert [b.variant for b in found.blocks] == [
        "F3",
        "custom (F1 with Y2 order low_pwc2)",
        "F3",
        "F3",
        *_UNUSED,
    ]
    assert not found.left_as_is
    assert isinstance(module.levels[0]["a"].t.c1.parametrizations, nn.ModuleDict)
    low = lowered(module, found).module
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(low(x), module(x), rtol=1e-4, atol=1e-5)
        next(module.levels[0]["a"].t.c1.parametrizations.parameters()).normal_()  # the broken twin
        assert not torch.allclose(low(x), module(x), rtol=1e-4, atol=1e-5)


_UNUSED = ["custom (F1 with Y2 order low_pwc2)"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_set_by_hooks_are_left_and_the_export_says_what_to_do() -> None:
    module = every_convolution(Deep(), nn.utils.weight_norm)
    found = recognise.run(module)
    assert not any(b.spec.cru for b in found.blocks)
    with pytest.raises(InputError, match="remove_weight_norm"):
        lowered(module, found)
    every_convolution(module, nn.utils.remove_weight_norm)
    assert len(recognise.run(module).blocks) == 5


def hooked() -> nn.Module:
    """Hooks that write down who called them."""
    module = Deep()
    calls: list[tuple[str, int]] = []
    module.calls = calls  # type: ignore[assignment]
    module.levels[0]["a"].register_forward_hook(lambda m, *_: calls.append(("hook", id(m))))
    module.levels[0]["b"].register_forward_pre_hook(lambda m, *_: calls.append(("pre", id(m))))
    module.tail[0].register_full_backward_hook(lambda m, *_: calls.append(("backward", id(m))))
    return module


def test_hooks_of_a_block_are_tried_once_on_a_copy() -> None:
    """Only a run with them shows that they leave the output alone; other modules' hooks are not run."""
    module = hooked().eval()
    found = recognise.run(module)
    assert len(found.blocks) == 5
    assert [name for name, _ in module.calls] == ["hook"]
    assert module.calls[0][1] not in {id(m) for m in module.modules()}
    module.calls.clear()
    module(torch.randn(2, 3, 6, 6))
    block = id(module.levels[0]["a"])
    assert module.calls == [("hook", block), ("pre", id(module.levels[0]["b"])), ("hook", block)]
