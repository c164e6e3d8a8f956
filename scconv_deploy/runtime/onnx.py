"""An ONNX file or bytes -> a runner on ONNX Runtime, with the provider named and never silently replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime as ort

from scconv_deploy.errors import CapabilityError, InputError

CPU = "CPUExecutionProvider"


class OnnxRunner:
    """Runs an ONNX model. Thread-safe: ONNX Runtime sessions may be called from several threads.

    Args:
        model: path of a ``.onnx`` file, or its serialised bytes.
        threads: intra-op threads; None leaves the choice to ONNX Runtime.
        provider: execution provider's full name; it must be the one that really runs.
        optimise: False loads the graph exactly as it is.

    Raises:
        CapabilityError: the provider is not available here, or ONNX Runtime fell back to another one.
        InputError: ONNX Runtime cannot load the model.
    """

    def __init__(
        self,
        model: Path | bytes,
        threads: int | None = None,
        provider: str = CPU,
        optimise: bool = True,
    ) -> None:
        if provider not in ort.get_available_providers():
            raise CapabilityError(
                f"ONNX Runtime {ort.__version__} here has no {provider}; "
                f"available: {', '.join(ort.get_available_providers())}"
            )
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            source = model if isinstance(model, bytes) else str(model)
            self._session: Any = ort.InferenceSession(source, options, providers=[provider])
        except Exception as error:
            where = model if isinstance(model, Path) else "the graph"
            raise InputError(f"ONNX Runtime cannot load {where}: {str(error).splitlines()[0]}") from error
        used = self._session.get_providers()[0]
        if used != provider:
            raise CapabilityError(f"ONNX Runtime fell back from {provider} to {used}; nothing was run")
        self.input_names: tuple[str, ...] = tuple(i.name for i in self._session.get_inputs())
        self.output_names: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once; names in, names out.

        Raises:
            InputError: a missing or unknown input, or a shape or dtype the model refuses.
        """
        if set(inputs) != set(self.input_names):
            raise InputError(
                f"the model takes inputs {', '.join(self.input_names)}; "
                f"given were {', '.join(inputs) or 'none'}"
            )
        session = self._session  # another thread may close the runner meanwhile
        if session is None:
            raise InputError("this runner is closed")
        try:
            values = session.run(None, dict(inputs))
        except Exception as error:
            raise InputError(f"ONNX Runtime refused the inputs: {str(error).splitlines()[0]}") from error
        return dict(zip(self.output_names, values, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None


def version() -> str:
    """ONNX Runtime's version."""
    return str(ort.__version__)
