"""The recorded surfaces are those of the real wheels, which the stub makes importable. Needs the package index."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exporters.bindings import wheels
from tests.exporters.bindings.contract import golden, read
from tests.exporters.bindings.stub import compile_stub, compiler, run_in

pytestmark = pytest.mark.slow
WHEELS = [(v, 12) for v in wheels.VERSIONS] + [(v, 13) for v in wheels.CUDA13]


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("the stub library needs a C compiler, and none is here")
    return compile_stub(tmp_path_factory.mktemp("stub"))


@pytest.fixture(scope="module", params=WHEELS, ids=lambda w: f"{w[0]}-cu{w[1]}")
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    number, cuda = request.param
    folder = tmp_path_factory.mktemp(f"tensorrt-{number}-cu{cuda}")
    obstacle = wheels.install(number, folder, cuda)
    if obstacle:
        pytest.skip(obstacle)
    return number, folder


def test_the_wheel_offers_what_was_recorded(bindings: tuple[str, Path], stub: Path) -> None:
    number, folder = bindings
    recorded = next(v for v in golden().versions if v.label == f"tensorrt {number}")
    assert read(wheels.surface_of(folder, stub), recorded.label) == recorded


def test_nothing_starts_on_the_stub(bindings: tuple[str, Path], stub: Path) -> None:
    """As on a machine without a driver: the builder is refused by name, the process lives on."""
    code = """
        import tensorrt
        for start in (tensorrt.Builder, tensorrt.Runtime):
            try:
                start(tensorrt.Logger(tensorrt.Logger.ERROR))
            except TypeError as error:
                print(error)
        """
    done = run_in(bindings[1], stub, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("returned nullptr") == 2


def test_a_quick_plugin_can_be_registered(bindings: tuple[str, Path], stub: Path) -> None:
    """The registration that kernels/ relies on; its own signatures are checked beside it."""
    number, folder = bindings
    if number == "10.0.1":
        pytest.skip("TensorRT 10.0.1 has no quickly deployable plugins; they begin with 10.6")
    code = """
        from tests.exporters.bindings.registry import install
        import tensorrt
        registry = install(tensorrt)
        import tensorrt.plugin as plugin

        @plugin.register("scconv_stub::twice")
        def describe(x: plugin.TensorDesc, factor: float) -> plugin.TensorDesc:
            return x.like()

        print("registered", list(registry.creators))
        try:
            @plugin.register("scconv_stub::wrong")
            def wrong(x) -> plugin.TensorDesc:
                return x.like()
        except ValueError as error:
            print("refused", error)
        """
    done = run_in(folder, stub, code)
    assert "registered [('scconv_stub', 'twice')]" in done.stdout, done.stdout + done.stderr
    assert "refused" in done.stdout, done.stdout + done.stderr
