"""The CUDA driver -> times of the kernels against a measured device copy and against ``torch.compile``'s fusion.

The yardstick is the bytes that must move: SRU reads and writes the activation once, the fuse reads two and writes
one (its two kernels' second reading of y1 and y2 is not granted). ``share`` is the bandwidth reached, as a
part of what a plain device-to-device copy of the same size reaches.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from scconv_deploy.kernels.launch import SPLITS, fuse_operators, mix_launch, pool_launch, sru_launch
from scconv_deploy.kernels.ptx import BYTES, Layout
from tests.gpu.driver import CudaDriver

WANTED = 0.7
SHAPES = (
    (1, 64, 56, 56),
    (32, 64, 56, 56),
    (64, 64, 56, 56),
    (32, 128, 28, 28),
    (32, 256, 14, 14),
    (32, 512, 7, 7),
)
GROUPS = 16
SRU, FUSE = "SRU_soft", "CRUFuse_joint_affine_relu"
Row = dict[str, object]


def rows(device: CudaDriver, types: tuple[str, ...] = ("fp32", "fp16", "bf16")) -> Iterator[Row]:
    """One row per operator, shape, type and layout."""
    for dtype in types:
        for shape in SHAPES:
            size = int(np.prod(shape)) * BYTES[dtype]
            for layout in Layout:
                for name, moved, work in (
                    (SRU, 2 * size, _sru(device, shape, dtype, layout)),
                    (FUSE, 3 * size, _fuse(device, shape, dtype, layout)),
                ):
                    yield _row(device, name, shape, dtype, layout.value, moved, work)
            yield from _compiled(shape, dtype)


def _row(
    device: CudaDriver,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    layout: str,
    moved: int,
    work: tuple[Callable[[], None], list[int]],
) -> Row:
    run, addresses = work
    try:
        taken = device.milliseconds(run)
        copied = device.milliseconds(lambda: device.copy(addresses[0], addresses[1], moved // 2))
    finally:
        device.free(addresses)
    reached = copied / taken  # a copy of moved / 2 bytes moves as many
    large = shape[0] >= 32 and shape[1:] == (64, 56, 56)
    return {
        "operator": name,
        "shape": list(shape),
        "type": dtype,
        "layout": layout,
        "milliseconds": taken,
        "gigabytes_per_second": moved / taken / 1e6,
        "copy_gigabytes_per_second": moved / copied / 1e6,
        "share": reached,
        "passed": bool(reached >= WANTED) if large else None,
    }


def _sru(
    device: CudaDriver, shape: tuple[int, ...], dtype: str, layout: Layout
) -> tuple[Callable[[], None], list[int]]:
    n, c, h, w = shape
    size = int(np.prod(shape)) * BYTES[dtype]
    # The first two are as large as the copy; y_a and y_b are the halves of the first.
    whole, x = device.empty(size), device.empty(size)
    constants = [device.upload(np.linspace(-1, 1, c, dtype=np.float32)) for _ in range(2)]
    settings = {"groups": GROUPS, "epsilon": 1e-5, "logit": 0.0}
    launch = sru_launch(SRU, dtype, layout, n, c, h * w, settings)
    kernel = device.kernel(launch.kernel)

    def run() -> None:
        kernel.launch(launch, [x, *constants], [whole, whole + size // 2], 0)

    return run, [whole, x, *constants]


def _fuse(
    device: CudaDriver, shape: tuple[int, ...], dtype: str, layout: Layout
) -> tuple[Callable[[], None], list[int]]:
    n, c, h, w = shape
    size = int(np.prod(shape)) * BYTES[dtype]
    # The copy that it is measured against takes one and a half of these.
    out, pieces = device.empty(2 * size), device.empty(2 * size)
    parts = device.empty(n * SPLITS * 2 * c * 4)
    constants = [device.upload(np.linspace(-1, 1, c, dtype=np.float32)) for _ in range(2)]
    pool, mix = fuse_operators(FUSE)
    first = pool_launch(pool, dtype, layout, n, c, h * w)
    second = mix_launch(mix, dtype, layout, n, c, h * w, h * w)
    kernels = device.kernel(first.kernel), device.kernel(second.kernel)
    y = [pieces, pieces + size]

    def run() -> None:
        kernels[0].launch(first, y, [parts], 0)
        kernels[1].launch(second, [*y, parts, *constants], [out], 0)

    return run, [out, pieces, parts, *constants]


def _compiled(shape: tuple[int, ...], dtype: str) -> Iterator[Row]:
    """The same functions fused by ``torch.compile``, where torch has CUDA and a compiler for it."""
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    x, y = (torch.randn(shape, device="cuda").to(kind) for _ in range(2))
    scale, shift = (torch.linspace(-1, 1, shape[1], device="cuda") for _ in range(2))

    def sru(value: Any) -> Any:
        s = torch.nn.functional.group_norm(value.float(), GROUPS, scale, shift, 1e-5)
        r = torch.sigmoid(s)
        kept = torch.where(s > 0, 1.0, r) * value
        rest = torch.where(s > 0, 0.0, r) * value
        (k_a, k_b), (r_a, r_b) = kept.chunk(2, 1), rest.chunk(2, 1)
        return (k_a + r_b).to(kind), (k_b + r_a).to(kind)

    def fuse(value: Any, other: Any) -> Any:
        q = torch.cat([value.float().mean((2, 3)), other.float().mean((2, 3))], 1).softmax(1)
        p1, p2 = (p[:, :, None, None] for p in q.chunk(2, 1))
        column = (-1, 1, 1)
        mixed = (p1 * value + p2 * other) * scale.view(column) + shift.view(column)
        return mixed.relu().to(kind)

    for name, function, given in ((SRU, sru, (x,)), (FUSE, fuse, (x, y))):
        try:
            compiled = torch.compile(function)
            compiled(*given)
            taken = _torch_milliseconds(torch, lambda c=compiled, g=given: c(*g))
        except Exception as error:  # noqa: BLE001 - a compiler that fails is an answer, too
            yield {"operator": name, "by": "torch.compile", "failed": str(error).splitlines()[0][:200]}
            continue
        yield {
            "operator": name,
            "by": "torch.compile",
            "shape": list(shape),
            "type": dtype,
            "milliseconds": taken,
        }


def _torch_milliseconds(torch: Any, work: Callable[[], Any], times: int = 20, rounds: int = 7) -> float:
    found = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(times):
            work()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end) / times)
    return min(found)
