"""The reference modules against the equations written a second time, in NumPy, family by family."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from scconv_deploy.errors import InputError
from scconv_deploy.scconv.reference import (
    FAMILIES,
    GroupStdNorm2d,
    ReferenceSCConv,
    constants,
    family_spec,
    scconv,
)
from scconv_deploy.scconv.reference.families import family
from scconv_deploy.scconv.spec import ConvSpec, Norm, SRUSpec
from tests.scconv.axes import gwc

TOLERANCE = 1e-12
BROKEN = 1e-3
Array = np.ndarray


def normalised(x: Array, groups: int, kind: str) -> Array:
    """xhat group by group of one sample after another, from the definitions."""
    out = np.empty_like(x)
    for n, sample in enumerate(x):
        flat = sample.reshape(groups, -1)
        for g, row in enumerate(flat):
            centred = row - row.mean()
            if kind == "group_norm":
                divisor = np.sqrt((centred**2).sum() / row.size + 1e-5)
            else:
                divisor = np.sqrt((centred**2).sum() / (row.size - 1)) + 1e-10
            out[n].reshape(groups, -1)[g] = centred / divisor
    return out


def column(values: Array) -> Array:
    return values.reshape(1, -1, 1, 1)


def crossed(informative: Array, rest: Array) -> Array:
    h = informative.shape[1] // 2
    return np.concatenate([informative[:, :h] + rest[:, h:], informative[:, h:] + rest[:, :h]], axis=1)


def sigmoid(s: Array) -> Array:
    r: Array = 1 / (1 + np.exp(-s))
    return r


def sru_paper(x: Array, gamma: Array, beta: Array, groups: int) -> Array:
    gn = column(gamma) * normalised(x, groups, "group_norm") + column(beta)
    r = sigmoid(column(gamma / gamma.sum()) * gn)
    return crossed(np.where(r > 0.5, x, 0), np.where(r > 0.5, 0, x))


def sru_f0(x: Array, gamma: Array, beta: Array, groups: int) -> Array:
    gn = column(gamma) * normalised(x, groups, "group_std") + column(beta)
    w = column(np.exp(gamma) / np.exp(gamma).sum())
    part = sigmoid(w * gn) * x
    return crossed(np.where(w > 0.5, part, 0), np.where(w <= 0.5, part, 0))


def sru_f1(x: Array, gamma: Array, beta: Array, groups: int) -> Array:
    gn = column(gamma) * normalised(x, groups, "group_std") + column(beta)
    r = sigmoid(column(gamma / gamma.sum()) * gn)
    return crossed((r >= 0.5) * x, (r < 0.5) * x)


def sru_f2(x: Array, gamma: Array, beta: Array, groups: int) -> Array:
    gn = column(gamma) * normalised(x, groups, "group_std") + column(beta)
    r = sigmoid(column(gamma / gamma.sum()) * gn)
    return crossed((r >= 0.5) * gn, (r < 0.5) * gn)


def sru_f3(x: Array, gamma: Array, beta: Array, groups: int) -> Array:
    gn = column(gamma) * normalised(x, groups, "group_norm") + column(beta)
    r = sigmoid(column(gamma / gamma.sum()) * gn)
    return crossed(np.where(r > 0.5, 1, r) * x, np.where(r > 0.5, 0, r) * x)


SRUS: dict[str, Callable[[Array, Array, Array, int], Array]] = {
    "paper": sru_paper,
    "F0": sru_f0,
    "F1": sru_f1,
    "F2": sru_f2,
    "F3": sru_f3,
}


def conv(x: Array, weight: Array, groups: int = 1, bias: Array | None = None) -> Array:
    """Convolution with zero padding that keeps H and W, tap by tap."""
    n, _, h, w = x.shape
    c_out, per_group, k, _ = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((n, c_out, h, w))
    for o in range(c_out):
        first = (o // (c_out // groups)) * per_group
        for i in range(k):
            for j in range(k):
                window = padded[:, first : first + per_group, i : i + h, j : j + w]
                out[:, o] += np.einsum("nchw,c->nhw", window, weight[o, :, i, j])
    return out if bias is None else out + column(bias)


def cru(x: Array, c: dict[str, Array], pair: bool) -> Array:
    half = x.shape[1] // 2
    up, low = conv(x[:, :half], c["squeeze_up.weight"]), conv(x[:, half:], c["squeeze_low.weight"])
    y1 = conv(up, c["gwc.weight"], 2, c["gwc.bias"]) + conv(up, c["pwc1.weight"])
    y2 = np.concatenate([conv(low, c["pwc2.weight"]), low], axis=1)
    e1, e2 = (np.exp(y.mean(axis=(2, 3), keepdims=True)) for y in (y1, y2))
    joint = e1.sum(axis=1, keepdims=True) + e2.sum(axis=1, keepdims=True)
    total = e1 + e2 if pair else joint
    fused: Array = e1 / total * y1 + e2 / total * y2
    return fused


def random_block(name: str, channels: int = 16) -> tuple[ReferenceSCConv, dict[str, Array], Array]:
    torch.manual_seed(3)
    module = scconv(name, channels).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    x = torch.randn(2, channels, 5, 6, dtype=torch.float64)
    roles = {role: tensor.numpy() for role, tensor in constants(module).items()}
    return module, roles, x.numpy()


def sru_output(module: ReferenceSCConv, x: Array) -> Array:
    assert module.sru is not None
    with torch.no_grad():
        return module.sru(torch.from_numpy(x)).numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", FAMILIES)
def test_sru_is_the_equations(name: str) -> None:
    module, roles, x = random_block(name)
    groups = family(name).groups
    expected = SRUS[name](x, roles["gamma"].ravel(), roles["beta"].ravel(), groups)
    assert np.abs(sru_output(module, x) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_no_other_family_passes_for_it(name: str) -> None:
    module, roles, x = random_block(name)
    for other in set(FAMILIES) - {name}:
        different = SRUS[other](x, roles["gamma"].ravel(), roles["beta"].ravel(), family(name).groups)
        if {name, other} == {"paper", "F1"}:
            continue  # they differ by the norm's small print and at the gate's edge only: next two tests
        assert np.abs(sru_output(module, x) - different).max() > BROKEN, other


def test_paper_and_f1_differ_at_the_edge() -> None:
    x = np.ones((1, 16, 4, 4))
    x[:, 8:] = 2.0  # constant in every group: xhat = 0, s = 0, sigmoid = threshold
    results = []
    for name in ("paper", "F1"):
        module, _, _ = random_block(name)
        assert module.sru is not None
        with torch.no_grad():
            module.sru.beta.zero_()
        results.append(sru_output(module, x))
    assert np.array_equal(results[1], x)  # >= : everything is informative
    assert np.array_equal(results[0], x[:, ::-1])  # > : nothing is, and the halves cross


def test_cru_is_equations_6_to_9_with_either_softmax() -> None:
    for name, pair in (("paper", True), ("F3", False)):
        module, roles, x = random_block(name)
        assert module.cru is not None
        with torch.no_grad():
            found = module.cru(torch.from_numpy(x)).numpy()
        assert np.abs(found - cru(x, roles, pair)).max() <= TOLERANCE
        assert np.abs(found - cru(x, roles, not pair)).max() > BROKEN


@pytest.mark.parametrize("name", FAMILIES)
def test_block_is_sru_then_cru(name: str) -> None:
    module, roles, x = random_block(name)
    refined = SRUS[name](x, roles["gamma"].ravel(), roles["beta"].ravel(), family(name).groups)
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    assert np.abs(found - cru(refined, roles, pair=name == "paper")).max() <= TOLERANCE


def test_group_std_norm_differs_from_group_norm_in_the_small_print() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    norm = GroupStdNorm2d(6, 3).double()
    with torch.no_grad():
        norm.scale.fill_(1.0)
        found = norm(x)
        biased = nn.GroupNorm(3, 6, eps=0.0).double()(x)
    assert np.abs(found.numpy() - normalised(x.numpy(), 3, "group_std")).max() <= TOLERANCE
    assert torch.allclose(found * (24 / 23) ** 0.5, biased, rtol=1e-9)  # unbiased: 23 instead of 24
    assert (found - biased).abs().max() > BROKEN


def test_group_std_norm_cuts_flat_groups_across_channels() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 2, 4, dtype=torch.float64)
    norm = GroupStdNorm2d(6, 4).double()  # 48 values in 4 groups of 12: one and a half channels each
    with torch.no_grad():
        norm.scale.fill_(1.0)
        assert np.abs(norm(x).numpy() - normalised(x.numpy(), 4, "group_std")).max() <= TOLERANCE
    with pytest.raises(InputError, match="cannot have 7 groups"):
        GroupStdNorm2d(6, 7)


@pytest.mark.parametrize(
    ("name", "keys", "shape"),
    [
        ("paper", ("weight", "bias"), (16,)),
        ("F0", ("gamma", "beta"), (16, 1, 1)),
        ("F1", ("gamma", "beta"), (16, 1, 1)),
        ("F2", ("weight", "bias"), (16, 1, 1)),
        ("F3", ("weight", "bias"), (16,)),
    ],
)
def test_parameter_names_and_shapes(name: str, keys: tuple[str, str], shape: tuple[int, ...]) -> None:
    state = scconv(name, 16).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items() if k.startswith("sru.")} == {
        f"sru.gn.{key}": shape for key in keys
    }
    assert [k for k in state if k.startswith("cru.") and k.endswith("bias")] == ["cru.gwc.bias"]


def test_gamma_starts_as_in_the_source() -> None:
    torch.manual_seed(0)
    group_norm, group_std = scconv("F3", 16).sru, scconv("F1", 16).sru
    assert group_norm is not None
    assert group_std is not None
    assert torch.equal(group_norm.gamma, torch.ones(16))
    assert group_std.gamma.min() < 0 < group_std.gamma.max()


@pytest.mark.parametrize(("name", "trains"), [("paper", False), ("F0", True), ("F1", False), ("F3", True)])
def test_which_gammas_train(name: str, trains: bool) -> None:
    module = scconv(name, 16)
    module(torch.randn(2, 16, 4, 4)).square().sum().backward()
    assert module.sru is not None
    gradient = module.sru.gamma.grad
    assert (gradient is not None and bool(gradient.abs().max() > 0)) is trains


@pytest.mark.parametrize(("name", "channels", "groups"), [("F1", 8, 8), ("F3", 6, 3), ("paper", 10, 2)])
def test_default_groups_are_lowered_to_legal_ones(name: str, channels: int, groups: int) -> None:
    sru = family_spec(name, channels, squeeze=1, gwc_groups=1).sru
    assert isinstance(sru, SRUSpec)
    assert sru.groups == groups


def test_settings_reach_the_specification() -> None:
    spec = family_spec("F2", 16, groups=2, threshold=0.4, alpha=0.25, squeeze=1, gwc_groups=4, gwc_kernel=5)
    assert spec.sru is not None
    assert spec.cru is not None
    assert (spec.sru.groups, spec.sru.threshold, spec.sru.norm) == (2, 0.4, Norm.GROUP_STD)
    assert (spec.cru.up, spec.cru.low) == (4, 12)
    assert spec.cru.gwc == ConvSpec(4, 16, (5, 5), padding=(2, 2), groups=4, bias=True)


def test_refusals_are_sentences() -> None:
    with pytest.raises(InputError, match="did you mean 'F3'"):
        scconv("F33", 16)
    with pytest.raises(InputError, match="without any"):
        scconv("F3", 4, alpha=0.25, gwc_groups=1)
    with pytest.raises(InputError, match="must be odd"):
        scconv("F3", 16, gwc_kernel=2)
    with pytest.raises(InputError, match="must divide"):
        scconv("F3", 16, gwc_groups=3)
    with pytest.raises(InputError, match="padding mode 'wrap' is unknown"):
        ReferenceSCConv(gwc(3, mode="wrap"))
