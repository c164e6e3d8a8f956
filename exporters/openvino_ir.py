"""``--target openvino``: the simplified graph -> ``model.xml`` and ``model.bin``, and what OpenVINO makes of them.

The IR holds the graph operator by operator, in the graph's own types and under the names of its nodes; beside it
lies ``model.onnx``, the exact graph it was made from. Precision, as a whole and per block, is read from the
kernels of the model as it is compiled here, not from the file (:mod:`exporters.openvino_kernels`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from exporters.openvino_fused import read_fused
from exporters.openvino_kernels import Kernel, kernel_counts, precision_built, read_kernels, types_per_block
from scconv_deploy.artifacts import BuiltArtifact, TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Progress
from scconv_deploy.errors import BuildError, CapabilityError, InputError, first_line
from scconv_deploy.graph.precision import block_types, model_precision
from scconv_deploy.inputs import UNBOUNDED
from scconv_deploy.kernels.openvino_extension import library
from scconv_deploy.scconv.fused_ops import is_fused
from scconv_deploy.scconv.style import GraphStyle

if TYPE_CHECKING:
    import openvino as ov

ARTIFACT = "model.xml"
WEIGHTS = "model.bin"
GRAPH = "model.onnx"
INSTALL = 'pip install "scconv-deploy[openvino]"'
FUSED_NOTE = (
    "OpenVINO's own fused kernels are judged by the outputs of the whole model; block by block, it is the graph that "
    "is judged",
)
FEW_CHANNELS = 16
ALWAYS = 10**6
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16)


class OpenVINOExporter:
    """OpenVINO's intermediate representation, run here on the CPU."""

    target = "openvino"
    summary = "OpenVINO IR; runs on Intel CPUs"
    dynamic_batch = True
    forms = (Form.STANDARD, Form.PLUGIN)

    def check(self, config: ExportConfig) -> tuple[str, ...]:
        """Refuse early what cannot be built here.

        Raises:
            CapabilityError: OpenVINO is not installed, or ``--form plugin`` cannot be compiled here.
            InputError: a precision that this target does not build.
        """
        if find_spec("openvino") is None:
            raise CapabilityError(f"--target openvino needs OpenVINO, which is not installed: {INSTALL}")
        if config.precision not in PRECISIONS:
            known = ", ".join(p.value for p in PRECISIONS)
            raise InputError(
                f"--target openvino is built in {known}, not in {config.precision.value}; choose one of them"
            )
        if config.form is not Form.PLUGIN:
            return ()
        return (f"the fused kernels are compiled for the OpenVINO and the CPU here: {library().name}",)

    def style(self, config: ExportConfig) -> GraphStyle:
        """Per-channel moments keep OpenVINO's own layout; ``Where`` is its Select.

        A dense Y1 pays where OpenVINO has no fast kernel for GWC's groups (fp32: fewer than 16 channels in one),
        and wherever matrices are multiplied by AMX (16-bit types): tests/bench/results/openvino.json.
        """
        fused = config.form is Form.PLUGIN
        half = config.precision is not Precision.FP32
        return GraphStyle(
            where_mask=True,
            merged_y2=True,
            channel_moments=True,
            dense_y1_below=ALWAYS if half else FEW_CHANNELS if fused else 0,
            fused=fused,
            fused_bf16=fused,
        )

    def build(
        self, graph: TracedGraph, config: ExportConfig, folder: Path, progress: Progress
    ) -> BuiltArtifact:
        """Convert, write, compile for this machine, and say what was compiled.

        Raises:
            BuildError: OpenVINO cannot convert the graph, or not write the result.
            OSError: the disk is full, or the folder cannot be written.
        """
        progress.update("converting to OpenVINO IR")
        files = _write(graph, folder)
        progress.update("compiling for this machine")
        kernels, refusal = _compiled(files[0], graph)
        made = BuiltArtifact(
            files=files,
            runtime="openvino",
            precision_built=model_precision(graph.model) or config.precision.value,
            precision_per_block=block_types(graph.model, graph.block_paths),
            tool_versions=self.versions(),
            not_executed=refusal,
        )
        if refusal is not None:
            return made
        return BuiltArtifact(
            files=files,
            runtime="openvino",
            precision_built=precision_built(kernels) or made.precision_built,
            precision_per_block=types_per_block(kernels, graph.block_paths),
            tool_versions=made.tool_versions,
            notes=FUSED_NOTE if config.form is Form.PLUGIN else (),
            details={
                "device": "CPU",
                "kernels": kernel_counts(kernels),
                "nodes": len(graph.model.graph.node),
            },
        )

    def versions(self) -> Mapping[str, str]:
        """Installed version of OpenVINO."""
        try:
            return {"openvino": version("openvino")}
        except PackageNotFoundError:
            return {}


def _write(graph: TracedGraph, folder: Path) -> tuple[Path, ...]:
    """The three files, the artifact first."""
    import openvino as ov

    path = folder / ARTIFACT
    try:
        if any(is_fused(node) for node in graph.model.graph.node):
            model = read_fused(graph.model, library())
        else:
            model = ov.Core().read_model(graph.model.SerializeToString())
        model.reshape({spec.name: _partial(spec) for spec in graph.inputs})
        _name_outputs(model, [spec.name for spec in graph.outputs])
    except Exception as error:
        raise BuildError(f"OpenVINO cannot convert this graph: {first_line(error)}") from error
    try:
        # Weights are stored as they are: the graph's own types are the precision.
        ov.save_model(model, path, compress_to_fp16=False)
    except Exception as error:
        _write_as_much(folder, graph.model.ByteSize())
        raise BuildError(f"OpenVINO cannot write {ARTIFACT}: {first_line(error)}") from error
    onnx.save(graph.model, folder / GRAPH)
    return (path, folder / WEIGHTS, folder / GRAPH)


def _write_as_much(folder: Path, size: int) -> None:
    """Ask the system why OpenVINO could not write, which says "iostream error" alone and removes its files.

    The two files and ``model.onnx`` hold the graph twice: that many bytes are written and removed.

    Raises:
        OSError: what the system says; a full disk is told as for every target (:mod:`scconv_deploy.workspace`).
    """
    chunk = bytes(1 << 20)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for start in range(0, 2 * size, len(chunk)):
            part = memoryview(chunk)[: 2 * size - start]
            # A disk that fills up takes a part first.
            while part:
                part = part[file.write(part) :]


def _partial(spec: TensorSpec) -> Any:
    """The shape with each free axis bounded as the input is."""
    import openvino as ov

    sizes = []
    for axis, size in enumerate(spec.shape):
        if isinstance(size, int):
            sizes.append(ov.Dimension(size))
            continue
        most = spec.maximum[axis] if spec.maximum else UNBOUNDED
        sizes.append(
            ov.Dimension(spec.minimum[axis] if spec.minimum else 0, -1 if most >= UNBOUNDED else most)
        )
    return ov.PartialShape(sizes)


def _name_outputs(model: ov.Model, names: list[str]) -> None:
    """One name per output, in the graph's order.

    Two outputs of one value, or an output that is an input, share a tensor, whose names would be both's; each
    gets a value of its own by a conversion to the type it has, which costs nothing once compiled.
    """
    import openvino.opset13 as opset

    seen: set[tuple[str, int]] = set()
    for result, name in zip(model.get_results(), names, strict=True):
        source = result.input_value(0)
        place = (source.get_node().get_friendly_name(), source.get_index())
        if place in seen or source.get_node().get_type_name() == "Parameter":
            copy = opset.convert(source, source.get_element_type().to_string())
            result.input(0).replace_source_output(copy.output(0))
            source = copy.output(0)
        else:
            source.get_tensor().set_names({name})
        seen.add(place)
        source.get_tensor().set_names({name})


def _compiled(path: Path, graph: TracedGraph) -> tuple[tuple[Kernel, ...], str | None]:
    """The kernels at the optimum shapes, opened as an application opens them; or why it cannot run here."""
    from scconv_deploy.runtime.openvino import OpenVINORunner

    try:
        with OpenVINORunner(path) as runner:
            shapes = {spec.name: spec.optimum for spec in graph.inputs}
            return read_kernels(runner.runtime_model(shapes)), None
    except CapabilityError as error:
        return (), f"not executed: {error}"
    except InputError as error:
        raise BuildError(f"OpenVINO converted the graph but does not take the result: {error}") from error
