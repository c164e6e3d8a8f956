"""The nouns that travel between stages, one frozen dataclass per arrow of the pipeline.

``load -> recognise -> lower -> trace -> simplify -> quantize -> build -> verify -> benchmark -> package``

This module imports neither torch nor onnx: it is shared by the exporting half and by the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scconv_deploy.config import Precision
from scconv_deploy.verdicts import ParityReport

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from scconv_deploy.contracts import Runner
    from scconv_deploy.scconv.spec import SCConvSpec

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class ShapeBounds:
    """Smallest, most frequent and largest shape of one input in one optimisation profile."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: name, NumPy dtype name and shape; a dynamic axis is a string (its symbol).

    ``minimum``, ``optimum`` and ``maximum`` bound the dynamic axes (inputs only; else empty).
    ``multiple_of`` maps an axis to the number its extent must be a multiple of. ``profiles`` are the optimisation
    profiles where the user gave several (else empty): profile i of one input belongs to profile i of the others,
    and minimum and maximum are their envelope.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    minimum: tuple[int, ...] = ()
    optimum: tuple[int, ...] = ()
    maximum: tuple[int, ...] = ()
    multiple_of: Mapping[int, int] = field(default_factory=dict)
    profiles: tuple[ShapeBounds, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceModel:
    """Result of ``load``: the user's own module in eval mode, and where it came from.

    ``original`` runs the source itself where it is a program (ONNX, TorchScript, ``.pt2``) and ``module`` only
    our reading of it: the artifact is then verified against the program. ``inputs`` whose ranges are given
    (``minimum`` not empty) are what the program takes, and are never widened.
    """

    module: nn.Module
    origin: str
    kind: str
    sha256: str | None
    architecture: str | None
    inputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()
    original: Runner | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """Numeric proof that a specification computes what the user's module computes (float64).

    ``worst_error`` is the largest difference (relative where outputs exceed 1) over ``probes`` inputs,
    ``edge_probes`` of which lie at and on both sides of the gate's threshold. ``runner_up`` is the best
    specification that was refuted, with the difference that refuted it.
    """

    seed: int
    probes: int
    edge_probes: int
    worst_error: float
    runner_up: str | None
    runner_up_error: float | None


@dataclass(frozen=True, slots=True)
class RecognisedBlock:
    """One certified block: where, what, which family by name, and the proof."""

    path: str
    variant: str
    spec: SCConvSpec
    certificate: Certificate
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Role of each tensor ("gamma", "squeeze_up.weight", ...) -> its name inside the user's module."""


@dataclass(frozen=True, slots=True)
class LeftAsIs:
    """A module that looks like SCConv and is exported as ordinary PyTorch, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recognition:
    """Result of ``recognise``."""

    blocks: tuple[RecognisedBlock, ...]
    left_as_is: tuple[LeftAsIs, ...]


@dataclass(frozen=True, slots=True)
class LoweredModel:
    """Result of ``lower``: a copy of the user's module with deploy modules in place of certified blocks.

    ``module`` is what is traced: typed for the precision (``precision``), BatchNorms folded before that.
    ``exact`` is the same in float32 before typing (the same object in fp32): between the two lies rounding of
    weights only. ``reference`` is the user's own function in float32, ``original`` its source where that is a
    program (see :class:`SourceModel`).
    """

    module: nn.Module
    reference: nn.Module
    recognition: Recognition
    block_paths: tuple[str, ...]
    folded: tuple[tuple[str, str], ...]
    """(producer, BatchNorm) module paths of every fold."""
    notes: tuple[str, ...] = ()
    precision: Precision = Precision.FP32
    exact: nn.Module | None = None
    original: Runner | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where the ranges of a quantised graph come from.

    ``ranges``: lowest and highest value that each quantised activation can hold, by its name in the graph;
    ``rest``: type of what is not quantised; ``source`` and ``sha256`` name the samples' file (None: unknown).
    """

    method: str
    samples: int
    rest: str
    ranges: Mapping[str, tuple[float, float]]
    source: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class TracedGraph:
    """Result of ``trace``, ``simplify`` and ``quantize``: an ONNX model with its inputs' ranges and outputs.

    A node of the block at module path P is named ``P/<operator>_<n>`` or ``P.<child>/<operator>_<n>``.
    """

    model: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    block_paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unquantised: TracedGraph | None = None
    """After ``quantize``: the graph as it was before (None where nothing was quantised)."""
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class ModuleCost:
    """Kernels of one module, and the bytes they move at the optimum shape."""

    kernels: int
    bytes_moved: int


@dataclass(frozen=True, slots=True)
class Roofline:
    """An estimate, never a measurement: no kernel can be faster than its bytes and its arithmetic on this card.

    ``time_us`` sums, over all kernels, the larger of the two; ``memory_us`` and ``arithmetic_us`` sum each alone.
    Launches are not in it. ``words`` say so to a reader.
    """

    card: str
    time_us: float
    memory_us: float
    arithmetic_us: float
    flops: int
    words: str


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What a builder says it built: kernels, bytes moved, types, and kernels per SCConv block.

    ``bytes_moved`` sums the bytes of every kernel's inputs, outputs and constants at the optimum shape.
    """

    kernels: int
    bytes_moved: int
    layout_transposes: int
    types: Mapping[str, int]
    kernels_per_block: Mapping[str, int]
    shape_kernels: int = 0
    types_per_block: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Block path -> type of a kernel's output -> number of kernels."""
    modules: Mapping[str, ModuleCost] = field(default_factory=dict)
    """Module path (an SCConv block, or a module outside them) -> its share; the shares add up to the whole."""
    roofline: Roofline | None = None


@dataclass(frozen=True, slots=True)
class BuiltArtifact:
    """Result of ``build``: files in the work directory, the first being the artifact itself.

    ``not_executed`` is None where this machine can run the artifact, else the reason in words.
    ``precision_per_block`` says what was built: block path -> role ("convolutions", "gate", "fuse") -> type.
    """

    files: tuple[Path, ...]
    runtime: str
    precision_built: str
    tool_versions: Mapping[str, str]
    not_executed: str | None = None
    kernel_report: KernelReport | None = None
    details: Mapping[str, Json] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    precision_per_block: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def primary(self) -> Path:
        """The artifact's own file."""
        return self.files[0]


@dataclass(frozen=True, slots=True)
class StageTiming:
    """One line of the run: stage, seconds, result in words."""

    stage: str
    seconds: float
    result: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A complete bundle on disk. ``manifest`` is the parsed ``manifest.json``."""

    path: Path
    artifact: Path
    manifest: Mapping[str, Json]
    parity: ParityReport | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What ``scconv-inspect`` finds in a file without executing anything in it.

    ``kind`` in words ("whole pickled module (zip)"); ``needs_classes`` are the globals a loader would have to
    import; ``tensors`` counts stored tensors and ``parameters`` their elements; ``scconv_like`` are the
    prefixes whose tensors have the shapes of an SCConv block; ``export_command`` is ready to paste.
    """

    path: str
    kind: str
    sha256: str
    size_bytes: int
    needs_classes: tuple[str, ...] = ()
    tensors: int = 0
    parameters: int = 0
    dtypes: tuple[str, ...] = ()
    architecture: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    scconv_like: tuple[str, ...] = ()
    export_command: str | None = None
    notes: tuple[str, ...] = ()
