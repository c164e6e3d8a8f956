"""The text of ``--factory`` is parsed, never evaluated; what it names is called and must give a module."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from scconv_deploy.checkpoint.factory import Factory, build, parse_factory
from scconv_deploy.errors import InputError


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("pkg.mod:Net", "pkg.mod:Net", {}),
        (
            " pkg.mod:Net( depth=20, name='x', blocks=(2, 2) ) ",
            "pkg.mod:Net",
            {"depth": 20, "name": "x", "blocks": (2, 2)},
        ),
        ("pkg.mod.Net()", "pkg.mod.Net", {}),
        ("scconv_resnet20(width=8)", "scconv_resnet20", {"width": 8}),
    ],
)
def test_names_and_literals(text: str, name: str, arguments: dict[str, object]) -> None:
    found = parse_factory(text)
    assert (found.name, dict(found.arguments)) == (name, arguments)
    assert found.is_zoo == name.startswith("scconv_")
    assert parse_factory(str(found)) == found


@pytest.mark.parametrize(
    "call",
    [
        "(20)",
        "(**{'depth': 20})",
        "(depth=__import__('os'))",
        "(depth=[i for i in range(9)])",
        "(depth=1)(depth=2)",
        "(depth=1) or g(depth=2)",
        "(depth=1, depth=2)",
        "(depth=)",
        "(depth=" + "(" * 900 + ")" * 900 + ")",
    ],
)
def test_what_is_no_literal_keyword_is_refused(call: str) -> None:
    with pytest.raises(InputError, match="write keywords with plain"):
        parse_factory(f"pkg.mod:Net{call}")


@pytest.mark.parametrize("text", ["", "pkg mod", "a:b:c", "pkg/mod.py:Net", "m:f(" + "x" * 2000 + ")"])
def test_what_is_no_callable_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no callable"):
        parse_factory(text)


def test_a_mistyped_zoo_name_is_corrected() -> None:
    with pytest.raises(InputError, match="did you mean 'scconv_resnet20'"):
        parse_factory("scconv_resnet2O")


def test_a_factory_beside_the_model_is_built_with_its_arguments(tmp_path: Path) -> None:
    text = "from torch import nn\ndef make(width):\n    return nn.Linear(width, 1)\n"
    (tmp_path / "factory_of_this_test.py").write_text(text)
    made = build(parse_factory("factory_of_this_test:make(width=5)"), tmp_path)
    assert isinstance(made, nn.Linear)
    assert made.in_features == 5


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("math:pi", {}, "is not callable"),
        ("builtins:dict", {"a": 1}, r"builtins:dict\(a=1\) returned a dict"),
        ("torch.nn:Linear", {"widht": 1}, "raised TypeError"),
        ("torch.nn:Lineer", {}, "has no 'Lineer'"),
        ("no_such_package_here:Net", {}, "cannot import 'no_such_package_here'"),
    ],
)
def test_what_gives_no_module_is_refused(
    name: str, arguments: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        build(Factory(name, arguments), tmp_path)
