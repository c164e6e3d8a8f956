"""What the parser and the builder said -> one sentence: what, where in the user's model, and what to do.

The parser names nodes, and a node of module P is called ``P/<operator>_<n>``; so the sentence can name the user's
module, what the node was given, and how much of the graph would import.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from exporters.trt.platform import Platform
from exporters.trt.settings import BuildRequest
from scconv_deploy.errors import BuildError, CapabilityError, ScconvDeployError
from scconv_deploy.runtime.nvidia_driver import NoGpu
from scconv_deploy.tensorrt_options import MIB, Pool

NODE = re.compile(r"(?<![\w./])([A-Za-z_][\w.]*)/[A-Za-z]\w*_\d+")
"""A node's name as tracing gives it; the group is the module's path."""

_DRIVER = ("cudaError 35", "CUDA driver version is insufficient", "status == CUDA_SUCCESS", "no CUDA-capable")
_DEVICE_MEMORY = (
    "cudaErrorMemoryAllocation",
    "cudaError 2:",
    "Requested amount of GPU memory",
    "CUDA out of",
)
_HOST_MEMORY = ("bad_alloc", "host memory")


def refused_by_parser(
    platform: Platform, parser: Any, fresh: Callable[[], tuple[Any, Any]], onnx: bytes, request: BuildRequest
) -> BuildError:
    """Every error the parser kept, those that name a node first.

    Args:
        platform: which TensorRT.
        parser: it has refused ``onnx``.
        fresh: makes an empty network and a parser over it, to ask how much of the graph would import.
        onnx: the serialised model.
        request: its block paths say which modules are SCConv blocks.
    """
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    named = [e for e in errors if e.node_name() or e.node_operator()]
    operands = _operands(onnx) if named else {}
    sentences = []
    for error in named or errors:
        reason = _reason(error.desc(), error.node_operator() if error in named else "")
        if error in named:
            where = _where(error.node_name(), request.block_paths)
            given = operands.get(error.node_name(), "")
            reason = f"node '{error.node_name()}' ({error.node_operator()}{given}){where}: {reason}"
        if reason not in sentences:
            sentences.append(reason)
    if not sentences:
        sentences.append("it gave no reason")
    share = _importable(fresh, onnx) if named else ""
    return BuildError(f"{platform.product} cannot import the graph: {'; '.join(sentences)}{share}")


def refused_by_builder(platform: Platform, errors: Sequence[str], request: BuildRequest) -> ScconvDeployError:
    """One sentence for a build that gave no engine; CapabilityError where this machine is to blame."""
    lines = list(dict.fromkeys(tidy(e) for e in errors))
    # Without a driver every other error is followed by one about CUDA, which then explains nothing.
    telling = [line for line in lines if not any(words in line for words in _DRIVER)]
    text = " ".join(telling)
    if not telling and lines:
        return CapabilityError(_no_driver(platform, lines))
    if any(words in text for words in _DEVICE_MEMORY):
        return CapabilityError(
            f"{platform.product} ran out of the GPU's memory while it built; free some, or give smaller maximum "
            "shapes"
        )
    if any(words in text for words in _HOST_MEMORY):
        return CapabilityError(
            f"{platform.product} ran out of memory while it built; give smaller maximum shapes, or use a "
            "larger machine"
        )
    if "OutOfMemory" in text or "workspace" in text.lower():
        return BuildError(_workspace(platform, text, request))
    # A fused range is written "first...last".
    modules = list(dict.fromkeys(NODE.findall(text.replace("...", " "))))
    at = f" (in {', '.join(modules[:4])}{' and others' if len(modules) > 4 else ''})" if modules else ""
    return BuildError(f"{platform.product} refused the graph{at}: {text or 'it gave no reason'}")


def cannot_start(platform: Platform, said: str) -> CapabilityError:
    """The builder itself could not be made."""
    if any(words in said for words in _DRIVER):
        return CapabilityError(_no_driver(platform, [tidy(said)]))
    return CapabilityError(f"{platform.product} cannot start its builder here: {tidy(said)}")


def tidy(message: str) -> str:
    """Without the source location at the end, which says nothing to a user."""
    return re.sub(r"\s*In [\w:~()]+ at \S+:\d+\)?$", "", message.strip()).removesuffix("(")


def _no_driver(platform: Platform, lines: Sequence[str]) -> str:
    here = f" ({platform.gpu.reason})" if isinstance(platform.gpu, NoGpu) else ""
    status = re.search(r"cudaError \d+: [^()]*", " ".join(lines))
    said = f": {status[0].strip()}" if status else ""
    return (
        f"{platform.product} needs an NVIDIA driver for what was asked and finds none it can use{here}{said}"
    )


def _workspace(platform: Platform, text: str, request: BuildRequest) -> str:
    size = re.search(r"size was (\d+)", text)
    needs = f" (it asked for {int(size[1]) / MIB:.0f} MiB)" if size else ""
    given = request.options.pools.get(Pool.WORKSPACE)
    limit = "the builder's default" if given is None else f"a workspace of {given / MIB:g} MiB"
    return (
        f"{platform.product} cannot build the engine within {limit}{needs}; give a larger --workspace, "
        "or smaller maximum shapes"
    )


def _where(node: str, blocks: Sequence[str]) -> str:
    path = node.rpartition("/")[0]
    if not path:
        return ""
    block = next((b for b in blocks if b and (path == b or path.startswith(f"{b}."))), None)
    if block is None:
        return f" of module {path}"
    inside = "" if block == path else f" (module {path})"
    return f" of the SCConv block {block}{inside}"


def _reason(description: str, operator: str) -> str:
    # For an operator it has no converter for, the parser's description is its failed check: "false".
    if description in ("", "false"):
        return "this operator is not supported" if operator else "it gave no reason"
    # A failed check is its C++ condition, with the words for a person as string literals at the end.
    quoted = [literal for literal in re.findall(r'"([^"]*)"', description) if " " in literal]
    if quoted and "&&" in description:
        return "".join(quoted)
    asserted = re.match(r"Assertion failed: .+?[^:\s]:\s+(\S.*)", description, re.DOTALL)
    text = asserted[1] if asserted else description
    lines = [line for line in text.splitlines() if not any(words in line for words in _DRIVER)]
    telling = [line for line in lines if not line.startswith("Invalid Node - ")] or lines
    inner = [re.sub(r"^.*Error Code \d+: [\w ]+\((.*)$", r"\1", line) for line in telling]
    return " ".join(tidy(line) for line in inner)


def _importable(fresh: Callable[[], tuple[Any, Any]], onnx: bytes) -> str:
    """How much of the graph this TensorRT could import, where it can say so (TensorRT 10 and RTX)."""
    network, parser = fresh()
    if not hasattr(parser, "supports_model_v2"):
        return ""
    parser.supports_model_v2(onnx)
    fine = sum(len(parser.get_subgraph_nodes(i)) for i in range(parser.num_subgraphs))
    del network  # the parser does not keep it alive, and dies of it
    total = len(_model(onnx).graph.node)
    return f" ({fine} of the graph's {total} nodes can be imported)" if 0 < fine < total else ""


def _operands(onnx: bytes) -> dict[str, str]:
    """Node name -> what it was given: ``" of float32 1x3x8x8, mode=cubic"``."""
    from onnx import AttributeProto, TensorProto, helper, shape_inference  # only for a failure's sentence

    try:
        graph = shape_inference.infer_shapes(_model(onnx)).graph
    except Exception:  # noqa: BLE001 - the graph may be what is wrong; the sentence then says less
        return {}
    types: dict[str, str] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        size = "x".join(d.dim_param or str(d.dim_value) for d in kind.shape.dim) or "scalar"
        types[value.name] = f"{TensorProto.DataType.Name(kind.elem_type).lower()} {size}"
    for weight in graph.initializer:
        size = "x".join(map(str, weight.dims)) or "scalar"
        types[weight.name] = f"{TensorProto.DataType.Name(weight.data_type).lower()} {size}"
    simple = (AttributeProto.INT, AttributeProto.STRING, AttributeProto.FLOAT)
    found = {}
    for node in graph.node:
        told = [types[i] for i in node.input if i in types]
        for attribute in node.attribute:
            if attribute.type in simple:
                value = helper.get_attribute_value(attribute)
                told.append(f"{attribute.name}={value.decode() if isinstance(value, bytes) else value}")
        found[node.name] = f" of {', '.join(told)}" if told else ""
    return found


def _model(onnx: bytes) -> Any:
    from onnx import load_from_string  # only for a failure's sentence, as in _operands

    return load_from_string(onnx)
