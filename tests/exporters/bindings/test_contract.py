"""Every attribute of TensorRT that our source touches exists in each recorded version, or is guarded.

The list of touches is read from the source (:mod:`tests.exporters.bindings.touched`); the versions are recorded in
``tests/golden/bindings``, from the real bindings, so this needs neither the network nor TensorRT.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests.exporters.bindings import wheels
from tests.exporters.bindings.contract import RTX, Contract, golden, read
from tests.exporters.bindings.kinds import CUDA, Touch
from tests.exporters.bindings.stub import ROOT
from tests.exporters.bindings.touched import missing, sources, touched

FILES = (
    "exporters/tensorrt_engine.py",
    "exporters/trt/*.py",
    *(f"scconv_deploy/runtime/{part}*.py" for part in ("tensorrt", "engine_", "cuda_", "device_")),
    "scconv_deploy/runtime/runtime_cache.py",
)
KNOWN = {
    (
        "exporters/trt/capability.py",
        "ComputeCapability",
    ): "asked only ahead of time, where the module is RTX's",
    ("scconv_deploy/runtime/tensorrt_plugin.py", "get_output_data_types"): "registered with RTX only",
}
"""Touches whose guard is beyond the walk, with the reason."""

SEEN = {
    ("Builder", "build_serialized_network"),
    ("IBuilderConfig", "add_optimization_profile"),
    ("ICudaEngine", "get_tensor_profile_shape"),
    ("IExecutionContext", "execute_async_v3"),
    ("IProgressMonitor", "step_complete"),
    ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
    ("OnnxParser", "get_error"),
    ("ParserError", "node_operator"),
    ("Runtime", "deserialize_cuda_engine"),
    ("plugin", "aot_impl"),
    ("IPluginV3OneRuntime", "enqueue"),
    (CUDA, "cudaMalloc"),
}
"""Touches that a walk which loses its way would miss."""


@pytest.fixture(scope="module")
def contract() -> Contract:
    return golden()


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return sources(*FILES, root=ROOT)


@pytest.fixture(scope="module")
def touches(files: dict[str, str], contract: Contract) -> set[Touch]:
    return touched(files, contract)


def unknown(found: Sequence[str]) -> list[str]:
    return [line for line in found if not any(f in line and f"'{n}'" in line for f, n in KNOWN)]


def test_all_that_is_touched_exists_or_is_guarded(touches: set[Touch], contract: Contract) -> None:
    assert unknown(missing(touches, contract)) == []


def test_exceptions_are_still_needed(touches: set[Touch], contract: Contract) -> None:
    found = missing(touches, contract)
    assert {key for key in KNOWN if any(key[0] in line and f"'{key[1]}'" in line for line in found)} == set(
        KNOWN
    )


def test_the_walk_does_not_lose_its_way(touches: set[Touch]) -> None:
    assert {(t.owner, t.name) for t in touches} >= SEEN


def test_the_golden_file_holds_the_versions_that_are_promised(contract: Contract) -> None:
    labels = [v.label for v in contract.versions]
    assert labels[:-1] == [f"tensorrt {n}" for n in wheels.VERSIONS]
    assert labels[-1].startswith(RTX)
    assert all(len(v.gives) > 1000 for v in contract.versions)


def test_the_installed_tensorrt_rtx_is_the_recorded_one(contract: Contract) -> None:
    recorded = contract.versions[-1]
    try:
        installed = f"{RTX} {version(RTX)}"
    except PackageNotFoundError:
        pytest.skip('TensorRT for RTX is not installed: pip install "scconv-deploy[trt-rtx]"')
    if installed != recorded.label:
        pytest.skip(f"{installed} is installed; {recorded.label} was recorded")
    assert read(wheels.surface_of_rtx(), installed) == recorded


def test_what_is_called_of_cuda_exists(touches: set[Touch]) -> None:
    cuda = pytest.importorskip(
        "cuda.bindings.runtime", reason="cuda-bindings is not installed: pip install cuda-bindings"
    )
    assert [t for t in touches if t.owner == CUDA and not hasattr(cuda, t.name)] == []


# The alarm rings: each of these is a mistake in the source.

SNIPPETS = {
    "a class": ("module.Bilder(logger)", "the module has no 'Bilder'"),
    "an enum member": ("module.BuilderFlag.FP99", "BuilderFlag has no 'FP99'"),
    "a method": ("module.Builder(logger).create_net(1)", "Builder has no 'create_net'"),
    "one of a result": (
        "module.Builder(logger).create_network(1).num_input",
        "INetworkDefinition has no 'num_input'",
    ),
    "through our function": ("other(module.Builder(logger))", "Builder has no 'nothing'"),
    "through a field": ("Kept(module).module.Nothing", "the module has no 'Nothing'"),
    "through a loop": ("[b.nothing for b in [module.Builder(logger)]]", "Builder has no 'nothing'"),
    "by its name": ("getattr(module, 'Nothing')", "the module has no 'Nothing'"),
    "only in some versions": (
        "module.Builder(logger).create_network(1).get_flag(module.NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS)",
        "has no 'PREFER_AOT_PYTHON_PLUGINS' in tensorrt 10.0.1",
    ),
    "behind another's guard": (
        "module.Nothing if hasattr(module, 'Builder') else 0",
        "the module has no 'Nothing'",
    ),
    "behind a guard turned round": (
        "0 if hasattr(module, 'EngineValidity') else module.EngineValidity",
        "has no 'EngineValidity' in tensorrt 10.0.1",
    ),
    "outside the product it belongs to": (
        "0 if platform.ahead_of_time else module.ComputeCapability",
        "the module has no 'ComputeCapability'",
    ),
}
GUARDED = {
    "hasattr": "module.EngineValidity if hasattr(module, 'EngineValidity') else 0",
    "and": "hasattr(module, 'EngineValidity') and module.EngineValidity",
    "or": "not hasattr(module, 'EngineValidity') or module.EngineValidity",
    "a default": "getattr(module, 'EngineValidity', None)",
    "the product": "module.ComputeCapability if platform.ahead_of_time else 0",
    "what exists everywhere": "module.Builder(logger).create_network(1).num_inputs",
}
FRAME = """
from dataclasses import dataclass
from types import ModuleType

@dataclass
class Kept:
    module: ModuleType

def other(builder):
    return builder.nothing

def use(module: ModuleType, logger, platform):
    return {}
"""
EARLY = """
from types import ModuleType

def use(module: ModuleType):
    if {}hasattr(module, "EngineValidity"):
        return None
    return later(module)

def later(module):
    return module.EngineValidity
"""


def found_in(code: str, contract: Contract) -> list[str]:
    return missing(touched({"twin.py": textwrap.dedent(code)}, contract), contract)


@pytest.mark.parametrize(("expression", "words"), SNIPPETS.values(), ids=SNIPPETS)
def test_mistakes_are_found(expression: str, words: str, contract: Contract) -> None:
    (sentence, *_) = [s for s in found_in(FRAME.format(expression), contract) if words in s]
    assert sentence.startswith("twin.py:")


@pytest.mark.parametrize("expression", GUARDED.values(), ids=GUARDED)
def test_guards_are_understood(expression: str, contract: Contract) -> None:
    code = FRAME.replace("builder.nothing", "builder.reset").format(expression)
    assert found_in(code, contract) == []


def test_an_early_return_guards_what_is_called_after_it(contract: Contract) -> None:
    assert found_in(EARLY.format("not "), contract) == []
    assert found_in(EARLY.format(""), contract) != []


def test_an_assignment_is_a_touch(contract: Contract) -> None:
    code = """
    def use(module: ModuleType, logger):
        module.Builder(logger).{} = 1
    """
    assert found_in(code.format("max_threads"), contract) == []
    assert "Builder has no 'max_thread'" in found_in(code.format("max_thread"), contract)[0]


def test_several_bases_override_together(contract: Contract) -> None:
    code = """
    from types import ModuleType

    def make(module: ModuleType):
        bases = (module.IPluginV3, module.IPluginV3OneRuntime)

        class Plugin(*bases):
            def {}(self, inputs, outputs):
                return 0
        return Plugin()
    """
    assert found_in(code.format("on_shape_change"), contract) == []
    assert "has no 'on_shape_changed'" in found_in(code.format("on_shape_changed"), contract)[0]


def test_functions_are_told_apart_by_their_file(contract: Contract) -> None:
    """Two files have a function of one name; only the one that is imported is followed."""
    use = """
    from types import ModuleType
    from {} import other

    def use(module: ModuleType, logger):
        return other(module.Builder(logger))
    """
    files = {
        "one.py": "def other(builder):\n    return builder.reset()",
        "two.py": "def other(thing):\n    return thing.nothing",
    }
    for home, wrong in (("one", False), ("two", True)):
        found = missing(touched({**files, "use.py": textwrap.dedent(use.format(home))}, contract), contract)
        assert bool(found) == wrong, found


def test_an_override_that_overrides_nothing_is_found(contract: Contract) -> None:
    code = """
    from types import ModuleType

    def make(module: ModuleType):
        class Monitor(module.IProgressMonitor):
            def {}(self, phase_name, step):
                return True
        return Monitor()
    """
    assert found_in(code.format("step_complete"), contract) == []
    assert "IProgressMonitor has no 'step_completed'" in found_in(code.format("step_completed"), contract)[0]


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("set_memory_pool_limit", "set_memory_pool_limits"),
        ("set_input_shape", "set_binding_shape"),
        ("node_operator", "operator"),
        ("TensorIOMode.INPUT", "TensorIOMode.IN"),
        ("get_compute_capability", "compute_capability"),
    ],
)
def test_a_name_changed_in_our_own_source_is_found(
    name: str, twin: str, files: dict[str, str], contract: Contract
) -> None:
    changed = {file: text.replace(f".{name}", f".{twin}") for file, text in files.items()}
    assert changed != files
    wrong = unknown(missing(touched(changed, contract), contract))
    assert any(f"'{twin.rpartition('.')[2]}'" in line for line in wrong), wrong
