"""Kernels -> what each of the user's modules costs: kernels and bytes by module path, adding up to the whole.

Unlike the count of kernels per block (where a kernel that works for two blocks counts twice), every kernel has one
owner here: the SCConv block it works for; else the module of its first convolution or matrix product, else of its
first node; else, for a kernel that the builder inserted, the owner of the kernel that reads its result. What is
left is the builder's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from exporters.trt.layers import Kernel
from exporters.trt.report import device_kernels, kernel_bytes, owners
from scconv_deploy.artifacts import ModuleCost
from scconv_deploy.graph.precision import is_product

INSERTED = "(inserted by the builder)"
ROOT = "(outside any module)"


def cost_per_module(
    kernels: Sequence[Kernel], block_paths: Sequence[str], at_optimum: Sequence[Kernel] | None = None
) -> dict[str, ModuleCost]:
    """Module path -> its cost, in the order of launch.

    Args:
        kernels: of the engine; counted.
        block_paths: module paths of the SCConv blocks, which are not divided further.
        at_optimum: of the same graph at its optimum shapes, from which bytes are taken; None where the engine's own
            shapes are fixed.

    Raises:
        ValueError: an unknown type, or a free dimension in what should be static.
    """
    counts: dict[str, int] = {}
    moved: dict[str, int] = {}
    for owner, _ in _owned(kernels, block_paths):
        counts[owner] = counts.get(owner, 0) + 1
    for owner, kernel in _owned(kernels if at_optimum is None else at_optimum, block_paths):
        moved[owner] = moved.get(owner, 0) + kernel_bytes(kernel)
    names = dict.fromkeys((*counts, *moved))
    return {name: ModuleCost(counts.get(name, 0), moved.get(name, 0)) for name in names}


def _owned(kernels: Sequence[Kernel], block_paths: Sequence[str]) -> list[tuple[str, Kernel]]:
    device = device_kernels(kernels)
    blocks = owners(device, block_paths)
    found = [_owner(kernel, own) for kernel, own in zip(device, blocks, strict=True)]
    users: dict[str, int] = {}
    for index, kernel in enumerate(device):
        for tensor in kernel.inputs:
            users.setdefault(tensor.name, index)
    # Backwards, so that the first of two inserted kernels in a row finds what the second one found.
    for index in range(len(device) - 1, -1, -1):
        if found[index] is None:
            readers = [users[t.name] for t in device[index].outputs if users.get(t.name, index) > index]
            found[index] = found[readers[0]] if readers else None
    return [(owner or INSERTED, kernel) for owner, kernel in zip(found, device, strict=True)]


def _owner(kernel: Kernel, blocks: frozenset[str]) -> str | None:
    if blocks:
        return min(blocks) or ROOT
    if not kernel.onnx_nodes:
        return None
    main = next((n for n in kernel.onnx_nodes if is_product(n)), kernel.onnx_nodes[0])
    return main.rpartition("/")[0] or ROOT
