"""An exported graph -> text: opset, inputs, outputs, operator counts, and operators per SCConv block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

import onnx
import torch

from scconv_deploy.artifacts import LoweredModel, Recognition, TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.reference import FAMILIES, ReferenceSCConv, constants, family_spec
from scconv_deploy.stages import simplify, trace
from tests.e2e.digits import MODELS, prepared

FOLDER = Path(__file__).parent
CONFIG = ExportConfig(target="onnx")
TOOLS = ("torch", "onnx", "onnxscript", "onnxsim")
SUBJECTS = (*(f"digits-{name.removesuffix('.pt')}" for name in MODELS), *(f"block-{f}" for f in FAMILIES))


def text_of(subject: str) -> str:
    """What the golden file of a subject should say, without its comment."""
    graph = simplify.run(_traced(subject), CONFIG)
    model = graph.model
    lines = [f"opset {graph.opset}"]
    lines += [f"input {_value(v)}" for v in model.graph.input]
    lines += [f"output {_value(v)}" for v in model.graph.output]
    lines += ["", f"{len(model.graph.node)} operators", *_counts(model.graph.node)]
    for path in filter(None, graph.block_paths):
        nodes = [n for n in model.graph.node if belongs_to(n.name, path)]
        lines += ["", f"block {path}: {len(nodes)} operators", *_counts(nodes)]
    return "\n".join(lines) + "\n"


def comment() -> str:
    """The versions that wrote the file; they are not compared."""
    found = ", ".join(f"{tool} {version(tool)}" for tool in TOOLS)
    return f"# python -m tests.golden.regenerate; written with {found}; seed 0\n"


def _counts(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    counts = Counter(n.op_type for n in nodes)
    return [f"  {counts[kind]:4d} {kind}" for kind in sorted(counts)]


def _value(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    axes = ", ".join(d.dim_param or str(d.dim_value) for d in kind.shape.dim)
    return f"{value.name} {onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)} [{axes}]"


@cache
def _traced(subject: str) -> TracedGraph:
    kind, _, name = subject.partition("-")
    if kind == "digits":
        return prepared(f"{name}.pt").graph
    torch.manual_seed(0)
    reference = ReferenceSCConv(family_spec(name, 16)).eval()
    deploy = DeploySCConv(reference.spec, constants(reference)).eval().requires_grad_(False)
    lowered = LoweredModel(deploy, reference, Recognition((), ()), ("",), ())
    spec = TensorSpec("x", "float32", ("batch", 16, 8, 8), (1, 16, 8, 8), (1, 16, 8, 8), (64, 16, 8, 8))
    return trace.run(lowered, (spec,), CONFIG)
