"""bfloat16 by name, and the sentence where ml_dtypes is missing."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.dtypes import numpy_dtype


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
