"""The stand-ins have no method and no parameter that the real TensorRT and CUDA lack: they cannot drift."""

from __future__ import annotations

import inspect

import pytest

from tests.exporters.bindings.contract import RTX, Contract, golden
from tests.runtime import recording_gpu as gpu
from tests.runtime import recording_modules as modules

PLAYS = {
    gpu.Context: "IExecutionContext",
    gpu.Engine: "ICudaEngine",
    gpu.RuntimeConfig: "IRuntimeConfig",
    gpu.RuntimeCache: "IRuntimeCache",
    modules.Runtime: "Runtime",
    modules.RtxRuntime: "Runtime",
    modules.Trt: "",
    modules.Rtx: "",
}
OWN = {"engine", "invalid"}
"""What a test sets on a stand-in and TensorRT has not."""


def wrong(kind: type, owner: str, contract: Contract) -> list[str]:
    """Public names of a stand-in that the latest version of what it plays has not, and parameters renamed."""
    version = contract.versions[-1]
    assert version.label.startswith(RTX), "the runtime cache is RTX's"
    found = []
    for name, value in inspect.getmembers(kind):
        if name.startswith("_") or name in OWN:
            continue
        if version.found(owner, name) is None:
            found.append(f"{owner} has no {name}")
        elif inspect.isfunction(value):
            given = tuple(p for p in inspect.signature(value).parameters if p != "self")
            forms = contract.forms(owner, name) or {given}
            if not owner:
                continue  # classes and functions of the module: their objects are checked
            if not any(given == form[: len(given)] for form in forms):
                found.append(f"{owner}.{name} takes {forms}, not {given}")
    return found


@pytest.mark.parametrize("kind", PLAYS, ids=lambda k: k.__name__)
def test_a_stand_in_offers_only_what_is_real(kind: type) -> None:
    assert wrong(kind, PLAYS[kind], golden()) == []


def test_a_drifted_stand_in_is_found() -> None:
    class Renamed(gpu.Context):
        def set_input_shape(self, name: str, dimensions: gpu.Dims) -> bool:
            return True

    class Invented(gpu.Context):
        def execute_async_v9(self) -> bool:
            return True

    assert "set_input_shape takes" in wrong(Renamed, "IExecutionContext", golden())[0]
    assert wrong(Invented, "IExecutionContext", golden()) == ["IExecutionContext has no execute_async_v9"]


def test_cudas_stand_in_offers_only_what_is_real() -> None:
    cuda = pytest.importorskip(
        "cuda.bindings.runtime", reason="cuda-bindings is not installed: pip install cuda-bindings"
    )
    public = {n for n in dir(gpu.Cuda) if n.startswith("cuda")}
    assert len(public) > 12
    assert {n for n in public if not hasattr(cuda, n)} == set()
    assert all(hasattr(cuda.cudaError_t, s.name) for s in gpu.Status)
    assert all(hasattr(cuda.cudaMemcpyKind, d.name) for d in gpu.Direction)
    assert all(hasattr(cuda.cudaStreamCaptureMode, m.name) for m in gpu.CaptureMode)
