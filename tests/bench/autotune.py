"""``--autotune`` on SCConv-ResNet-50: which graph forms it chooses on this machine, and what the network gains.

The network is exported twice, by the target's rule and with ``--autotune``; both bundles and the plain ResNet-50
then take turns in one run, at the setting that was tuned for (batch 1 on all cores) and at two that were not. Every
form computes the same function; a choice that gains nothing, or is not the same in a second run, is one that the
rule should keep, and the decision's margin is there for that. Untrained weights, standard form, fp32.

    python -m tests.bench.autotune [--seconds 60] [--duration 2] [--folder KEPT [--prepare]]

Some two and a half minutes on two cores: 60 seconds of tuning, half a minute of exporting, 20 seconds per setting.
With ``--folder --prepare`` it stops after tuning and exporting, and a second run measures what lies there. Writes
``results/autotune.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scconv_deploy import api
from scconv_deploy.artifacts import Json
from scconv_deploy.config import shape_ranges
from scconv_deploy.scconv import zoo
from scconv_deploy.tuning.record import RULE
from scconv_deploy.workspace import MANIFEST, sha256
from tests.bench import history, side_by_side
from tests.bench.machine import load_average, write_results

SETTINGS = ((1, 2), (1, 1), (8, 2))
SHAPE = (3, 224, 224)
PLAIN, BY_RULE, TUNED = "plain ResNet-50", "by rule", "autotuned"


def prepare(folder: Path, seconds: float) -> None:
    """Export what is not in the folder yet."""
    exports = {
        PLAIN: ("resnet50", None),
        BY_RULE: ("scconv_resnet50", None),
        TUNED: ("scconv_resnet50", seconds),
    }
    for name, (network, budget) in exports.items():
        if (folder / name).is_dir():
            continue
        torch.manual_seed(0)
        api.export(
            zoo.build(network).eval(),
            torch.zeros(1, *SHAPE),
            "onnx",
            out=folder / name,
            autotune_seconds=budget,
            verify=False,
        )


def same_graph(one: Path, other: Path) -> bool:
    """Whether two bundles hold the same file: what their times differ by is then the measurement's own error."""
    return sha256(one / "model.onnx") == sha256(other / "model.onnx")


def choices(manifest: Mapping[str, Any]) -> dict[str, Json]:
    """A manifest's ``autotune`` -> what was chosen: blocks by form, and for every different block its times.

    Raises:
        LookupError: the bundle was not autotuned.
    """
    record = manifest.get("autotune")
    if not record:
        raise LookupError("this bundle was exported without --autotune")
    count: dict[str, Json] = {}
    rows: list[Json] = []
    for block in record["blocks"]:
        chosen, paths = str(block["chosen"]), block["paths"]
        before = count.get(chosen, 0)
        count[chosen] = len(paths) + (before if isinstance(before, int) else 0)
        forms: dict[str, Json] = {
            f["name"]: [f["ratio"], f["low"], f["high"]] for f in block["forms"] if f["name"] != RULE
        }
        rows.append(
            {
                "block": paths[0],
                "alike": len(paths),
                "shape": block["shape"],
                "rounds": block["rounds"],
                "chosen": chosen,
                "ratio_to_rule": forms,
            }
        )
    return {
        "threads": record["threads"],
        "budget_s": record["budget_s"],
        "seconds": record["seconds"],
        "blocks_by_form": count,
        "blocks": rows,
    }


def main() -> None:
    """Tune, export, measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="budget of --autotune")
    parser.add_argument("--duration", type=float, default=2, help="seconds per bundle and setting")
    parser.add_argument("--folder", type=Path, help="keeps the exports, for a second run")
    parser.add_argument("--prepare", action="store_true", help="tune and export into the folder and stop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = options.folder or Path(work)
        folder.mkdir(exist_ok=True)
        prepare(folder, options.seconds)
        if options.prepare:
            return
        before = load_average()
        chosen = choices(json.loads((folder / TUNED / MANIFEST).read_text(encoding="utf-8")))
        same = same_graph(folder / BY_RULE, folder / TUNED)
        shapes = shape_ranges([f"1x{'x'.join(map(str, SHAPE))}"])
        report = side_by_side.compare(folder, (BY_RULE, TUNED, PLAIN), SETTINGS, shapes, options.duration)
    found = side_by_side.results(report, (BY_RULE, PLAIN))
    path = write_results(
        "autotune",
        {
            "what": "SCConv-ResNet-50, untrained, fp32, standard form, ONNX Runtime on CPU; 'against X' is the median "
            "over interleaved rounds of the time over X's, with its 95 % bootstrap interval; 'ratio_to_rule' the same "
            "of single blocks, as --autotune timed them; same_graph: the two bundles hold one graph, so that what "
            "their times differ by is the measurement's own error",
            "commit": history.commit(),
            "load_average_before": before,
            "load_average_after": load_average(),
            "chosen": chosen,
            "same_graph": same,
            "results": found,
        },
    )
    print(chosen["blocks_by_form"], "the same graph" if same else "another graph")
    for setting, rows in found.items():
        print(setting, rows)
    print(path)


if __name__ == "__main__":
    main()
