"""Names of the operators of the domain ``scconv``, and their functions as ONNX sees them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from scconv_deploy.config import OPSETS
from scconv_deploy.scconv.fused_ops import attach_functions, function, fuse_operator, sru_operator
from scconv_deploy.scconv.spec import Comparison, Fuse, Gate, Gated, Norm, Reconstruct
from tests.kernels.forms import FUSE_FORMS, SRU_FORMS, sru_case
from tests.kernels.models import sru_model
from tests.scconv.axes import cru, sru

SOURCE = Path(__file__).parents[2] / "scconv_deploy" / "kernels" / "src" / "forms.h"


def test_a_specification_has_one_name_and_every_name_is_reached() -> None:
    names = set()
    for gate in Gate:
        for norm in Norm:
            for comparison in Comparison:
                for gated in Gated:
                    for reconstruct in Reconstruct:
                        spec = sru(
                            gate=gate, norm=norm, comparison=comparison, gated=gated, reconstruct=reconstruct
                        ).sru
                        assert spec is not None
                        names.add(sru_operator(spec))
    assert names == set(SRU_FORMS)
    made = {
        fuse_operator(spec, affine, relu)
        for fuse in Fuse
        for spec in [cru(fuse=fuse).cru]
        if spec is not None
        for affine in (False, True)
        for relu in (False, True)
    }
    # A residual is taken in by the runtime alone (runtime/blocked.py).
    assert made == {name for name in FUSE_FORMS if "_add" not in name}


@pytest.mark.parametrize("opset", OPSETS)
def test_every_function_is_valid_in_every_opset(opset: int) -> None:
    for name in (*SRU_FORMS, *FUSE_FORMS):
        made = function(name, opset)
        assert made.name == name
        onnx.checker.check_function(made)
    model = sru_model(sru_case("SRU_soft_std_ge_normalised_within", 8, 2, 0), np.float32, opset)
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(
    "name", ["SRU_loud", "SRU_soft_ge_std", "SRU_soft_std_std", "CRUFuse_joint_relu_affine", "Relu", "SRU"]
)
def test_a_name_of_no_operator_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"has no operator '{name}'"):
        function(name, 20)


def test_the_library_spells_the_flags_as_python_does() -> None:
    spelled = set(re.findall(r'"(_[a-z]+)"', SOURCE.read_text(encoding="utf-8")))
    assert spelled == {"_std", "_ge", "_normalised", "_within", "_affine", "_add", "_relu"}


def test_functions_are_attached_once_with_types_of_the_results() -> None:
    model = sru_model(sru_case("SRU_soft", 8, 4, 0), np.float32)
    node = model.graph.node[0]
    node.output[0] = "inner"
    model.graph.node.append(onnx.helper.make_node("Relu", ["inner"], ["y_a"]))
    for _ in range(2):
        attach_functions(model)
    assert [f.name for f in model.functions] == ["SRU_soft"]
    assert [o.domain for o in model.opset_import].count("scconv") == 1
    assert [v.name for v in model.graph.value_info] == ["inner"]
    assert model.graph.value_info[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_a_model_without_our_nodes_stays_as_it_is() -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, [1])], [value("y", 1, [1])]
    )
    model = onnx.helper.make_model(graph)
    before = model.SerializeToString()
    attach_functions(model)
    assert model.SerializeToString() == before
