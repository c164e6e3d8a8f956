"""Conv + BatchNorm and SCConv + BatchNorm are folded exactly where nobody could tell, and nowhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.fold import fold_batch_norms
from scconv_deploy.scconv.reference import ReferenceSCConv, constants
from scconv_deploy.scconv.spec import Order, SCConvSpec
from tests.scconv.axes import base
from tests.scconv.test_deploy import reference_of

TOLERANCE = 1e-12


def randomised(module: nn.Module) -> nn.Module:
    """Float64, eval mode, with running statistics and affine parameters that are not 0 and 1."""
    torch.manual_seed(0)
    module = module.double().eval()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module


def folded(module: nn.Module, *example: Tensor) -> tuple[tuple[tuple[str, str], ...], float]:
    """The folds made in a copy, and the copy's largest difference from the module."""
    changed = copy.deepcopy(module)
    pairs = fold_batch_norms(changed, example)
    others = [torch.randn_like(t) for t in example]
    worst = 0.0
    with torch.no_grad():
        for given in (example, others):
            want, got = module(*given), changed(*given)
            flat = [(want, got)] if isinstance(want, Tensor) else list(zip(want, got, strict=True))
            worst = max(worst, *(float((a - b).abs().max()) for a, b in flat))
    return pairs, worst


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


CONVS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv1d": (lambda: nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)), (2, 4, 9)),
    "Conv2d": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)), (2, 4, 9, 9)),
    "Conv2d grouped, no bias": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6)),
        (2, 4, 9, 9),
    ),
    "Conv2d reflect": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(6)),
        (2, 4, 9, 9),
    ),
    "Conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)), (2, 2, 5, 5, 5)),
    "BN without affine": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False)),
        (2, 4, 9, 9),
    ),
    "ConvTranspose1d": (lambda: nn.Sequential(nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6)), (2, 4, 9)),
    "ConvTranspose2d grouped": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6)),
        (2, 4, 5, 5),
    ),
    "ConvTranspose2d dense, no bias": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)),
        (2, 4, 5, 5),
    ),
    "two pairs": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        ),
        (2, 4, 9, 9),
    ),
}


@pytest.mark.parametrize("name", CONVS)
def test_folds_that_are_exact(name: str) -> None:
    make, shape = CONVS[name]
    module = randomised(make())
    pairs, error = folded(module, image(*shape))
    assert len(pairs) == (2 if name == "two pairs" else 1)
    assert pairs[0] == ("0", "1")
    assert error <= TOLERANCE


@pytest.mark.parametrize("spec", [base(), SCConvSpec(None, base().cru)], ids=["SRU + CRU", "CRU"])
def test_scconv_and_batch_norm(spec: SCConvSpec) -> None:
    block = DeploySCConv(spec, constants(reference_of(spec)))
    module = randomised(nn.Sequential(block, nn.BatchNorm2d(8)))
    pairs, error = folded(module, image(2, 8, 6, 5))
    assert pairs == (("0", "1"),)
    assert error <= TOLERANCE


def test_a_wrong_constant_would_be_seen() -> None:
    """The broken twin: the same fold with one constant off."""
    module = randomised(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    changed = copy.deepcopy(module)
    x = image(2, 4, 9, 9)
    fold_batch_norms(changed, (x,))
    with torch.no_grad():
        changed[0].bias[0] += 1e-3
        assert (changed(x) - module(x)).abs().max() > 1e-4


@pytest.mark.parametrize(
    "spec", [SCConvSpec(base().sru, None), SCConvSpec(base().sru, base().cru, Order.CRU_SRU)]
)
def test_a_block_that_ends_with_the_sru_is_left(spec: SCConvSpec) -> None:
    block = DeploySCConv(spec, constants(reference_of(spec)))
    module = randomised(nn.Sequential(block, nn.BatchNorm2d(8)))
    assert folded(module, image(2, 8, 6, 5)) == ((), 0.0)


class Pair(nn.Module):
    """A convolution and its BatchNorm; subclasses do something else with them as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)


class ConvTwice(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(self.conv(x)))


class NormTwice(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.bn(self.conv(x)))


class AlsoReturned(Pair):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return self.bn(y), y


class AlsoAdded(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y


class AlsoTransposed(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y.mT.mT


class AlsoThroughData(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y.data


class ChangedInPlace(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += 1.0
        return self.bn(y)


class ChangedByItem(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y[:, 0] = 0.0
        return self.bn(y)


class NormWeightReadElsewhere(Pair):
    """An SCConv-like unit that weighs channels by the BatchNorm's own gamma."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) * (self.bn.weight / sum(self.bn.weight)).view(1, -1, 1, 1)


class ConvWeightReadElsewhere(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + F.conv2d(x, self.conv.weight, padding=1)


class SharedWeight(Pair):
    """Two convolutions with one Parameter: only one of them has a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(4, 4, 3, padding=1)
        self.other.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.other(x)


class Between(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(torch.relu(self.conv(x)))


class StandardisedConv(nn.Conv2d):
    """Weight standardisation: a factor put into the weight is taken out again."""

    def forward(self, x: Tensor) -> Tensor:
        w = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std(
            (1, 2, 3), keepdim=True
        )
        return F.conv2d(x, w, self.bias)


class ActivatedNorm(nn.BatchNorm2d):
    """A BatchNorm with its activation inside."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def hooked() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    module[1].register_forward_hook(lambda _m, _x, y: y * 2)
    return module


def weight_normed(old: bool) -> nn.Module:
    norm = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4))


LEFT: dict[str, Callable[[], nn.Module]] = {
    **{c.__name__: c for c in Pair.__subclasses__() if c is not SharedWeight},
    "weight-standardising convolution": lambda: nn.Sequential(StandardisedConv(4, 4, 3), nn.BatchNorm2d(4)),
    "BatchNorm with activation": lambda: nn.Sequential(nn.Conv2d(4, 4, 3), ActivatedNorm(4)),
    "hook on the BatchNorm": hooked,
    "weight_norm": lambda: weight_normed(old=False),
    "weight_norm by hook": lambda: weight_normed(old=True),
    "no running statistics": lambda: nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "BatchNorm before": lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)),
}


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_pairs_that_are_left_alone(name: str) -> None:
    module, x = randomised(LEFT[name]()), image(2, 4, 7, 7)
    with torch.no_grad():
        module(x)  # a hook-made weight can be copied only after a run without gradients
    assert folded(module, x) == ((), 0.0)


def test_a_shared_weight_stays_right_whatever_is_done() -> None:
    _, error = folded(randomised(SharedWeight()), image(2, 4, 7, 7))
    assert error <= TOLERANCE


def test_a_batch_norm_in_train_mode_is_left() -> None:
    module = randomised(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    module[1].train()
    assert fold_batch_norms(copy.deepcopy(module), (image(2, 4, 7, 7),)) == ()


def test_a_block_used_at_two_places_is_left() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = DeploySCConv(base(), constants(reference_of(base())))
            self.again = self.block
            self.bn = nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.again(self.block(x)))

    assert folded(randomised(Twice()), image(2, 8, 5, 5)) == ((), 0.0)


def test_shape_reads_do_not_count() -> None:
    class Shapes(Pair):
        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            assert y.shape[1] == y.size(1) == 4
            assert y.dtype is x.dtype
            return self.bn(y).reshape(y.shape[0], -1)

    pairs, error = folded(randomised(Shapes()), image(2, 4, 7, 7))
    assert pairs == (("conv", "bn"),)
    assert error <= TOLERANCE


def test_float32_constants_are_rounded_once() -> None:
    module = randomised(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    narrow = copy.deepcopy(module).float()
    fold_batch_norms(narrow, (image(2, 4, 7, 7).float(),))
    wide = copy.deepcopy(module).float().double()
    fold_batch_norms(wide, (image(2, 4, 7, 7),))
    assert torch.equal(narrow[0].weight, wide[0].weight.float())


def test_the_reference_is_no_deploy_module() -> None:
    """Only our own deploy module has the place for a folded BatchNorm."""
    module = randomised(nn.Sequential(ReferenceSCConv(base()), nn.BatchNorm2d(8)))
    assert folded(module, image(2, 8, 5, 5)) == ((), 0.0)
