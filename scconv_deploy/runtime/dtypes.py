"""A dtype's name -> its NumPy dtype, bfloat16 included (NumPy has it only through ml_dtypes)."""

from __future__ import annotations

from typing import Any

import numpy as np

from scconv_deploy.errors import CapabilityError

BFLOAT16 = "bfloat16"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype called ``name``.

    Raises:
        CapabilityError: it is bfloat16 and ml_dtypes is not installed.
    """
    if name != BFLOAT16:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise CapabilityError(
            "this artifact takes or gives bfloat16, which NumPy knows through ml_dtypes: pip install ml_dtypes"
        ) from error
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def read_back(array: np.ndarray) -> np.ndarray:
    """An array out of a NumPy file, which keeps bfloat16 as two nameless bytes; any other is returned as it is."""
    nameless = array.dtype.kind == "V" and array.dtype.names is None and array.dtype.itemsize == 2
    return array.view(numpy_dtype(BFLOAT16)) if nameless else array
