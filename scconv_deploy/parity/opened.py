"""What the runtime makes of a file when it opens it here, against the file as it stands: a note, or a fault.

Where our kernels are there, ``scconv_deploy.open`` rewires the graph for ONNX Runtime's blocked layout. Whole outputs
are compared with PyTorch in that form; pieces are cut out of the file and judged in the planar layout. So both
layouts are run on the same inputs: they may differ by rounding, and by a gate that rounding decides otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scconv_deploy.contracts import Runner
from scconv_deploy.parity.endtoend import Typed
from scconv_deploy.runtime.onnx import PLANAR, OnnxRunner
from scconv_deploy.runtime.upgrade import LARGEST_DIFFERENCE


@dataclass(frozen=True, slots=True)
class AsOpened:
    """``note`` says how it was opened, None where nothing of ours runs in it; ``fault`` what is wrong with that."""

    note: str | None = None
    fault: str | None = None


def check_opened(
    runner: Typed, artifact: Path, cases: Sequence[Mapping[str, np.ndarray]], threads: int | None
) -> AsOpened:
    """Judge what an open runner of ``artifact`` runs.

    Args:
        runner: of the artifact, as an application opens it.
        artifact: its file.
        cases: inputs, floating ones as float32.
        threads: of the runner.
    """
    opened = runner.runner
    if not isinstance(opened, OnnxRunner) or opened.layout is None:
        return AsOpened()
    how = f"as the runtime opens it here: {'; '.join(opened.notes)}"
    if opened.layout == PLANAR:
        return AsOpened(how)
    with Typed(OnnxRunner(artifact, threads=threads, use_blocks=False), runner.types) as planar:
        differences = [_difference(planar, runner, case) for case in cases]
    agreed = sum(d <= LARGEST_DIFFERENCE for d in differences)
    told = (
        f"; it differs from the layout {PLANAR}, in which blocks are judged, by {max(differences):.2g} of the largest "
        f"output at most, in {len(differences)} comparisons"
    )
    # A gate that rounding flips may move a whole output; what loads a graph asks for two agreements of three.
    if 2 * agreed < len(differences):
        return AsOpened(how + told, f"{how}{told}, and agrees in {agreed} of them only")
    return AsOpened(how + told)


def _difference(planar: Runner, opened: Runner, inputs: Mapping[str, np.ndarray]) -> float:
    """Largest difference of any output, relative to its largest value; infinite where one side alone is not finite."""
    want, have = planar.run(inputs), opened.run(inputs)
    worst = 0.0
    for name, array in want.items():
        one, other = array.astype(np.float64), have[name].astype(np.float64)
        if one.shape != other.shape or not np.array_equal(np.isfinite(one), np.isfinite(other)):
            return np.inf
        error = np.abs(one - other)[np.isfinite(one)].max(initial=0.0)
        scale = np.abs(one[np.isfinite(one)]).max(initial=0.0)
        worst = max(worst, float(error / scale) if error else 0.0)
    return worst
