"""Weights in every wrapper reach the network they were trained in, or the misfit is said readably."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from scconv_deploy.errors import InputError, UntrustedCodeError
from scconv_deploy.scconv.reference.families import FAMILIES
from scconv_deploy.stages import load
from tests.checkpoint.modelfiles import SMALL_TEXT, Plain, config, network, same_outputs, saved

PLAIN = "tests.checkpoint.modelfiles:Plain"


def plain_state(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {k: torch.full_like(v, value) for k, v in Plain().state_dict().items()}


def prefixed(prefix: str, value: float = 1.0) -> dict[str, torch.Tensor]:
    return {prefix + k: v for k, v in plain_state(value).items()}


WRAPPED: dict[str, Any] = {
    "bare": plain_state(),
    "state_dict": {"state_dict": plain_state(), "epoch": 3, "optimizer": {"state": {}, "param_groups": []}},
    "model_state_dict": {"model_state_dict": plain_state()},
    "model": {"model": plain_state(), "args": "x"},
    "net": {"net": plain_state(), "acc": 0.5},
    "params": {"params": plain_state()},
    "Lightning": {"state_dict": prefixed("model."), "hyper_parameters": {}},
    "Lightning and a loss": {"state_dict": {**prefixed("net."), "criterion.weight": torch.ones(3)}},
    "DataParallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled part": {k.replace("layers.", "layers._orig_mod."): v for k, v in plain_state().items()},
    "DataParallel and compiled in Lightning": {"state_dict": prefixed("model.module._orig_mod.")},
    "profiled": {**plain_state(), "total_ops": torch.zeros(1), "layers.0.total_params": torch.zeros(1)},
    "timm with EMA": {"state_dict": plain_state(0), "state_dict_ema": plain_state()},
    "torchvision with EMA": {
        "model": plain_state(0),
        "model_ema": {"n_averaged": torch.tensor(3), **prefixed("module.")},
    },
    "RT-DETR with EMA": {"model": plain_state(0), "ema": {"module": plain_state(), "updates": 9}},
    "BasicSR with EMA": {"params": plain_state(0), "params_ema": plain_state()},
    "EMA that is off": {"model": plain_state(), "ema": None},
    "two prefixes, one EMA": {"state_dict": {**prefixed("model.", 0), **prefixed("ema_model.")}},
    "a note among the weights": {**plain_state(), "version": 3},
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_every_wrapper(wrap: str, tmp_path: Path) -> None:
    source = load.run(saved(WRAPPED[wrap], tmp_path / "w.pt"), config(factory=PLAIN))
    assert all(torch.equal(p, torch.ones_like(p)) for p in source.module.parameters())
    said = " ".join(source.notes)
    assert ("averaged weights (EMA)" in said or "ema_model." in said) == ("EMA" in wrap and "off" not in wrap)
    assert ("criterion.weight" in said) == (wrap == "Lightning and a loss")


def test_a_prefix_that_the_module_has_and_the_file_has_not(tmp_path: Path) -> None:
    source = load.run(saved(plain_state(), tmp_path / "w.pt"), config(factory=f"{__name__}:wrapped"))
    assert all(torch.equal(p, torch.ones_like(p)) for p in source.module.parameters())


def wrapped() -> nn.Module:
    return nn.DataParallel(Plain())


def test_a_model_prefix_stays_where_the_module_has_it(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Plain()

    globals()["Outer"] = Outer
    source = load.run(saved(prefixed("model."), tmp_path / "w.pt"), config(factory=f"{__name__}:Outer"))
    assert torch.equal(source.module.model.spare.bias, torch.ones(4))  # type: ignore[union-attr, arg-type]
    assert not any("prefix" in note for note in source.notes)


def test_half_precision_weights_are_said(tmp_path: Path) -> None:
    state = {k: v.half() for k, v in plain_state().items()}
    source = load.run(saved(state, tmp_path / "w.pt"), config(factory=PLAIN))
    assert {p.dtype for p in source.module.parameters()} == {torch.float32}
    assert "float16" in source.notes[0]


@pytest.mark.parametrize(
    ("factory", "parameters"),
    [
        (f"{PLAIN}(depth=2, width=8)", {"depth": 2, "width": 8}),
        (f"{PLAIN}()", {}),
        (f" {PLAIN}( width = 2 ) ", {"width": 2}),
    ],
)
def test_factories_take_literal_arguments(factory: str, parameters: dict[str, int], tmp_path: Path) -> None:
    path = saved(Plain(**parameters).state_dict(), tmp_path / "w.pt")
    assert isinstance(load.run(path, config(factory=factory)).module, Plain)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (f"{PLAIN}(depth=__import__('os').system('touch gone'))", "cannot be read"),
        (f"{PLAIN}(depth=2 if True else 3)", "cannot be read"),
        (f"{PLAIN}(2)", "keyword arguments only"),
        (f"{PLAIN}(**{{'depth': 2}})", r"'\*\*' is not allowed"),
        (f"{PLAIN}(depth=2)(3)", "cannot be read"),
        (f"{PLAIN}(depth=", "is no callable"),
        (f"{PLAIN}(colour=2)", "raised TypeError"),
        ("scconv_resnet2", "did you mean 'scconv_resnet20'"),
        ("scconv_resnet20(widht=8)", "did you mean 'width'"),
        ("scconv_resnet20(width={})", "whole number"),
        ("scconv_resnet20(alpha=1e999)", "cannot be built"),
        ("scconv_resnet20(squeeze=1000)", "without any"),
        ("os.system", "do not fit|raised TypeError"),
        ("", "is no callable"),
    ],
)
def test_factories_that_cannot_be_used(factory: str, message: str, tmp_path: Path) -> None:
    path = saved(plain_state(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=message):
        load.run(path, config(factory=factory or " "))
    assert not (Path.cwd() / "gone").exists()


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = plain_state()
    state["spares.weight"] = state.pop("spare.weight")
    state["layers.0.bias"] = torch.zeros(7)
    with pytest.raises(InputError) as caught:
        load.run(saved(state, tmp_path / "w.pt"), config(factory=PLAIN))
    said = str(caught.value)
    assert "1 of 4 tensors are missing (spare.weight)" in said
    assert "1 of 4 in the file are unexpected (spares.weight)" in said
    assert "layers.0.bias is 7 in the file and 4 in the model" in said
    assert "'spares.weight' in the file may be the model's 'spare.weight'" in said


def test_long_lists_are_cut(tmp_path: Path) -> None:
    state = {f"other.{i}": torch.zeros(1) for i in range(500)}
    with pytest.raises(InputError, match="and 496 more") as caught:
        load.run(saved(state, tmp_path / "w.pt"), config(factory=PLAIN))
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_is_told_by_the_user_or_by_the_names(family: str, tmp_path: Path) -> None:
    net = network(family)
    path = saved(net.state_dict(), tmp_path / "w.pt")
    if family == "F2":
        source = load.run(path, config(factory=SMALL_TEXT))
        assert "only F2" in source.notes[0]
    else:
        twins = ("F0", "F1") if family in ("F0", "F1") else ("F3", "paper")
        with pytest.raises(
            InputError, match=rf"add --variant {twins[0]} .*, or --variant {twins[1]} "
        ) as caught:
            load.run(path, config(factory=SMALL_TEXT))
        assert "F2" not in str(caught.value)
        source = load.run(path, config(factory=SMALL_TEXT, variant=family))
    assert same_outputs(source.module, net)
    assert any("defaults of family" in note for note in source.notes)


def test_the_wrong_family_computes_something_else(tmp_path: Path) -> None:
    """The alarm rings: without the refusal, these weights would load and be wrong."""
    path = saved(network("F1").state_dict(), tmp_path / "w.pt")
    assert not same_outputs(load.run(path, config(factory=SMALL_TEXT, variant="F0")).module, network("F1"))


@pytest.mark.parametrize(
    ("factory", "variant", "message"),
    [
        (SMALL_TEXT, "F4", "family 'F4' is unknown"),
        (SMALL_TEXT, "F2", "do not fit"),
        ("scconv_resnet20(blocks=1, family='F0')", "F1", "contradict each other"),
        ("resnet20", "F1", "has no SCConv"),
        (PLAIN, "F1", "the model's own code decide"),
        (None, "F1", "the model's own code decide"),
    ],
)
def test_variants_that_make_no_sense(factory: str | None, variant: str, message: str, tmp_path: Path) -> None:
    path = saved(network("F1").state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=message):
        load.run(path, config(factory=factory, variant=variant))


def test_a_zoo_network_is_known_by_its_weights(tmp_path: Path) -> None:
    path = saved(network("F1").state_dict(), tmp_path / "w.pt")
    with pytest.raises(
        InputError, match=r"--factory 'scconv_resnet20\(blocks=\(1, 1, 1\)\)' --variant F0\|F1"
    ):
        load.run(path, config())


@pytest.mark.parametrize("form", ["whole", "Ultralytics", "Ultralytics without EMA", "legacy", "half"])
@pytest.mark.parametrize("way", ["its own classes", "without code"])
def test_pickled_networks_of_the_zoo(form: str, way: str, tmp_path: Path) -> None:
    net, other = network("F1"), network("F1")
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    content: object = {
        "whole": net,
        "Ultralytics": {"model": other, "ema": net, "epoch": -1},
        "Ultralytics without EMA": {"model": net, "ema": None},
        "legacy": net,
        "half": network("F1").half(),
    }[form]
    path = saved(content, tmp_path / "m.pt", _use_new_zipfile_serialization=form != "legacy")
    factory = None if way == "its own classes" else SMALL_TEXT
    source = load.run(path, config(factory=factory))
    assert same_outputs(source.module, network("F1").half().float() if form == "half" else net)
    said = " ".join(source.notes)
    assert ("EMA" in said or "'ema' was taken" in said) == (form == "Ultralytics")
    assert ("of family F1" in said) == (way == "without code")


def test_attributes_that_contradict_the_network_are_refused(tmp_path: Path) -> None:
    path = saved(network("F3", groups=8, threshold=0.4), tmp_path / "m.pt")
    with pytest.raises(
        InputError, match=r"num_groups of '\S+' is 8 in the file and 4|threshold of|groups of"
    ):
        load.run(path, config(factory=SMALL_TEXT))
    source = load.run(path, config(factory="scconv_resnet20(blocks=(1, 1, 1), groups=8, threshold=0.4)"))
    assert same_outputs(source.module, network("F3", groups=8, threshold=0.4))


def test_a_users_pickled_module_without_its_code(tmp_path: Path) -> None:
    path = saved(Plain(width=5), tmp_path / "m.pt")
    with pytest.raises(UntrustedCodeError, match=r"--trust tests\.checkpoint\.modelfiles"):
        load.run(path, config())
    source = load.run(path, config(factory=f"{PLAIN}(width=5)"))
    assert source.kind.startswith("weights of a pickled module")
    assert torch.equal(source.module.spare.weight, torch.load(path, weights_only=False).spare.weight)  # type: ignore[union-attr]


def test_attributes_that_differ_from_a_users_factory_are_said(tmp_path: Path) -> None:
    net = Plain()
    net.spare.stride = (2, 2)
    source = load.run(saved(net, tmp_path / "m.pt"), config(factory=PLAIN))
    assert any("stride of 'spare' is (2, 2) in the file and (1, 1)" in note for note in source.notes)


def test_functions_of_torch_may_be_kept_but_not_called(tmp_path: Path) -> None:
    net = Plain()
    net.act = torch.nn.functional.relu  # type: ignore[assignment]
    net.other = torch.nn.functional.gelu  # type: ignore[assignment]
    source = load.run(saved(net, tmp_path / "m.pt"), config(trust=("tests.checkpoint.modelfiles",)))
    assert source.module.act is torch.nn.functional.relu


def a_function() -> None:
    """Only classes are given trust."""


def test_a_function_is_not_trusted(tmp_path: Path) -> None:
    path = saved({"state_dict": plain_state(), "f": a_function}, tmp_path / "m.pt")
    with pytest.raises(UntrustedCodeError, match="is no class but a function"):
        load.run(path, config(trust=(__name__,)))
    assert load.run(path, config(factory=PLAIN)).module is not None


def safetensors(state: dict[str, torch.Tensor], path: Path) -> Path:
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in state.items():
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}  # type: ignore[dict-item]
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {f"model.{k}": v.to(dtype) for k, v in Plain().state_dict().items()}
    path = safetensors(state, tmp_path / "m.pt")
    source = load.run(path, config(factory=PLAIN))
    for name, tensor in source.module.state_dict().items():
        assert torch.equal(tensor, state[f"model.{name}"].float())
    library = pytest.importorskip("safetensors.torch", reason="compares with the safetensors package")
    theirs = library.load_file(path)
    assert all(torch.equal(theirs[k], v) for k, v in state.items())


@pytest.mark.parametrize("damage", [7, None, {("a", "b"): nn.Identity()}, {"x": 3}])
def test_a_pickled_module_that_is_damaged(damage: object, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    net[0].__dict__["_modules"] = damage
    path = saved(net, tmp_path / "m.pt")
    with pytest.raises(InputError, match="is damaged"):
        load.run(path, config())
    with pytest.raises(InputError):
        load.run(path, config(factory=SMALL_TEXT, variant="F3"))
