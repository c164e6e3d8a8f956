"""Kernels as a compiled OpenVINO model tells them -> types as a whole and per block."""

from __future__ import annotations

import pytest

from exporters.openvino_kernels import Kernel, kernel_counts, precision_built, types_per_block


def kernel(kind: str, computes: str | None, nodes: str, touches: tuple[str, ...] = ()) -> Kernel:
    return Kernel(kind, "jit", computes, touches, tuple(nodes.split()))


KERNELS = (
    kernel("Convolution", "bf16", "stem/Conv_0", ("bf16", "fp32")),
    kernel("Subgraph", "bf16", "layer.sru/Mul_1 layer.sru/Greater_2", ("bf16", "fp32")),
    kernel("Convolution", "bf16", "layer.cru.gwc/Conv_3", ("bf16",)),
    kernel("Softmax", "fp32", "layer.cru/Softmax_4", ("fp32",)),
    kernel("Reshape", None, "layer/Reshape_5"),
)


def test_the_widest_type_that_a_fused_kernel_touches_is_the_gates() -> None:
    roles = {"gate": "fp32", "convolutions": "bf16", "fuse": "fp32"}
    assert types_per_block(KERNELS, ["layer"]) == {"layer": roles}
    narrow = kernel("Subgraph", "bf16", "layer.sru/Greater_2", ("bf16",))
    assert types_per_block([narrow], ["layer"]) == {"layer": {"gate": "bf16"}}


@pytest.mark.parametrize(
    ("node", "roles"),
    [
        ("layer.sru/SRU_soft_2", {"gate": "fp32"}),
        ("layer.sru/SRU_static_2", {}),
        ("layer.cru/CRUFuse_joint_affine_4", {"fuse": "fp32"}),
        ("other.sru/SRU_soft_2", {}),
    ],
)
def test_our_own_kernels_compute_in_float32(node: str, roles: dict[str, str]) -> None:
    assert types_per_block([kernel("Reference", "bf16", node)], ["layer"]) == {"layer": roles}


def test_a_whole_block_has_every_role() -> None:
    nodes = "layer.sru/SRU_soft_2 layer.cru.squeeze_up/Conv_3 layer.cru/CRUFuse_joint_affine_4"
    roles = {"gate": "fp32", "convolutions": "bf16", "fuse": "fp32"}
    assert types_per_block([kernel("Reference", "bf16", nodes)], ["layer"]) == {"layer": roles}


def test_the_precision_is_that_of_products() -> None:
    assert precision_built(KERNELS) == "bf16"
    assert precision_built(KERNELS[3:]) == "fp32"
    assert precision_built([]) is None


def test_counts_name_the_type() -> None:
    counts = kernel_counts(KERNELS)
    assert counts == {"Convolution bf16": 2, "Reshape": 1, "Softmax fp32": 1, "Subgraph bf16": 1}
