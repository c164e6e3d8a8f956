"""Outcomes of comparing: metrics, named tolerances, checks of pieces, and the report they add up to.

Like :mod:`scconv_deploy.artifacts` this imports neither torch nor onnx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


TOP1 = "top-1 agreement"
"""Name of the task metric where the user brings none: the share of real samples with PyTorch's own top class."""


class Verdict(StrEnum):
    """Outcome of a comparison. AMBIGUOUS is the gate-aware verdict's place (see DECISIONS.md)."""

    PASS = "PASS"
    FAIL = "FAIL"
    AMBIGUOUS = "AMBIGUOUS"


@dataclass(frozen=True, slots=True)
class TensorMetrics:
    """All differences between one reference and one result, computed in float64.

    ``max_abs``, ``mean_abs``, ``median_abs``, ``p90_abs`` and ``p99_abs`` in the output's unit;
    ``max_rel`` against max(|reference|, its
    mean magnitude); ``cosine`` in [-1, 1]; ``sqnr_db`` in decibels (inf when equal);
    ``top1_agreement`` in [0, 1], None where there is no class axis.
    """

    max_abs: float
    mean_abs: float
    p99_abs: float
    max_rel: float
    cosine: float
    sqnr_db: float
    top1_agreement: float | None
    finite: bool
    median_abs: float | None = None
    p90_abs: float | None = None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A named gate: ``metric`` of every comparison must be at most ``atol + rtol * scale``.

    ``scale`` is the largest magnitude in the reference output. With the metric ``elemwise`` each element's
    error must be at most ``atol + rtol * |reference|`` of that element.
    """

    name: str
    metric: str
    atol: float
    rtol: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output of one case against one reference."""

    case: str
    output: str
    shape: tuple[int, ...]
    metrics: TensorMetrics
    limit: float
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True)
class MarginBin:
    """Gates whose relative distance from the threshold, ``|s - logit(t)| / max |s|``, is below ``below``
    (and not below the previous bin's), and how many of them flipped."""

    below: float
    gates: int
    flips: int


@dataclass(frozen=True, slots=True)
class GateCheck:
    """SRU's decisions of one block, teacher-forced, against float64 truth on the same inputs.

    ``arithmetic`` says whose decisions they are ("torch float16, operator by operator").
    ``flips_outside_band`` lie farther from the threshold than rounding explains (``band``, relative).
    ``pytorch_flips`` are those of the user's own module in the same precision (None where its comparison
    could not be watched). ``error_off_flips`` is the SRU's largest output error where neither gate flipped
    (limit ``limit_off_flips``), ``error_forced`` the block's with float64 truth's gate forced in (``limit``).
    """

    arithmetic: str
    gates: int
    flips: int
    flips_outside_band: int
    band: float
    farthest_flip: float
    histogram: tuple[MarginBin, ...]
    pytorch_flips: int | None
    error_off_flips: float | None
    error_forced: float | None
    limit: float
    limit_off_flips: float | None = None

    @property
    def flip_rate(self) -> float:
        """Share of flipped gates, 0 to 1."""
        return self.flips / self.gates if self.gates else 0.0


@dataclass(frozen=True, slots=True)
class UnitCheck:
    """One unit of a block, fed with what the unit before it should have given. ``unit`` is SRU or CRU."""

    unit: str
    verdict: Verdict
    max_abs: float
    limit: float
    sentence: str


@dataclass(frozen=True, slots=True)
class QuantCheck:
    """The Q/DQ of one block (or of what lies outside all blocks).

    ``values`` activations and ``constants`` weights and biases are codes. Of ``elements`` codes that the artifact
    made, ``off_by_one`` differ by one step from the graph's own arithmetic on the same codes, and ``off`` by
    more (None where nothing ran). ``saturated`` is the largest share of values of one activation beyond its range.
    Of ``gates``, ``input_flips`` decide otherwise because SRU's input is a code, all else being exact, and
    ``running_flips`` in the whole network, where errors have accumulated (None where there is no gate to see).
    """

    values: int
    constants: int
    elements: int | None = None
    off_by_one: int | None = None
    off: int | None = None
    saturated: float | None = None
    gates: int | None = None
    input_flips: int | None = None
    running_flips: int | None = None


@dataclass(frozen=True, slots=True)
class PieceCheck:
    """One piece of the graph, fed with the reference's own tensors (teacher-forced).

    ``piece`` is a block's module path, or words for what lies outside the blocks. ``worst`` is the largest
    excess in the gating metric; ``near_gate_samples`` counts samples with gates inside the rounding band.
    """

    piece: str
    verdict: Verdict
    samples: int
    passed_samples: int
    near_gate_samples: int
    max_abs: float
    limit: float
    sentence: str
    gate: GateCheck | None = None
    units: tuple[UnitCheck, ...] = ()
    operator: str | None = None
    """First operator at fault, where ``--bisect`` looked for it."""
    quantised: QuantCheck | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """One named limit of the verdict, what was found, and whether it was kept."""

    name: str
    limit: float
    found: float
    kept: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class TaskMetric:
    """The user's own measure of quality on real samples: ``name``, its value for reference and artifact."""

    name: str
    reference: float
    artifact: float
    samples: int


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Result of ``verify``.

    ``subject`` says what was run ("model.onnx in ONNX Runtime 1.32 on CPU"). ``against_float64`` holds the
    same comparisons against float64 truth, and ``reference_against_float64`` how far the user's own
    PyTorch module is from it, so that an export error is told apart from rounding.
    """

    verdict: Verdict
    sentence: str
    subject: str
    tolerance: Tolerance
    comparisons: tuple[Comparison, ...]
    against_float64: tuple[Comparison, ...] = ()
    reference_against_float64: tuple[Comparison, ...] = ()
    pieces: tuple[PieceCheck, ...] = ()
    first_divergent_block: str | None = None
    artifact_executed: bool = True
    notes: tuple[str, ...] = ()
    precision: str = "fp32"
    budgets: tuple[Budget, ...] = ()
    task: TaskMetric | None = None
    pytorch_same_precision: tuple[Comparison, ...] = ()
    """The user's own module, cast to the same precision, against float64 truth: what "fp16 itself" costs."""


@dataclass(frozen=True, slots=True)
class GoldenSamples:
    """Inputs and the reference's outputs that travel with the bundle, by tensor name.

    ``own`` are the artifact's outputs at the export, where they missed the limit and it was promoted all the same
    (AMBIGUOUS, or PyTorch itself was off): what it must give again. One run per index of the first axis: as it was
    judged, and as it is served here, where its types were simulated. Empty where the reference's are enough.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    own: Mapping[str, np.ndarray] = field(default_factory=dict)
