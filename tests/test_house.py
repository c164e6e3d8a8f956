"""The rules of the house that are not lint rules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scconv_deploy

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = {
    "BuildError",
    "Bundle",
    "CapabilityError",
    "Engine",
    "InputError",
    "ParityReport",
    "Recognition",
    "ScconvDeployError",
    "Verdict",
    "VerificationError",
    "__version__",
    "benchmark",
    "export",
    "open",
    "recognise",
    "verify",
}


def modules() -> Iterator[Path]:
    for package in ("scconv_deploy", "exporters"):
        yield from sorted((ROOT / package).rglob("*.py"))


def test_the_public_api_changes_only_on_purpose() -> None:
    assert set(scconv_deploy.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(scconv_deploy, name) is not None
    with pytest.raises(AttributeError):
        _ = scconv_deploy.nonsense


@pytest.mark.parametrize("module", ["scconv_deploy", "scconv_deploy.cli", "scconv_deploy.__main__"])
def test_importing_it_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(' '.join({{'torch', 'onnx', 'onnxruntime'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_every_module_says_what_it_does() -> None:
    silent = [str(p.relative_to(ROOT)) for p in modules() if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


ROOM_LINES = 300


def test_rooms_are_small() -> None:
    sizes = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in modules()}
    assert {n: k for n, k in sizes.items() if k > ROOM_LINES} == {}


def test_no_junk_drawers() -> None:
    junk = {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert [p for p in modules() if p.name in junk] == []


def test_readme_and_package_describe_the_same_pipeline() -> None:
    order = "load -> recognise -> lower -> trace -> simplify -> quantize -> build -> verify -> benchmark -> package"
    assert order in (scconv_deploy.__doc__ or "")
    assert order in (ROOT / "README.md").read_text()
    for verb in order.split(" -> "):
        assert (ROOT / "scconv_deploy" / "stages" / f"{verb}.py").is_file()
