"""The counting rules, each on kernels where another rule would give another number."""

from dataclasses import replace

import pytest

from exporters.trt.build import build_plan
from exporters.trt.layers import Kernel, KernelTensor, read_kernels
from exporters.trt.report import is_static, kernels_per_block, report
from exporters.trt.settings import BuildRequest
from tests.exporters.trt.models import DYNAMIC, SILENCE, STATIC, conv_relu, rtx_platform

LINEAR, CHANNELS_LAST = (3, 2, 1, 0), (3, 0, 2, 1)


def tensor(
    name: str,
    shape: tuple[int, ...] = (1, 4, 2, 2),
    dtype: str = "Float",
    order: tuple[int, ...] = LINEAR,
) -> KernelTensor:
    return KernelTensor(name, shape, dtype, order)


def kernel(
    name: str,
    inputs: tuple[KernelTensor, ...] = (),
    outputs: tuple[KernelTensor, ...] = (),
    constants: tuple[KernelTensor, ...] = (),
    nodes: tuple[str, ...] = (),
    kind: str = "kgen",
) -> Kernel:
    return Kernel(name, kind, inputs, outputs, constants, nodes)


X, Y = tensor("x"), tensor("y")


def test_bytes_are_the_distinct_tensors_of_each_kernel_in_their_own_types() -> None:
    half = tensor("h", dtype="Half")
    weight = tensor("w", (4, 4, 1, 1), "Int8")
    kernels = (kernel("a", (X,), (half,), (weight,)), kernel("b", (half,), (Y,)))
    assert report(kernels, ()).bytes_moved == (16 * 4 + 16 * 2 + 16) + (16 * 2 + 16 * 4)


def test_two_views_of_one_tensor_are_one_tensor() -> None:
    assert report((kernel("a", (X, X), (Y,)),), ()).bytes_moved == 2 * 16 * 4


def test_host_and_synchronisation_lines_are_no_kernels() -> None:
    others = tuple(kernel(k, kind=k) for k in ("shape_call", "signal", "wait"))
    counted = report((*others, kernel("a", (X,), (Y,))), ())
    assert (counted.kernels, counted.shape_kernels) == (1, 1)


def test_types_are_those_that_kernels_write_and_hold() -> None:
    kernels = (kernel("a", (tensor("x", dtype="Int8"),), (tensor("h", dtype="Half"),), (tensor("w"),)),)
    assert report(kernels, ()).types == {"fp16": 1, "fp32": 1}


def test_a_free_dimension_and_an_unknown_type_are_errors_and_never_a_number() -> None:
    free = (kernel("a", (tensor("x", (-1, 4, 2, 2)),), (Y,)),)
    assert not is_static(free)
    with pytest.raises(ValueError, match="'x' of kernel 'a' has a free dimension"):
        report(free, ())
    with pytest.raises(ValueError, match="unknown type 'Quarter'"):
        report((kernel("a", (X,), (tensor("y", dtype="Quarter"),)),), ())


def test_bytes_of_a_dynamic_engine_come_from_its_optimum_and_counts_from_itself() -> None:
    free = (kernel("a", (tensor("x", (-1, 4, 2, 2)),), (Y,)), kernel("b", (Y,), (Y,)))
    fixed = (kernel("a", (tensor("x", (8, 4, 2, 2)),), (tensor("y", (8, 4, 2, 2)),)),)
    counted = report(free, (), fixed)
    assert (counted.kernels, counted.bytes_moved) == (2, 2 * 8 * 16 * 4)


LAST = tensor("l", order=CHANNELS_LAST)


@pytest.mark.parametrize(
    ("candidate", "is_transpose"),
    [
        (kernel("__myl_Tran_myl0_1", (X,), (LAST,)), True),
        (kernel("__myl_Move_myl0_0", (X,), (LAST,)), True),
        (kernel("__myl_ConcTran_myl0_1", (X, Y), (tensor("c", (1, 8, 2, 2), order=CHANNELS_LAST),)), True),
        (kernel("Reformat_3", (X,), (LAST,), kind="Reformat"), True),
        (kernel("__myl_Move_myl0_1", (X,), (Y,)), False),
        (kernel("__myl_Move_myl0_1", (), (LAST,)), False),
        (kernel("__myl_MeanTran_myl0_1", (X,), (LAST,)), False),
        (
            kernel(
                "__myl_Tran_myl0_1", (tensor("p", (1, 4, 1, 1)),), (replace(LAST, dimensions=(1, 4, 1, 1)),)
            ),
            False,
        ),
        (kernel("node_Conv_2_myl0_1", (X,), (LAST,), kind="correlation"), False),
    ],
)
def test_a_layout_transpose_only_moves_data_and_changes_its_order(
    candidate: Kernel, is_transpose: bool
) -> None:
    assert report((candidate,), ()).layout_transposes == int(is_transpose)


def test_a_kernel_belongs_to_the_blocks_of_its_nodes() -> None:
    kernels = (
        kernel("a", nodes=("layer1.0.conv2/Conv_0",)),
        kernel("b", nodes=("layer1.0.conv2.cru.gwc/Conv_1", "layer1.0/Add_2")),
        kernel("c", nodes=("layer1.0.conv2/Add_3", "layer1.1.conv2/Conv_4")),
        kernel("d", nodes=("layer1.0.conv20/Conv_5",)),
        kernel("e", nodes=("head/Gemm_6",)),
    )
    paths = ("layer1.0.conv2", "layer1.1.conv2", "layer2.0.conv2")
    assert kernels_per_block(kernels, paths) == {
        "layer1.0.conv2": 3,
        "layer1.1.conv2": 1,
        "layer2.0.conv2": 0,
    }


def test_an_inserted_kernel_belongs_where_all_its_neighbours_do() -> None:
    t = {name: tensor(name) for name in "abcdefg"}
    kernels = (
        kernel("conv", (X,), (t["a"],), nodes=("block/Conv_0",)),
        kernel("inside", (t["a"],), (t["b"],)),
        kernel("mean", (t["b"],), (t["c"],), nodes=("block/Mean_1",)),
        kernel("leaving", (t["c"],), (t["d"],)),
        kernel("head", (t["d"],), (t["e"],), nodes=("head/Conv_2",)),
        kernel("prepared", (), (t["f"],)),
        kernel("norm", (t["f"],), (t["g"],), nodes=("block/Norm_3",)),
        kernel("alone"),
    )
    assert kernels_per_block(kernels, ("block",)) == {"block": 5}


def test_a_real_build_counts_the_same_dynamic_and_static() -> None:
    def kernels(batch: int | str, request: BuildRequest) -> tuple[Kernel, ...]:
        plan = build_plan(rtx_platform(), conv_relu(batch).SerializeToString(), request, SILENCE)
        return read_kernels(plan.layers or "")

    blocks = ("layer1.0.conv2", "head")
    static = kernels(2, BuildRequest(STATIC, ("sm_89",)))
    dynamic = kernels("N", BuildRequest(DYNAMIC, ("sm_89",)))
    optimum = kernels("N", BuildRequest(DYNAMIC, ("sm_89",), at_optimum=True))
    at_two, at_four = report(static, blocks), report(dynamic, blocks, optimum)
    assert is_static(static)
    assert not is_static(dynamic)
    assert at_two.kernels == at_four.kernels
    assert at_two.kernels_per_block == at_four.kernels_per_block
    assert at_two.kernels_per_block["layer1.0.conv2"] >= 1
    assert at_two.kernels_per_block["head"] >= 1
    weights = 8 * 3 * 3 * 3 * 4
    assert weights < at_two.bytes_moved < at_four.bytes_moved < 2 * at_two.bytes_moved
    assert set(at_two.types) == {"fp32"}
