"""The built library, in each of the instruction sets this CPU has."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from scconv_deploy.kernels import loader


@pytest.fixture(scope="session")
def library() -> Path:
    path = loader.library()
    if path is None:
        pytest.skip(f"the fused kernels are not built here: {loader.REBUILD}")
    return path


@pytest.fixture(params=["avx512", "avx2", "plain"])
def instruction_set(request: pytest.FixtureRequest, library: Path) -> Iterator[str]:
    """Kernels of sessions made in the test are of this build."""
    loaded = ctypes.CDLL(str(library))
    before = loader.instruction_set()
    assert before is not None
    if not loaded.scconv_select_instruction_set(request.param.encode()):
        pytest.skip(f"this CPU cannot run the {request.param} build")
    yield request.param
    assert loaded.scconv_select_instruction_set(before.encode())
