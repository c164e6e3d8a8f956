"""Which names need trust, which are never given, and which calls only a forged pickle makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from scconv_deploy.checkpoint.trust import (
    is_system_name,
    is_trusted,
    refuse_odd_call,
    refuse_odd_construction,
    refuse_system_calls,
    trust_options,
    trusted_home,
)
from scconv_deploy.errors import InputError, UntrustedCodeError


@pytest.mark.parametrize(
    "name", ["os", "os.system", "posix.system", "builtins.eval", "torch.load", "torch.hub.load", "numpy.load"]
)
def test_system_names(name: str) -> None:
    assert is_system_name(name)


@pytest.mark.parametrize(
    "name",
    ["osmium.Net", "net.os.Net", "builtins.set", "torch.loader.Net", "torch.nn.Linear", "numpy.ndarray"],
)
def test_names_that_only_look_like_them(name: str) -> None:
    assert not is_system_name(name)


def test_a_system_call_is_refused_by_name_and_an_own_class_is_not() -> None:
    refuse_system_calls(Path("m.pt"), ["net.Net"])
    with pytest.raises(UntrustedCodeError, match=r"m\.pt would call os\.system while") as caught:
        refuse_system_calls(Path("m.pt"), ["net.Net", "os.system"])
    assert "net.Net" not in str(caught.value)


@pytest.mark.parametrize("trust", ["net", "net.blocks", "net:blocks", "net.blocks.SRU", "net.blocks:SRU"])
def test_a_module_and_what_lies_in_it_are_trusted(trust: str) -> None:
    assert is_trusted("net.blocks.SRU", [trust])


@pytest.mark.parametrize("trust", ["", "ne", "net.block", "blocks", "net.blocks.SR", "net.blocks.SRU.x", "*"])
def test_trust_ends_at_a_dot(trust: str) -> None:
    assert not is_trusted("net.blocks.SRU", [trust])


def test_the_options_that_are_offered_are_enough() -> None:
    names = ["net.blocks.SRU", "net.blocks.CRU", "functools.partial", "torch.nn.modules.linear.Linear"]
    options = trust_options(names)
    assert options == "--trust functools.partial --trust net.blocks --trust torch.nn.modules.linear.Linear"
    given = options.replace("--trust ", "").split()
    assert all(is_trusted(n, given) for n in names)
    assert not is_trusted("functools.reduce", given)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("builtins.bytearray", (b"abc",), (1 << 40,)),
        ("numpy.core.multiarray._reconstruct", (object, (0,), b"b"), (object, (1 << 40,), b"b")),
        ("_codecs.encode", ("x", "latin1"), ("x", "zip")),
        ("_codecs.encode", ("x", "latin-1"), ("x",)),
    ],
)
def test_calls_that_a_few_bytes_make_huge(
    name: str, good: tuple[object, ...], bad: tuple[object, ...]
) -> None:
    refuse_odd_call(name, good)
    with pytest.raises(InputError, match="never"):
        refuse_odd_call(name, bad)


def test_only_what_torch_save_writes_is_called_or_constructed() -> None:
    refuse_odd_call("torch._utils._rebuild_tensor_v2", ())
    refuse_odd_call("scconv_deploy.scconv.spec.GateKind", ("soft",))
    refuse_odd_construction("net.Net")
    for name in ("torch.FloatStorage", "torch.Tensor", "torch.zeros", "scconv_deploy.api.export"):
        with pytest.raises(InputError, match=r"which torch\.save never writes"):
            refuse_odd_call(name, ())
    with pytest.raises(InputError, match=r"constructs a collections\.OrderedDict"):
        refuse_odd_construction("collections.OrderedDict")


def test_a_trusted_name_may_have_moved() -> None:
    moved = ["__main__=nets", "old.blocks.SRU=new:Unit"]
    assert trusted_home("__main__.Net", moved) == "nets.Net"
    assert trusted_home("old.blocks.SRU", moved) == "new.Unit"
    assert trusted_home("old.blocks.CRU", moved) == "old.blocks.CRU"
    assert is_trusted("__main__.Net", moved)
    assert not is_trusted("nets.Net", moved)
    assert not is_trusted("__main__s.Net", moved)
    assert trust_options(["__main__.Net", "net.A"]) == "--trust __main__=MODULE --trust net"
