"""Every kernel has one owner, and the shares add up to the whole."""

from __future__ import annotations

from exporters.trt.attribution import INSERTED, ROOT, cost_per_module
from exporters.trt.build import build_plan
from exporters.trt.layers import Kernel, read_kernels
from exporters.trt.report import report
from exporters.trt.settings import BuildRequest
from scconv_deploy.artifacts import ModuleCost
from tests.exporters.trt.models import DYNAMIC, SILENCE, conv_relu, rtx_platform
from tests.exporters.trt.test_report import X, Y, kernel, tensor

BLOCK = "layer1.0.conv2"
BYTES = 16 * 4
"""Of each of the small tensors."""


def test_a_kernel_belongs_to_its_block_then_to_its_product_then_to_its_first_node() -> None:
    kernels = (
        kernel("a", (X,), (Y,), nodes=(f"{BLOCK}.cru.y1/Conv_0", "layer1.0/Add_1")),
        kernel("b", (Y,), (Y,), nodes=("layer1.0/Add_2", "layer1.0.conv3/Conv_3")),
        kernel("c", (Y,), (Y,), nodes=("layer1.0/Add_4", "layer1.0.relu/Relu_5")),
        kernel("d", (Y,), (Y,), nodes=("Cast_of_input_x",)),
        kernel("host", kind="shape_call", nodes=("layer1.0/Shape_6",)),
    )
    assert cost_per_module(kernels, (BLOCK,)) == {
        BLOCK: ModuleCost(1, 2 * BYTES),
        "layer1.0.conv3": ModuleCost(1, BYTES),
        "layer1.0": ModuleCost(1, BYTES),
        ROOT: ModuleCost(1, BYTES),
    }


def test_an_inserted_kernel_belongs_to_whoever_reads_its_result() -> None:
    t = {name: tensor(name) for name in "abcd"}
    kernels = (
        kernel("first", (X,), (t["a"],)),
        kernel("second", (t["a"],), (t["b"],)),
        kernel("reader", (t["b"],), (t["c"],), nodes=("head/Conv_0",)),
        kernel("last", (t["c"],), (t["d"],)),
    )
    assert {path: cost.kernels for path, cost in cost_per_module(kernels, ()).items()} == {
        "head": 3,
        INSERTED: 1,
    }


def test_shares_of_a_real_dynamic_build_add_up() -> None:
    def kernels(request: BuildRequest) -> tuple[Kernel, ...]:
        plan = build_plan(rtx_platform(), conv_relu("N").SerializeToString(), request, SILENCE)
        return read_kernels(plan.layers or "")

    free = kernels(BuildRequest(DYNAMIC, ("sm_89",)))
    fixed = kernels(BuildRequest(DYNAMIC, ("sm_89",), at_optimum=True))
    whole, shares = report(free, (BLOCK,), fixed), cost_per_module(free, (BLOCK,), fixed)
    assert sum(cost.kernels for cost in shares.values()) == whole.kernels
    assert sum(cost.bytes_moved for cost in shares.values()) == whole.bytes_moved
    assert shares[BLOCK].kernels == whole.kernels_per_block[BLOCK]
    assert {"head.pool", "head"} & set(shares)
