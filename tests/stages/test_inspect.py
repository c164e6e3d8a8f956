"""Inspection says what a file is and how to export it, quickly, without torch and without running anything."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from scconv_deploy.checkpoint.kinds import Kind
from scconv_deploy.errors import InputError, UntrustedCodeError
from scconv_deploy.stages import inspect, load
from tests.checkpoint.files import hostile
from tests.checkpoint.modelfiles import Plain, config, network, same_outputs, saved
from tests.checkpoint.test_kinds import written

DIGITS = Path(__file__).parents[2] / "samples" / "digits"


def test_our_own_format() -> None:
    found = inspect.run(DIGITS / "model.pt")
    assert found.kind.startswith("scconv-deploy/1 checkpoint")
    assert found.architecture == "scconv_resnet20"
    assert found.inputs[0].shape == ("batch", 1, 8, 8)
    assert len(found.scconv_like) == 6
    assert found.export_command == f"scconv-export {DIGITS / 'model.pt'} --target onnx"


def test_a_pickled_module() -> None:
    found = inspect.run(DIGITS / "pickled.pt")
    assert found.kind.startswith("whole pickled module")
    assert found.architecture == "digits_net.DigitsNet"
    assert found.needs_classes == tuple(
        f"digits_net.{c}" for c in ("Block", "CRU", "DigitsNet", "SRU", "ScConv")
    )
    assert found.scconv_like == ("layer1.sc1", "layer1.sc2", "layer2.sc1", "layer2.sc2")
    assert found.export_command is not None
    assert found.export_command.endswith("--trust digits_net")
    said = " ".join(found.notes)
    assert "22 Conv2d" in said
    assert "family F3 or paper" in said
    assert "without running its code: --factory" in said


@pytest.mark.parametrize(("family", "allowed"), [("F1", "F0|F1"), ("F2", None), ("paper", "F3|paper")])
def test_the_command_for_weights_exports_them(family: str, allowed: str | None, tmp_path: Path) -> None:
    net = network(family)
    found = inspect.run(saved({"state_dict": net.state_dict()}, tmp_path / "w.pt"))
    assert len(found.scconv_like) == 4
    assert found.tensors == len(net.state_dict())
    assert found.notes[0] == "the weights under 'state_dict' were taken"
    words = shlex.split(str(found.export_command))
    assert ("--variant" in words) == (allowed is not None)
    if allowed:
        assert words[words.index("--variant") + 1] == allowed
    chosen = config(factory=words[words.index("--factory") + 1], variant=family)
    assert same_outputs(load.run(tmp_path / "w.pt", chosen).module, net)


def test_an_ultralytics_file(tmp_path: Path) -> None:
    content = {"model": Plain(), "ema": Plain(width=6).half(), "epoch": 1}
    found = inspect.run(saved(content, tmp_path / "y.pt"))
    assert found.dtypes == ("float16",)
    assert "(EMA) under 'ema' were taken, not those under 'model'" in found.notes[0]
    assert "--trust tests.checkpoint.modelfiles" in str(found.export_command)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_it_counts_is_what_torch_counts(legacy: bool, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LSTM(4, 5)).double()
    path = saved(net, tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)
    found = inspect.run(path)
    assert found.tensors == len(net.state_dict())
    assert found.parameters == sum(t.numel() for t in net.state_dict().values())
    assert found.dtypes == ("float64", "int64")
    assert found.needs_classes == ()


def test_other_data_has_no_command(tmp_path: Path) -> None:
    found = inspect.run(saved({"losses": [0.5, 0.25], "epoch": 3}, tmp_path / "log.pt"))
    assert found.export_command is None
    assert "nothing to export" in found.notes[-1]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_described_or_refused(kind: Kind, tmp_path: Path) -> None:
    path = written(kind, tmp_path / "model")
    if kind is Kind.UNKNOWN:
        with pytest.raises(InputError, match="no model of a format known here"):
            inspect.run(path)
    else:
        assert kind.value in inspect.run(path).kind


def test_a_payload_is_named_and_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "was-executed"
    with pytest.raises(UntrustedCodeError, match=r"would call posix\.system"):
        inspect.run(hostile("module", tmp_path / "m.pt", witness))
    assert not witness.exists()


def test_it_needs_no_torch(tmp_path: Path) -> None:
    path = saved(network("F1"), tmp_path / "m.pt")
    code = (
        "import sys; from pathlib import Path; from scconv_deploy.stages import inspect\n"
        f"print(inspect.run(Path({str(path)!r})).architecture); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip().endswith("ResNet")


def test_a_hundred_megabytes_take_less_than_two_seconds(tmp_path: Path) -> None:
    path = saved({f"layer{i}.weight": torch.zeros(1024, 1024) for i in range(25)}, tmp_path / "big.pt")
    start = time.perf_counter()
    assert inspect.run(path).size_bytes > 100e6
    assert time.perf_counter() - start < 2.0


def test_many_names_do_not_take_for_ever() -> None:
    from scconv_deploy.checkpoint.shapes import scconv_prefixes

    shapes = {f"{'a.' * (i % 50)}{i}.weight": (8, 4, 1, 1) for i in range(20_000)}
    start = time.perf_counter()
    assert scconv_prefixes(shapes) == ()
    assert time.perf_counter() - start < 5.0


def test_programs_are_described_without_torch(tmp_path: Path) -> None:
    paths = [
        written(kind, tmp_path / kind.name) for kind in (Kind.TORCHSCRIPT, Kind.EXPORTED_PROGRAM, Kind.ONNX)
    ]
    code = (
        "import sys; from pathlib import Path; from scconv_deploy.stages import inspect\n"
        f"for p in {[str(p) for p in paths]!r}: print(inspect.run(Path(p)).parameters)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["20", "20", "0"]
