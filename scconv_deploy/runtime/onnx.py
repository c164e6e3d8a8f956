"""An ONNX file or bytes -> a runner on ONNX Runtime, with the provider named and never silently replaced."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime as ort

from scconv_deploy.errors import CapabilityError, InputError, first_line
from scconv_deploy.kernels import loader
from scconv_deploy.runtime.dtypes import BFLOAT16, numpy_dtype
from scconv_deploy.runtime.input_checks import moved_into
from scconv_deploy.runtime.onnx_into import BOUND_FROM, run_bound
from scconv_deploy.runtime.upgrade import Upgraded, open_upgraded

CPU = "CPUExecutionProvider"
STANDARD = "standard operators"
PLANAR = "NCHW"
OPTIMISED = "optimised.onnx"
BFLOAT16_TENSOR = "tensor(bfloat16)"
BFLOAT16_ELEMENT = 16
"""``onnx.TensorProto.BFLOAT16``; onnx itself is not imported here."""


class OnnxRunner:
    """Runs an ONNX model. Thread-safe: ONNX Runtime sessions may be called from several threads.

    Args:
        model: path of a ``.onnx`` file, or its serialised bytes.
        threads: intra-op threads; None leaves the choice to ONNX Runtime.
        provider: execution provider's full name; it must be the one that really runs.
        optimise: False loads the graph exactly as it is.
        use_kernels: False runs ``scconv::`` nodes on their function bodies even where the kernels are there.
        use_blocks: False leaves the fused nodes of a file as they are, in the planar layout. Otherwise they work in
            ONNX Runtime's blocked one, and whole SCConv blocks as one node, where that is possible
            (:mod:`~scconv_deploy.runtime.upgrade`); a model given as bytes, or with ``optimise=False``, is run as
            it is.
        profile: a folder for ONNX Runtime's own profile (see :meth:`end_profiling`) and for the graph as it was
            optimised here (``OPTIMISED``); every run is then a little slower.

    Attributes:
        kernels: what runs the model's ``scconv::`` nodes: the build of the fused kernels ("avx512", "avx2",
            "plain"), "standard operators", or None where the model has no such nodes.
        layout: what those kernels work on, "NCHW", "NCHW8c" or "NCHW16c"; None where no kernel runs.
        whole_blocks: how many SCConv blocks are one kernel each.
        notes: the same as a sentence for :class:`~scconv_deploy.runtime.engine_info.EngineInfo`.

    Raises:
        CapabilityError: the provider is not available here, has no kernel for an operator in its type (bf16
            convolutions on CPU), or ONNX Runtime fell back to another one.
        InputError: ONNX Runtime cannot load the model.
    """

    def __init__(
        self,
        model: Path | bytes,
        threads: int | None = None,
        provider: str = CPU,
        optimise: bool = True,
        use_kernels: bool = True,
        use_blocks: bool = True,
        profile: Path | None = None,
    ) -> None:
        if provider not in ort.get_available_providers():
            raise CapabilityError(
                f"ONNX Runtime {ort.__version__} here has no {provider}; "
                f"available: {', '.join(ort.get_available_providers())}"
            )
        self.kernels: str | None = None
        self.layout: str | None = None
        self.whole_blocks = 0
        fused = loader.holds_fused_nodes(model)
        # The kernels are for the CPU provider; another one has the function bodies fused by itself.
        library = _library() if fused and use_kernels and provider == CPU else None
        sessions = _Sessions(threads, provider, profile)
        try:
            if library is None:
                self._session, self.kernels = sessions(_source(model), optimise), STANDARD if fused else None
            else:
                file = model if isinstance(model, Path) and use_blocks and optimise else None
                used, self.kernels = _with_kernels(sessions, library, file, _source(model), optimise)
                self._session, self.whole_blocks = used.session, used.whole_blocks
                if self.kernels != STANDARD:
                    self.layout = f"{PLANAR}{used.block}c" if used.block else PLANAR
        except Exception as error:
            where = model if isinstance(model, Path) else "the graph"
            if "NOT_IMPLEMENTED" in str(error):
                raise CapabilityError(
                    f"ONNX Runtime {ort.__version__} has no {provider} kernel for {_unimplemented(error)} of "
                    f"{model.name if isinstance(model, Path) else where}; run it with another provider, or export "
                    "in a precision that this one computes"
                ) from error
            raise InputError(f"ONNX Runtime cannot load {where}: {first_line(error)}") from error
        ran = self._session.get_providers()[0]
        if ran != provider:
            raise CapabilityError(f"ONNX Runtime fell back from {provider} to {ran}; nothing was run")
        self.notes = _notes(self.layout, self.whole_blocks)
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
            values = _call(session, inputs)
        except Exception as error:
            raise InputError(f"ONNX Runtime refused the inputs: {str(error).splitlines()[0]}") from error
        return dict(zip(self.output_names, values, strict=True))

    def run_into(
        self, inputs: Mapping[str, np.ndarray], into: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """:meth:`run`, with arrays of the caller for outputs of their names (:mod:`.onnx_into`)."""
        session, size = self._session, sum(array.nbytes for array in into.values())
        if session is None or size < BOUND_FROM or any(e.type == BFLOAT16_TENSOR for e in _ends(session)):
            return moved_into(self.run(inputs), into)
        return run_bound(session, inputs, into)

    def end_profiling(self) -> Path:
        """Stop recording; the profile's file. Only where ``profile`` was given."""
        return Path(str(self._session.end_profiling()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None


def _call(session: Any, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Plain arrays where that is possible; ONNX Runtime takes and gives bfloat16 only as its own values."""
    if all(end.type != BFLOAT16_TENSOR for end in _ends(session)):
        return list(session.run(None, dict(inputs)))
    given = {name: _ort_value(array) for name, array in inputs.items()}
    return [_numpy(value) for value in session.run_with_ort_values(None, given)]


def _ends(session: Any) -> list[Any]:
    return [*session.get_inputs(), *session.get_outputs()]


def _ort_value(array: np.ndarray) -> Any:
    array = np.ascontiguousarray(array)
    if array.dtype.name == BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), BFLOAT16_ELEMENT)
    return ort.OrtValue.ortvalue_from_numpy(array)


def _numpy(value: Any) -> np.ndarray:
    if value.element_type() != BFLOAT16_ELEMENT:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    # Its numpy() knows no bfloat16; the memory lives as long as the value, so it is copied at once.
    bits = (ctypes.c_uint16 * math.prod(shape)).from_address(value.data_ptr())
    return np.frombuffer(bits, np.uint16).copy().view(numpy_dtype(BFLOAT16)).reshape(shape)


def _unimplemented(error: Exception) -> str:
    """``Conv(22) node with name 'stem/Conv_0'`` from ONNX Runtime's message; else "an operator"."""
    found = re.search(r"Could not find an implementation for (.*)", str(error))
    return found[1] if found else "an operator"


@dataclass(frozen=True)
class _Sessions:
    """Opens sessions as the runner's caller wants them; see :class:`~scconv_deploy.runtime.upgrade.Start`."""

    threads: int | None
    provider: str
    profile: Path | None
    library: Path | None = None

    def __call__(
        self, source: str | bytes, optimise: bool, is_kept: bool = True, written_to: Path | None = None
    ) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self.library is not None:
            options.register_custom_ops_library(str(self.library))
        if written_to is not None:
            options.optimized_model_filepath = str(written_to)
        elif self.profile is not None and is_kept:
            options.enable_profiling = True
            options.profile_file_prefix = str(self.profile / "profile")
            options.optimized_model_filepath = str(self.profile / OPTIMISED)
        return ort.InferenceSession(source, options, providers=[self.provider])


def _source(model: Path | bytes) -> str | bytes:
    return model if isinstance(model, bytes) else str(model)


def _library() -> Path | None:
    found = loader.library()
    if found is None:
        loader.say_once(
            "this model's fused kernels are not built here, so it runs on standard operators: the same results, "
            f"more slowly; {loader.REBUILD}"
        )
    return found


def _with_kernels(
    plain: _Sessions, library: Path, upgradable: Path | None, source: str | bytes, optimise: bool
) -> tuple[Upgraded, str]:
    """A session with the kernels and the name of their build; without kernels where they cannot be loaded."""
    start = replace(plain, library=library)
    try:
        if upgradable is None:
            opened = Upgraded(start(source, optimise))
        else:
            opened = open_upgraded(upgradable, library, start, version())
        return opened, loader.instruction_set() or STANDARD
    except Exception as error:  # noqa: BLE001 - whatever the library did, the model can run without it
        session = plain(source, optimise)
        loader.say_once(
            f"the fused kernels in {library.name} do not work here ({first_line(error)}), so the model runs on "
            "standard operators: the same results, more slowly"
        )
        return Upgraded(session), STANDARD


def _notes(layout: str | None, whole_blocks: int) -> tuple[str, ...]:
    if layout is None:
        return ()
    blocks = "SCConv block is one node" if whole_blocks == 1 else "SCConv blocks are one node each"
    whole = f"; {whole_blocks} {blocks}" if whole_blocks else ""
    return (f"fused nodes work in the layout {layout}{whole}",)


def version() -> str:
    """ONNX Runtime's version."""
    return str(ort.__version__)
