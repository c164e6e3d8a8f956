"""The builder's ``Layers:`` message -> the kernels of the engine.

With detailed profiling verbosity the builder logs one line per final kernel::

    Name: N, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [1,3,8,8], Strides: [...], StrideOrder:
    [3,0,2,1], Datatype: Float, Format: (NHWC) ... }], Constants: [], Outputs: [...], TacticName: T,
    StreamId: 0, Metadata: [ONNX Layer: a][ONNX Layer: b]

Names are the model author's and may hold commas, brackets or braces, so a line is cut at its fixed markers
and never by counting brackets. It needs no GPU, unlike the engine inspector.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SECTION = "Layers:"
_ONNX = re.compile(r"\[ONNX Layer: (.*?)\](?=\[ONNX Layer: |[\x1e\x1f]|\s*$)")


@dataclass(frozen=True, slots=True)
class KernelTensor:
    """A kernel's argument: dimensions (-1 is free) and the memory order, largest stride first by rank.

    ``order[i]`` is the rank of axis i among the strides (the largest is outermost); empty if not logged.
    """

    name: str
    dimensions: tuple[int, ...]
    dtype: str
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One line of the log. ``onnx_nodes`` are the nodes it was made from (none for inserted kernels)."""

    name: str
    kind: str
    inputs: tuple[KernelTensor, ...]
    outputs: tuple[KernelTensor, ...]
    constants: tuple[KernelTensor, ...]
    onnx_nodes: tuple[str, ...]


def read_kernels(message: str) -> tuple[Kernel, ...]:
    """Parse the whole message; lines outside its ``Layers:`` section are not read.

    Raises:
        ValueError: a line is not of the form above, which means the builder's format has changed.
    """
    # Not splitlines: it would also cut at \x1e, which separates nodes in some versions.
    lines = message.split("\n")
    if not lines[0].startswith(SECTION):
        raise ValueError(f"the message does not begin with '{SECTION}'")
    kernels = []
    for line in lines[1:]:
        if not line.strip():
            break
        kernels.append(_kernel(line))
    return tuple(kernels)


def _kernel(line: str) -> Kernel:
    head = re.match(r"Name: (.*?), LayerType: (\w+)", line)
    if head is None:
        raise ValueError(f"no 'Name: ..., LayerType: ...' in the line: {line[:120]}")
    _, _, metadata = line.rpartition(", Metadata: ")
    return Kernel(
        name=head[1],
        kind=head[2],
        inputs=_tensors(line, "Inputs"),
        outputs=_tensors(line, "Outputs"),
        constants=_tensors(line, "Constants"),
        onnx_nodes=tuple(_ONNX.findall(metadata)),
    )


def _tensors(line: str, key: str) -> tuple[KernelTensor, ...]:
    """The list behind ``key``; a line without that list has none."""
    _, found, rest = line.partition(f", {key}: [")
    if not found or rest.startswith("]"):
        return ()
    text, closed, _ = rest.partition(" }]")
    if not closed or not text.startswith(" { Name: "):
        raise ValueError(f"the list '{key}' is not closed in the line: {line[:120]}")
    return tuple(_tensor(part) for part in text.removeprefix(" { Name: ").split(" }, { Name: "))


def _tensor(text: str) -> KernelTensor:
    name, found, rest = text.partition(", Dimensions: [")
    dtype = re.search(r"Datatype: (\w+)", rest)
    if not found or dtype is None:
        raise ValueError(f"a tensor without Dimensions or Datatype: {text[:120]}")
    order = re.search(r"StrideOrder: \[([^\]]*)\]", rest)
    return KernelTensor(
        name, _integers(rest.partition("]")[0]), dtype[1], _integers(order[1]) if order else ()
    )


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())
