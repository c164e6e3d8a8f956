from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from scconv_deploy import registry
from scconv_deploy.errors import CapabilityError, InputError

ROOT = Path(__file__).resolve().parents[1]


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, registry.GROUP)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The installed entry points, replaced by a list that the test fills."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
    return points


def test_the_package_registers_its_targets() -> None:
    assert {"onnx", "trt", "trt-rtx"} <= set(registry.targets())
    assert registry.exporter("onnx").target == "onnx"


def test_a_new_target_is_an_entry_point(fakes: list[EntryPoint]) -> None:
    fakes += [point("zeta", "collections:OrderedDict"), point("alpha", "builtins:dict")]
    assert registry.targets() == ("alpha", "zeta")
    made: object = registry.exporter("alpha")
    assert made == {}


def test_the_project_file_declares_what_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"][registry.GROUP]
    assert all(isinstance(value, str) and ":" in value for value in declared.values()), declared
    assert set(declared) <= set(registry.targets())


def test_an_unknown_target_names_the_nearest(fakes: list[EntryPoint]) -> None:
    fakes.append(point("onnx", "builtins:dict"))
    with pytest.raises(InputError, match=r"unknown target 'onxn'; choose one of onnx; did you mean 'onnx'\?"):
        registry.exporter("onxn")


def test_no_targets_means_not_installed(fakes: list[EntryPoint]) -> None:
    assert fakes == []
    with pytest.raises(CapabilityError, match="not installed"):
        registry.exporter("onnx")


def test_an_exporter_that_cannot_be_imported_is_a_capability_problem(fakes: list[EntryPoint]) -> None:
    fakes.append(point("lost", "a_module_that_is_not_there:Exporter"))
    with pytest.raises(CapabilityError, match="a_module_that_is_not_there"):
        registry.exporter("lost")
