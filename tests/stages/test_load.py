"""Every kind of source loads, or is refused in one sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from scconv_deploy.checkpoint.kinds import Kind
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import CapabilityError, InputError, UntrustedCodeError
from scconv_deploy.scconv import zoo
from scconv_deploy.stages import load
from tests.checkpoint.files import hostile
from tests.checkpoint.test_kinds import written

DIGITS = Path(__file__).parents[2] / "samples" / "digits"
SMALL = {"width": 16, "blocks": [1, 1, 1]}


def make_net() -> nn.Module:
    """The factory these tests name."""
    return zoo.build("scconv_resnet20", **SMALL)  # type: ignore[arg-type]


def make_nothing() -> None:
    """A factory that returns no module."""


def make_error() -> nn.Module:
    """A factory that raises."""
    raise ZeroDivisionError("no width given")


NO_FACTORY = 7


def config(**changes: object) -> ExportConfig:
    return ExportConfig(target="onnx", **changes)  # type: ignore[arg-type]


def factory(name: str) -> ExportConfig:
    return config(factory=f"{__name__}:{name}")


def own(path: Path, **changes: object) -> Path:
    """A checkpoint of our own format, with entries replaced (None takes one out)."""
    content = {
        "format": "scconv-deploy/1",
        "architecture": "scconv_resnet20",
        "settings": SMALL,
        "state_dict": make_net().state_dict(),
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 32, 32]}],
        **changes,
    }
    torch.save({k: v for k, v in content.items() if v is not None}, path)
    return path


def test_our_own_format_needs_no_flag() -> None:
    source = load.run(DIGITS / "model.pt", config())
    assert source.kind == "scconv-deploy/1 checkpoint"
    assert source.inputs[0].name == "image"
    assert source.sha256 is not None
    assert len(source.sha256) == 64
    assert source.notes == ()


def test_a_pickled_module_needs_trust() -> None:
    with pytest.raises(UntrustedCodeError, match="--trust digits_net"):
        load.run(DIGITS / "pickled.pt", config())
    with pytest.raises(UntrustedCodeError):
        load.run(DIGITS / "pickled.pt", config(trust=("another_module",)))
    source = load.run(DIGITS / "pickled.pt", config(trust=("digits_net",)))
    assert type(source.module).__name__ == "DigitsNet"
    assert source.architecture == "digits_net.DigitsNet"


@pytest.mark.parametrize("kind", ["zip", "legacy", "module", "dotted", "imported", "plain pickle"])
@pytest.mark.parametrize("trust", [(), ("digits_net",)])
def test_no_payload_runs(kind: str, trust: tuple[str, ...], tmp_path: Path) -> None:
    witness = tmp_path / "was-executed"
    with pytest.raises(InputError):
        load.run(hostile(kind, tmp_path / "model.pt", witness), config(trust=trust))
    assert not witness.exists()


@pytest.mark.parametrize(
    "wrap", ["bare", "state_dict", "model_state_dict", "DataParallel", "compiled", "legacy"]
)
def test_weights_with_a_factory(wrap: str, tmp_path: Path) -> None:
    net, path = make_net(), tmp_path / "weights.pt"
    state: object = net.state_dict()
    if wrap in ("state_dict", "model_state_dict"):
        state = {wrap: state, "epoch": 3}
    elif wrap == "DataParallel":
        state = {f"module.{k}": v for k, v in net.state_dict().items()}
    elif wrap == "compiled":
        state = {f"module._orig_mod.{k}": v for k, v in net.state_dict().items()}
    torch.save(state, path, _use_new_zipfile_serialization=wrap != "legacy")
    source = load.run(path, factory("make_net"))
    assert source.architecture == f"{__name__}:make_net"
    for name, tensor in net.state_dict().items():
        assert torch.equal(source.module.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("make_nothing", "returned a NoneType, not a torch.nn.Module"),
        ("make_error", "raised ZeroDivisionError: no width given"),
        ("NO_FACTORY", "is not callable"),
        ("missing", "has no 'missing'"),
    ],
)
def test_factories_that_do_not_work(name: str, message: str, tmp_path: Path) -> None:
    torch.save(make_net().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=message):
        load.run(tmp_path / "weights.pt", factory(name))


def test_weights_alone_ask_for_a_factory(tmp_path: Path) -> None:
    torch.save(make_net().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"--factory package\.module:callable"):
        load.run(tmp_path / "weights.pt", config())


@pytest.mark.parametrize("fault", ["shape", "missing", "unexpected"])
def test_weights_that_do_not_fit(fault: str, tmp_path: Path) -> None:
    state = make_net().state_dict()
    name = next(iter(state))
    if fault == "shape":
        state[name] = torch.zeros(3)
    elif fault == "missing":
        del state[name]
    else:
        state["surplus.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"surplus\.weight" if fault == "unexpected" else name):
        load.run(tmp_path / "weights.pt", factory("make_net"))


@pytest.mark.parametrize("kind", [Kind.UNKNOWN])
def test_other_kinds_are_refused_by_name(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=kind.value.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")
    ):
        load.run(written(kind, tmp_path / "model.pt"), config())


def test_safetensors(tmp_path: Path) -> None:
    path = written(Kind.SAFETENSORS, tmp_path / "w.safetensors")
    try:
        import safetensors
    except ImportError:
        with pytest.raises(CapabilityError, match="pip install safetensors"):
            load.run(path, factory("make_net"))
        return
    assert safetensors
    with pytest.raises(InputError, match="do not fit"):
        load.run(path, factory("make_net"))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, torch.zeros(2), {"a": {"b": torch.zeros(1)}}])
def test_checkpoints_without_a_model(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match="without a module or state_dict"):
        load.run(tmp_path / "model.pt", config())


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": None},
        {"settings": None},
        {"state_dict": None},
        {"settings": [1]},
        {"state_dict": 5},
        {"inputs": [{"name": "x"}]},
        {"inputs": 5},
        {"architecture": "scconv_resnet21"},
        {"settings": {"widht": 16}},
        {"state_dict": {"stem": 5}},
    ],
)
def test_own_checkpoints_that_are_wrong(changes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load.run(own(tmp_path / "model.pt", **changes), config())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("place", ["memory", "file"])
def test_other_widths_become_float32_and_are_noted(dtype: torch.dtype, place: str, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(dtype)
    if place == "file":
        torch.save(net, tmp_path / "model.pt")
    source = load.run(net if place == "memory" else tmp_path / "model.pt", config())
    assert {t.dtype for t in source.module.parameters()} == {torch.float32}
    assert "converted to float32" in source.notes[0]
    assert str(dtype).removeprefix("torch.") in source.notes[0]
    assert next(net.parameters()).dtype is dtype  # the user's own module is never changed
    assert torch.equal(source.module[0].weight, net[0].weight.float())  # type: ignore[index, union-attr]


def test_a_module_in_memory_is_taken_as_it_is() -> None:
    net = make_net()
    assert load.run(net, config()).module is net
