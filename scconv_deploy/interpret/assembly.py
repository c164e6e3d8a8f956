"""An ONNX model -> the plan of its steps, its child modules and its constants.

Constants that the graph computes from initializers alone are computed here, once, in the types the graph
states (or lifted). What cannot be run is collected as phrases, not raised, so that all of it can be named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import onnx
import torch
from onnx import inliner, shape_inference
from torch import Tensor, nn

from scconv_deploy.errors import InputError, first_line
from scconv_deploy.interpret import operators
from scconv_deploy.interpret.host import HostRun, host_run
from scconv_deploy.interpret.names import assign, module_path
from scconv_deploy.interpret.node import OPERATORS, Node, RefusedError, Run
from scconv_deploy.interpret.values import Call, FloatTypes, Host, Value, from_proto, host_of

DOMAIN = "scconv_deploy"
CALL = "Call"
STANDARD = ("", "ai.onnx")
PARTS = {"Conv": ("weight", "bias"), "ConvTranspose": ("weight", "bias")}
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
assert operators.__all__, "importing the operators fills the registry"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one node is run. ``inputs`` has an empty string where an optional input is left out."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Run
    on_numbers: HostRun | None
    module: str | None
    taken: frozenset[int]

    def reads(self) -> tuple[str, ...]:
        """Values that must exist when the step runs; what its module holds is not among them."""
        return tuple(n for i, n in enumerate(self.inputs) if n and i not in self.taken)

    def execute(self, call: Call, values: list[Value], hosts: Mapping[str, Host]) -> tuple[Value, ...]:
        """Run on one value per input; on numbers where all are known as numbers.

        Args:
            call: types, device and the step's module.
            values: in the order of ``inputs``; None for what is left out or held by the module.
            hosts: numbers of small constants that are tensors (scales, say).
        """
        if self.on_numbers is not None and any(isinstance(v, Host) for v in values):
            known = [
                v if isinstance(v, Host) else hosts.get(n) for v, n in zip(values, self.inputs, strict=True)
            ]
            if all(k is not None or not n for k, n in zip(known, self.inputs, strict=True)):
                result = self.on_numbers(known)
                if result is not None:
                    return result if isinstance(result, tuple) else (result,)
        made = self.run(call, values)
        return made if isinstance(made, tuple) else (made,)


@dataclass(slots=True)
class Assembly:
    """What a program is made of; see :func:`assemble`."""

    types: FloatTypes
    opset: int = 0
    input_types: dict[str, int] = field(default_factory=dict)
    output_names: tuple[str, ...] = ()
    plans: list[Plan] = field(default_factory=list)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    constants: dict[str, Tensor | Host] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)

    def parameter(self, name: str) -> nn.Parameter:
        """The one parameter of a floating constant: whoever reads it shares it."""
        if name not in self.parameters:
            self.parameters[name] = nn.Parameter(cast(Tensor, self.constants[name]), requires_grad=False)
        return self.parameters[name]


def assemble(model: onnx.ModelProto, types: FloatTypes, parts: Mapping[str, nn.Module]) -> Assembly:
    """Plan every node of ``model``; ``refusals`` of the result is empty where all can run."""
    model = inliner.inline_local_functions(model) if model.functions else model
    made = Assembly(types, next((o.version for o in model.opset_import if o.domain in STANDARD), 1))
    for stored in model.graph.initializer:
        try:
            made.constants[stored.name] = _kept(from_proto(stored, types))
        except InputError as error:
            made.refusals.append(f"initializer '{stored.name}' ({error})")
    if model.graph.sparse_initializer:
        made.refusals.append("sparse initializers")
    stored_names = {t.name for t in model.graph.initializer}
    made.input_types = {
        i.name: i.type.tensor_type.elem_type for i in model.graph.input if i.name not in stored_names
    }
    made.output_names = tuple(o.name for o in model.graph.output)
    ranks = _ranks(model)
    nodes: dict[int, tuple[Node, Plan]] = {}
    for index, proto in enumerate(model.graph.node):
        node = Node(proto, index, made.opset, made.constants, ranks, types)
        try:
            _add(made, node, parts, nodes)
        except RefusedError as refusal:
            made.refusals.append(_phrase(proto, str(refusal)))
    _name_modules(made, nodes, parts)
    return made


def _phrase(proto: onnx.NodeProto, detail: str = "") -> str:
    domain = "" if proto.domain in STANDARD else f"{proto.domain}."
    where = f"node '{proto.name}'" if proto.name else f"the node that makes '{', '.join(proto.output)}'"
    return f"{domain}{proto.op_type}{' ' + detail if detail else ''} ({where})"


def _kept(tensor: Tensor) -> Tensor | Host:
    """Small lists of integers are kept as numbers: they are shapes, axes and indices."""
    host = None if tensor.is_floating_point() else host_of(tensor)
    return tensor if host is None else host


def _add(
    made: Assembly, node: Node, parts: Mapping[str, nn.Module], nodes: dict[int, tuple[Node, Plan]]
) -> None:
    proto = node.proto
    is_call = proto.domain == DOMAIN and proto.op_type == CALL
    if not is_call and (proto.domain not in STANDARD or proto.op_type not in OPERATORS):
        raise RefusedError("")
    run = _call_part if is_call else OPERATORS[proto.op_type](node)
    path = node.text("path", "") if is_call else None
    if path is not None and path not in parts:
        raise RefusedError(f"of '{path}', which is not among the parts that were given")
    plan = Plan(
        proto.name or f"{proto.op_type}_{node.index}",
        proto.op_type,
        tuple(proto.input),
        tuple(proto.output),
        run,
        None if is_call else host_run(node),
        path,
        node.taken,
    )
    if not is_call and node.module is None and all(n in made.constants for n in plan.inputs if n):
        _compute_now(made, plan)
        return
    nodes[len(made.plans)] = (node, plan)
    made.plans.append(plan)


def _call_part(call: Call, values: Any) -> Any:
    assert call.module is not None
    return call.module(*[call.tensor(v) for v in values])


def _compute_now(made: Assembly, plan: Plan) -> None:
    values: list[Value] = [made.constants[n] if n else None for n in plan.inputs]
    hosts = {n: h for n in plan.inputs if n and (h := _numbers(made.constants[n])) is not None}
    call = Call(made.types, torch.device("cpu"))
    try:
        with torch.no_grad():
            results = plan.execute(call, values, hosts)
    except Exception as error:
        raise RefusedError(f"of constants failed in PyTorch: {first_line(error)}") from error
    for name, value in zip(plan.outputs, results, strict=False):
        if name and value is not None:
            made.constants[name] = _kept(value) if isinstance(value, Tensor) else value


def _numbers(value: Tensor | Host) -> Host | None:
    return value if isinstance(value, Host) else host_of(value, limit=16)


def _name_modules(
    made: Assembly, nodes: Mapping[int, tuple[Node, Plan]], parts: Mapping[str, nn.Module]
) -> None:
    """Give every child its tensors and its path; nodes of one module's path get distinct ones."""
    children = {at: node for at, (node, _) in nodes.items() if node.module is not None}
    called = {plan.module for plan in made.plans if plan.module is not None}
    wanted = {
        at: (module_path(node.proto, node.proto.input[1]), node.proto.op_type)
        for at, node in children.items()
    }
    paths = assign(wanted, called)
    for at, node in children.items():
        assert node.module is not None
        _fill(made, node, node.module)
        made.modules[paths[at]] = node.module
        made.plans[at] = _with_module(made.plans[at], paths[at])
    made.modules.update({path: parts[path] for path in sorted(called)})


def _with_module(plan: Plan, path: str) -> Plan:
    return Plan(
        plan.name, plan.op_type, plan.inputs, plan.outputs, plan.run, plan.on_numbers, path, plan.taken
    )


def _fill(made: Assembly, node: Node, module: nn.Module) -> None:
    """Put the graph's tensors into a child that was made without memory."""
    names = PARTS.get(node.proto.op_type, NORM_PARTS)
    for position in sorted(node.taken):
        name, attribute = node.proto.input[position], names[position - 1]
        if attribute.startswith("running"):
            module.register_buffer(attribute, cast(Tensor, made.constants[name]))
        else:
            module.register_parameter(attribute, made.parameter(name))
    if "num_batches_tracked" in module._buffers:
        module.register_buffer("num_batches_tracked", torch.tensor(0))
    module.eval()


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Rank of every value that shape inference can tell; our Call nodes keep their input's rank."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for node in bare.graph.node:
        if node.domain == DOMAIN and node.op_type == CALL:
            node.domain, node.op_type = "", "Identity"
            del node.attribute[:]
    try:
        bare = shape_inference.infer_shapes(bare)
    except Exception:  # noqa: BLE001 - ranks are a convenience: without them batch norms are run as functions
        bare = model
    values = [*bare.graph.value_info, *bare.graph.input, *bare.graph.output]
    return {
        v.name: len(v.type.tensor_type.shape.dim)
        for v in values
        if v.type.HasField("tensor_type") and v.type.tensor_type.HasField("shape")
    }


def register_child(root: nn.Module, path: str, module: nn.Module) -> None:
    """Add a child at a dotted path; what is missing on the way becomes plain ``nn.Module`` containers."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)


def last_reads(plans: Sequence[Plan], outputs: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """For each step the values that nobody reads after it, so that they can be let go."""
    seen = set(outputs)
    over: list[tuple[str, ...]] = []
    for plan in reversed(plans):
        names = {n for n in (*plan.reads(), *plan.outputs) if n and n not in seen}
        seen |= names
        over.append(tuple(sorted(names)))
    return tuple(reversed(over))
