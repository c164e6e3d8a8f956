"""Where the library is loaded its kernels compute the nodes; where not, the functions do.

No document of ONNX Runtime promises that a custom operator hides a model-local function of its name. These tests
do, with functions that lie: their results are doubled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from scconv_deploy.runtime.onnx import STANDARD, OnnxRunner
from tests.kernels.forms import image, sru_case
from tests.kernels.models import fuse_model, session, sru_model
from tests.kernels.reference import sru, worst

TYPES = (np.float32, np.float16)


def lying(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model; every function's results are doubled by their last nodes."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for function in made.functions:
        nodes = []
        for node in function.node:
            if node.op_type == "CastLike":
                whole = node.input[0]
                nodes.append(onnx.helper.make_node("Add", [whole, whole], [f"{whole}_twice"]))
                node.input[0] = f"{whole}_twice"
            nodes.append(node)
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del function.node[:]
        function.node.extend(kept)
    return made


@pytest.mark.parametrize("dtype", TYPES)
def test_the_kernel_replaces_the_body(dtype: type[np.floating], library: Path) -> None:
    case, x = sru_case("SRU_soft", 8, 4, 0), image((2, 8, 5, 7), 0, dtype)
    model = lying(sru_model(case, dtype))
    with_kernel = session(model, library).run(None, {"x": x})
    without = session(model, None).run(None, {"x": x})
    assert worst(sru(case, x), tuple(with_kernel)) < 1e-6
    np.testing.assert_allclose(without[0], 2 * with_kernel[0].astype(np.float32), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_fuse_too(dtype: type[np.floating], library: Path) -> None:
    y = {"y1": image((1, 4, 3, 3), 0, dtype), "y2": image((1, 4, 3, 3), 1, dtype)}
    model = fuse_model("CRUFuse_pair", {}, dtype)
    with_kernel = session(lying(model), library).run(None, y)[0].astype(np.float32)
    np.testing.assert_allclose(with_kernel, session(model, None).run(None, y)[0], rtol=1e-2, atol=1e-3)
    doubled = session(lying(model), None).run(None, y)[0]
    np.testing.assert_allclose(doubled, 2 * with_kernel, rtol=1e-2, atol=1e-3)


def test_the_runner_registers_the_library_and_says_so(library: Path) -> None:
    case, x = sru_case("SRU_soft", 8, 4, 0), image((1, 8, 5, 7), 0)
    data = lying(sru_model(case, np.float32)).SerializeToString()
    with OnnxRunner(data) as fused, OnnxRunner(data, use_kernels=False) as plain:
        assert fused.kernels in ("avx512", "avx2", "plain")
        assert plain.kernels == STANDARD
        np.testing.assert_allclose(
            plain.run({"x": x})["y_a"], 2 * fused.run({"x": x})["y_a"], rtol=1e-4, atol=1e-4
        )
