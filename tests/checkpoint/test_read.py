"""Nothing in a checkpoint runs unless it was named, and what runs is what was named."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scconv_deploy.checkpoint.read import import_named, load_weights_only, needed_globals, untrusted
from scconv_deploy.checkpoint.trust import ORDINARY
from scconv_deploy.errors import InputError, ScconvDeployError, UntrustedCodeError
from tests.checkpoint.files import hostile

DIGITS = Path(__file__).parents[2] / "samples" / "digits"
HOSTILE = ("zip", "legacy", "module", "dotted", "imported", "plain pickle")


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    "trust",
    [
        (),
        ("digits_net",),
        ("tests.checkpoint.reexporter",),
        ("tests.checkpoint.files.HostileNet",),
        ("tests.checkpoint.files",),
        ("torch",),
        ("po",),
    ],
)
def test_a_payload_never_runs(kind: str, trust: tuple[str, ...], tmp_path: Path) -> None:
    witness = tmp_path / "was-executed"
    path = hostile(kind, tmp_path / "model.pt", witness)
    with pytest.raises(ScconvDeployError):
        load_weights_only(path, trust)
    assert not witness.exists()


def test_the_payload_works(tmp_path: Path) -> None:
    """The alarm rings: loading the same file naively leaves the witness."""
    witness = tmp_path / "was-executed"
    path = hostile("zip", tmp_path / "model.pt", witness)
    torch.load(path, weights_only=False)
    assert witness.exists()
    witness.unlink()
    pickle.loads(hostile("plain pickle", path, witness).read_bytes())
    assert witness.exists()


def test_reading_needed_globals_runs_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "was-executed"
    names = needed_globals(hostile("module", tmp_path / "model.pt", witness))
    assert "posix.system" in names
    assert "tests.checkpoint.files.HostileNet" in names
    assert not witness.exists()


def test_no_option_is_offered_for_a_system_call(tmp_path: Path) -> None:
    with pytest.raises(UntrustedCodeError, match=r"would call posix.system.*probably hostile") as caught:
        load_weights_only(hostile("zip", tmp_path / "model.pt", tmp_path / "witness"))
    assert "--trust" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "trust", "message"),
    [
        ("imported", "tests.checkpoint.reexporter", "is not defined there but in posix"),
        ("dotted", "digits_net", "cannot import 'digits_net.os'"),
    ],
)
def test_trusting_a_module_does_not_trust_what_it_imports(
    kind: str, trust: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_weights_only(hostile(kind, tmp_path / "m.pt", tmp_path / "w"), (trust,))


def test_torch_layers_need_no_trust(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()), path)
    assert isinstance(load_weights_only(path), nn.Sequential)


def test_a_legacy_checkpoint_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_weights_only(path)["w"], torch.ones(2))


def test_the_option_to_add_is_named() -> None:
    with pytest.raises(UntrustedCodeError, match=r"add --trust digits_net; nothing was executed"):
        load_weights_only(DIGITS / "pickled.pt")


@pytest.mark.parametrize("trust", ["digits_net", "digits_net:ScConv"])
def test_a_module_or_a_class_is_trusted(trust: str) -> None:
    names = [n for n in needed_globals(DIGITS / "pickled.pt") if n.startswith("digits_net")]
    left = untrusted(names, (trust,))
    assert "digits_net.ScConv" not in left
    assert bool(left) == (":" in trust)


def test_trust_is_a_name_not_a_prefix() -> None:
    assert untrusted(["digits_network.Net"], ("digits_net",)) == ("digits_network.Net",)
    assert untrusted(["os.system"], ("", ".")) == ("os.system",)


def test_the_search_path_is_left_as_it_was() -> None:
    import sys

    before = list(sys.path)
    import_named("digits_net:DigitsNet", DIGITS)
    with pytest.raises(InputError):
        import_named("no_such_module_anywhere:thing", DIGITS)
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_anywhere:thing", "cannot import 'no_such_module_anywhere'"),
        ("digits_net:Nothing", "module 'digits_net' has no 'Nothing'"),
        ("nodots", "package.module:callable"),
        ("", "package.module:callable"),
    ],
)
def test_names_that_cannot_be_imported(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_named(name, DIGITS)


@pytest.mark.parametrize("keep", [100, 3000, -1])
def test_damaged_files_are_refused_in_words(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    data = bytearray((DIGITS / "model.pt").read_bytes())
    path.write_bytes(bytes(data[:keep]))
    with pytest.raises(InputError, match=r"model\.pt"):
        load_weights_only(path)


def test_plain_data_is_what_torch_allows_by_itself(tmp_path: Path) -> None:
    """Every name that torch loads without being told stands for data here, so no trust is asked for it."""
    allowed = torch._weights_only_unpickler._get_allowed_globals()
    assert [n for n in allowed if not ORDINARY.fullmatch(n)] == []
    for name in ("torch.load", "torch.hub.load", "torch.nn.Linear", "os.Tensor", "collections.deque"):
        assert not ORDINARY.fullmatch(name)


def test_an_installed_package_is_not_replaced_from_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "wave.py").write_text("raise SystemExit('ran')")
    assert import_named("wave:Wave_read", tmp_path).__module__ == "wave"


@pytest.mark.parametrize("trust", ["subprocess", "builtins", "posix", "os", "torch.hub"])
def test_no_trust_opens_the_system(trust: str, tmp_path: Path) -> None:
    with pytest.raises(UntrustedCodeError, match="probably hostile"):
        load_weights_only(hostile("zip", tmp_path / "m.pt", tmp_path / "witness"), (trust,))
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_numbers_of_numpy_are_data(legacy: bool, tmp_path: Path) -> None:
    content = {
        "w": torch.ones(2),
        "best": np.float64(0.75),
        "curve": np.arange(6, dtype=np.int32).reshape(2, 3),
    }
    torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)
    read = load_weights_only(tmp_path / "m.pt")
    assert read["best"] == 0.75
    assert np.array_equal(read["curve"], content["curve"])
    assert needed_globals(tmp_path / "m.pt") == ()
