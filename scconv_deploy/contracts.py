"""The verbs other people implement: what an exporter, a runner and a progress listener must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from scconv_deploy.artifacts import BuiltArtifact, StageTiming, TracedGraph
from scconv_deploy.config import ExportConfig, Precision

if TYPE_CHECKING:
    import numpy as np

    from scconv_deploy.scconv.style import GraphStyle


Metric = Callable[[dict[str, "np.ndarray"]], float]
"""The user's own measure of quality: outputs by name, all samples in one batch -> a number."""


class Progress(Protocol):
    """Listener for long work. Calls are cheap and may come from the stage's own thread only."""

    def update(self, message: str, fraction: float | None = None) -> None:
        """``message`` replaces the last one; ``fraction`` in [0, 1] where it is known.

        May raise KeyboardInterrupt: builders treat that as "cancel".
        """


class Runner(Protocol):
    """Something that maps named NumPy arrays to named NumPy arrays. A context manager."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once. Raises InputError for wrong names, dtypes or shapes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class QuantForm:
    """How a target wants Q/DQ. Exporters that quantise have ``quantised: Mapping[Precision, QuantForm]``.

    ``activations``: NumPy name of their codes ("uint8" with a zero point; "int8", "float8_e4m3fn" without);
    weights are symmetric, int8 or float8_e4m3fn, one scale per output channel. ``outputs``: results of
    convolutions get Q/DQ too and biases are int32 codes, without which ONNX Runtime has no integer kernel;
    False: only what convolutions read. ``rest``: types allowed for what is not quantised, the default first.
    """

    activations: str
    outputs: bool
    rest: tuple[Precision, ...]


class Exporter(Protocol):
    """One deployment target. Constructing it is free; ``check`` says early what cannot work.

    The class is found through the entry-point group ``scconv_deploy.exporters``; it is constructed
    without arguments.
    """

    target: str
    """Name after ``--target``."""

    summary: str
    """One line for ``--help`` and ``scconv-doctor``."""

    dynamic_batch: bool
    """Whether axis 0 is free where the user gave no range for it."""

    def check(self, config: ExportConfig) -> tuple[str, ...]:
        """Refuse before any work is done; return notes for the user ("TensorRT is absent, so RTX").

        Raises:
            CapabilityError: a library or device is missing; the message holds the one line to install it.
            InputError: the configuration cannot be built by this target (with the table of what can).
        """

    def style(self, config: ExportConfig) -> GraphStyle:
        """Which of the exact graph forms this target runs best."""

    def build(
        self, graph: TracedGraph, config: ExportConfig, folder: Path, progress: Progress
    ) -> BuiltArtifact:
        """Write the artifact's files into ``folder`` (which exists and is empty).

        Raises:
            BuildError: the builder refused; the message names the node.
        """

    def versions(self) -> Mapping[str, str]:
        """Installed versions of what this target needs; empty where nothing is installed."""


class RunListener(Progress, Protocol):
    """Hears what the pipeline does. The terminal implements it; so can an application."""

    def started(self, stage: str) -> None:
        """A stage begins."""

    def finished(self, timing: StageTiming) -> None:
        """A stage ended well; ``timing.result`` is one short phrase."""

    def note(self, text: str) -> None:
        """One sentence that the user should see (a fallback taken, a block left as it is)."""


class Silence:
    """The RunListener that hears nothing."""

    def update(self, message: str, fraction: float | None = None) -> None:
        """Ignore."""

    def started(self, stage: str) -> None:
        """Ignore."""

    def finished(self, timing: StageTiming) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
