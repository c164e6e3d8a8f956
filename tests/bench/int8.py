"""int8 as it is: SCConv-ResNet-50 quantised for ONNX Runtime, against plain ResNet-50 in int8 and in fp32.

Both forms of the SCConv network (``standard``, and ``plugin`` with the fused kernels) and the plain ResNet-50 are
exported with ``--int8`` as ``scconv-export`` does it, and the plain one in fp32 too; they are opened as an
application opens them and take turns in one run, at batch 1 on one and two threads and at batch 8 on two.

The weights are untrained and the ranges come from random images: codes and kernels are the real ones, so that
times are; what the outputs are worth is not asked (``samples/digits`` and the tests do that). In int8 a
convolution is so cheap that SRU and fuse, which stay in fp32, weigh more. ``convolutions alone`` is the floor: the
same network without SRU, pooling, softmax and BatchNorm behind the blocks, whose branches are only added. Where that
is above 1 against plain int8, no kernel of ours could make SCConv the faster network.

    python -m tests.bench.int8 [--duration 1.5] [--folder KEPT [--prepare]]

Some two and a half minutes on two cores: one of exporting, and 25 seconds per setting. Writes ``results/int8.json`` and
appends a line to ``results/history.jsonl``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scconv_deploy import api
from scconv_deploy.artifacts import Json
from scconv_deploy.config import Form, Precision, shape_ranges
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference.units import ReferenceCRU, ReferenceSCConv
from scconv_deploy.scconv.zoo.blocks import Bottleneck
from tests.bench import history, side_by_side
from tests.bench.machine import RESULTS, load_average, write_results

SETTINGS = ((1, 1), (1, 2), (8, 2))
SHAPE = (3, 224, 224)
IMAGES = 8
"""Random images that the ranges are taken from."""

PLAIN_INT8, PLAIN_FP32, FLOOR = "plain int8", "plain fp32", "int8, convolutions alone"
STANDARD, PLUGIN = "SCConv int8, standard form", "SCConv int8, plugin form"
BUNDLES = {
    PLAIN_INT8: ("resnet50", Precision.INT8, Form.STANDARD),
    PLAIN_FP32: ("resnet50", Precision.FP32, Form.STANDARD),
    STANDARD: ("scconv_resnet50", Precision.INT8, Form.STANDARD),
    PLUGIN: ("scconv_resnet50", Precision.INT8, Form.PLUGIN),
    FLOOR: ("scconv_resnet50", Precision.INT8, Form.STANDARD),
}
"""Name -> network of the zoo, precision, form; the first is the yardstick."""


class Convolutions(nn.Module):
    """A block's convolutions and the sum of their branches, (N, C_in, H, W) -> (N, C_out, H', W')."""

    def __init__(self, cru: ReferenceCRU) -> None:
        super().__init__()
        self.split = [cru.spec.up, cru.spec.low]
        # Not the CRU itself, which an export would recognise and put in its own form.
        self.convolutions = nn.ModuleList([cru.squeeze_up, cru.squeeze_low, cru.gwc, cru.pwc1, cru.pwc2])

    def forward(self, x: Tensor) -> Tensor:
        """As the CRU computes its branches, without what weighs them."""
        squeeze_up, squeeze_low, gwc, pwc1, pwc2 = self.convolutions
        up, low = torch.split(x, self.split, dim=1)
        up, low = squeeze_up(up), squeeze_low(low)
        out: Tensor = gwc(up) + pwc1(up) + torch.cat([pwc2(low), low], dim=1)
        return out


def without_units(net: nn.Module) -> nn.Module:
    """``net`` with :class:`Convolutions` for its blocks, and without the BatchNorms that an export folds into them.

    Raises:
        LookupError: it has no blocks.
    """
    count = 0
    for stage in [m for m in net.modules() if isinstance(m, Bottleneck)]:
        middle = stage.conv2  # an SCConv, or with a stride one behind a pooling
        parts = list(middle) if isinstance(middle, nn.Sequential) else [middle]
        block = parts[-1]
        if isinstance(block, ReferenceSCConv) and block.cru is not None:
            stage.conv2 = nn.Sequential(*parts[:-1], Convolutions(block.cru))
            stage.bn2 = nn.Identity()  # type: ignore[assignment]
            count += 1
    if not count:
        raise LookupError("this network has no SCConv blocks")
    return net


def prepare(folder: Path) -> None:
    """Export what is not in the folder yet; figures need no proof, the tests have it."""
    calib = folder / "images.npz"
    for name, (network, precision, form) in BUNDLES.items():
        if (folder / name).is_dir():
            continue
        torch.manual_seed(0)
        net = zoo.build(network).eval()
        if name == FLOOR:
            net = without_units(net)
        if not calib.is_file():
            images = np.random.default_rng(0).standard_normal((IMAGES, *SHAPE)).astype(np.float32)
            np.savez(calib, x=images)
        api.export(
            net,
            torch.zeros(2, *SHAPE),
            "onnx",
            precision,
            folder / name,
            form=form,
            calib=calib if precision is Precision.INT8 else None,
            verify=False,
        )


def main() -> None:
    """Export, measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--duration", type=float, default=1.5, help="seconds per bundle and setting")
    parser.add_argument("--folder", type=Path, help="keeps the exports, for a second run")
    parser.add_argument("--prepare", action="store_true", help="export into the folder and stop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = options.folder or Path(work)
        folder.mkdir(exist_ok=True)
        prepare(folder)
        if options.prepare:
            return
        before = load_average()
        shapes = shape_ranges([f"1x{'x'.join(map(str, SHAPE))}"])
        report = side_by_side.compare(folder, tuple(BUNDLES), SETTINGS, shapes, options.duration)
    found = side_by_side.results(report, (PLAIN_INT8, PLAIN_FP32))
    path = write_results("int8", content(found, before, report.not_measured))
    history.append(
        RESULTS / "history.jsonl", history.record("resnet50_224x224_int8", report, history.commit())
    )
    for setting, rows in found.items():
        print(setting, rows)
    print(path)


def content(found: dict[str, Json], before: list[Json], not_measured: tuple[str, ...]) -> dict[str, Json]:
    """What the JSON holds beside its head."""
    return {
        "what": "int8 in ONNX Runtime on CPU, ranges from random images, untrained weights: milliseconds per call; "
        "'against X' is the median over interleaved rounds of the time over X's, with its 95 % bootstrap interval",
        "commit": history.commit(),
        "load_average_before": before,
        "load_average_after": load_average(),
        "not_measured": list(not_measured),
        "results": found,
    }


if __name__ == "__main__":
    main()
