"""bfloat16 by name, and the sentence where ml_dtypes is missing."""

from __future__ import annotations

import io
import sys

import ml_dtypes
import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.dtypes import numpy_dtype, read_back


def test_by_name() -> None:
    assert numpy_dtype("float16") == np.float16
    assert numpy_dtype("bfloat16") == ml_dtypes.bfloat16
    with pytest.raises(TypeError):
        numpy_dtype("float17")


def test_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert numpy_dtype("int64") == np.int64
    with pytest.raises(CapabilityError, match="pip install ml_dtypes"):
        numpy_dtype("bfloat16")


def test_bfloat16_survives_a_numpy_file_and_nothing_else_is_touched() -> None:
    halves = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    stream = io.BytesIO()
    np.savez(stream, halves=halves, floats=np.ones(3, np.float32))
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as stored:
        found = read_back(stored["halves"])
        assert found.dtype == ml_dtypes.bfloat16
        assert np.array_equal(found, halves)
        assert read_back(stored["floats"]).dtype == np.float32
