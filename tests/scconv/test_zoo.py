"""The zoo: sizes that are known, networks that run, SCConv where it is said to be, refusals in words."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from scconv_deploy.errors import InputError
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference import FAMILIES, ReferenceSCConv
from scconv_deploy.scconv.zoo.__main__ import PAPER, counts, main
from scconv_deploy.scconv.zoo.counts import FUSE_OPS_PER_ELEMENT, SRU_OPS_PER_ELEMENT, count

SMALL = {"width": 8, "blocks": 1, "num_classes": 5}


def test_plain_resnet50_has_its_known_size() -> None:
    found = counts("resnet50")
    assert found.parameters == 25_557_032
    assert found.macs == 4_089_184_256
    assert found.elementwise == 0
    assert round(found.parameters / 1e6, 2) == PAPER["resnet50"].parameters_m
    assert round(found.macs / 1e9, 2) == PAPER["resnet50"].macs_g


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_689_512), ("resnet101", 44_549_160), ("resnet20", 272_474), ("resnet56", 855_770)],
)
def test_plain_counterparts_have_their_known_parameters(name: str, parameters: int) -> None:
    assert counts(name).parameters == parameters


def test_scconv_resnet50_follows_the_formula_and_stays_near_the_paper() -> None:
    plain, found = counts("resnet50"), counts("scconv_resnet50")
    stages = ((64, 3, 56), (128, 4, 28), (256, 6, 14), (512, 3, 7))
    saved = sum(n * (9 - 1.8125) * c * c for c, n, _ in stages)
    added = sum(n * 3 * c for c, n, _ in stages)
    assert found.parameters == plain.parameters - saved + added
    assert found.macs == plain.macs - sum(n * (9 - 1.8125) * c * c * side**2 for c, n, side in stages)
    elements = sum(n * c * side**2 for c, n, side in stages)
    assert found.elementwise == elements * (SRU_OPS_PER_ELEMENT + FUSE_OPS_PER_ELEMENT)
    assert found.scconv_blocks == 16
    # The differences that `python -m scconv_deploy.scconv.zoo` explains.
    assert found.parameters / 1e6 == pytest.approx(PAPER["scconv_resnet50"].parameters_m, rel=0.016)
    assert found.macs / 1e9 == pytest.approx(PAPER["scconv_resnet50"].macs_g, rel=0.034)


def test_counts_follow_a_convolution_and_a_linear_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.Flatten(), nn.Linear(6 * 9, 7))
    found = count(model, (4, 7, 7))
    assert found.macs == 2 * 9 * 6 * 9 + 54 * 7
    assert found.parameters == 6 * 2 * 9 + 6 + 54 * 7 + 7
    assert next(model.parameters()).device.type == "cpu"
    assert not model[0]._forward_hooks


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("scconv_resnet18", 13), ("scconv_resnet20", 16), ("scconv_resnet56", 52), ("scconv_resnet101", 33)],
)
def test_scconv_blocks_are_where_the_docstring_says(name: str, blocks: int) -> None:
    with torch.device("meta"):
        model = zoo.build(name)
    assert sum(isinstance(m, ReferenceSCConv) for m in model.modules()) == blocks
    dense = [
        m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and m.groups == 1
    ]
    # Only a stem and convolutions that change the number of channels remain dense.
    assert all(conv.in_channels != conv.out_channels for conv in dense)


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_small_networks_run_and_train(name: str) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, **SMALL, image=64)
    shape = zoo.default_input(name, {**SMALL, "image": 64})
    assert shape == (3, 64, 64)
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_fits_into_a_network(name: str) -> None:
    model = zoo.build("scconv_resnet20", **SMALL, family=name).eval()
    with torch.no_grad():
        assert torch.isfinite(model(torch.randn(2, 3, 16, 16))).all()


def test_sizes_that_a_bottleneck_takes() -> None:
    basic = zoo.build("scconv_resnet18", **SMALL).eval()
    bottleneck = zoo.build("scconv_resnet50", **SMALL).eval()
    with torch.no_grad():
        assert basic(torch.randn(1, 3, 65, 47)).shape == (1, 5)
        assert bottleneck(torch.randn(1, 3, 96, 64)).shape == (1, 5)
        with pytest.raises(RuntimeError, match="must match the size"):
            bottleneck(torch.randn(1, 3, 72, 64))


def test_settings_survive_json() -> None:
    settings = {"in_channels": 1, "width": 8, "blocks": [2, 1, 1], "family": "paper", "image": 8}
    again = json.loads(json.dumps(settings))
    first, second = (zoo.build("scconv_resnet20", **s).state_dict() for s in (settings, again))
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in second.items()}
    assert zoo.default_input("scconv_resnet20", again) == (1, 8, 8)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("scconv_resnet500", {}, "did you mean 'scconv_resnet50'"),
        ("scconv_resnet50", {"widht": 8}, "did you mean 'width'"),
        ("resnet50", {"family": "F3"}, "no setting 'family'"),
        ("scconv_resnet50", {"family": "F9"}, "family 'F9' is unknown"),
        ("scconv_resnet50", {"family": 3}, "must be a family's name"),
        ("scconv_resnet50", {"width": 0}, "at least 1"),
        ("scconv_resnet50", {"num_classes": True}, "whole number"),
        ("scconv_resnet50", {"alpha": "half"}, "must be a number"),
        ("scconv_resnet50", {"blocks": [1, 2]}, "list of 4 numbers"),
        ("scconv_resnet50", {"blocks": [1, 2, 0, 1]}, "at least 1"),
        ("scconv_resnet50", {"groups": 7}, "divisible by groups"),
    ],
)
def test_refusals_are_sentences(name: str, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        zoo.build(name, **settings)  # type: ignore[arg-type]


def test_printed_reasons_quote_the_computed_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    found = counts("scconv_resnet50")
    assert f"{found.parameters / 1e6:.2f} M and {found.macs / 1e9:.2f} G here" in printed
    assert "16.78 M and 2.70 G published" in printed
    assert all(name in printed for name in zoo.ARCHITECTURES)
