"""The JSON of an exported program -> the same with plain names, known operators and strict sizes, or a refusal.

Sentences have no subject here ("calls ..."): ``audit_exported`` names the file. See there for what torch would run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from scconv_deploy.errors import InputError
from scconv_deploy.programs.audit import DOTTED, FORBIDDEN, IDENTIFIER, MAX_DEPTH
from scconv_deploy.programs.expressions import SYMBOL, refuse_code

TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.([A-Za-z_]\w*)\.(\w+)"
    r"|torch\.ops\.higher_order\.wrap_with_(set_grad_enabled|autocast)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|math\.(ceil|floor|trunc)|torch\.sym_(int|float|max|min|not|sum)",
    re.ASCII,
)
NAMES = frozenset(
    {"name", "as_name", "parameter_name", "buffer_name", "tensor_constant_name", "user_input_name", "fqn"}
)
REFUSED = {
    "as_custom_obj": "a custom object", "custom_obj": "a custom object", "as_operator": "a call by name",
    "as_string_to_argument": "a dictionary of arguments", "token": "an effect token",
}  # fmt: skip
DROPPED = frozenset(
    {"metadata", "stack_trace", "guards_code", "treespec_namedtuple_fields", "custom_obj_values"}
)
ASSERTIONS = frozenset({"torch.ops.aten._assert_tensor_metadata.default"})


def clean_program(program: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The rewritten JSON and notes.

    Raises:
        InputError: something in it may run, or is no program. Damage may also raise KeyError or TypeError.
    """
    module = program["graph_module"]
    entry = module["module_call_graph"][0]
    count = sum("user_input" in s for s in module["signature"]["input_specs"])
    kept, notes = _output_tree(json.loads(entry["signature"]["out_spec"]), len(module["graph"]["outputs"]))
    paths = [e["fqn"] for e in module["module_call_graph"]]
    del module["module_call_graph"]
    clean = _checked(program, 0)
    call = {
        "inputs": [],
        "outputs": [],
        "in_spec": json.dumps(_flat_inputs(count)),
        "out_spec": json.dumps(kept),
    }
    clean["graph_module"]["module_call_graph"] = [
        {"fqn": path, "signature": call | {"forward_arg_names": None} if path == "" else None}
        for path in map(_path, paths)
    ]
    clean["graph_module"] |= {"metadata": {}, "treespec_namedtuple_fields": {}}
    clean["guards_code"] = []
    clean["verifiers"] = ["TRAINING"]
    clean["range_constraints"] = {k: _bounds(k, v) for k, v in program.get("range_constraints", {}).items()}
    return clean, notes


def _checked(value: Any, depth: int, key: str = "") -> Any:
    """A copy of the JSON in which every name is a name, every target an operator and every size a size."""
    if depth > MAX_DEPTH:
        raise InputError("is nested deeper than any program")
    if isinstance(value, list):
        return [_checked(v, depth + 1) for v in value if not _is_assertion(v)]
    if isinstance(value, dict):
        return {k: _entry(k, v, depth) for k, v in value.items()}
    if key == "expr_str":
        refuse_code(value)
    elif key == "target":
        refuse_target(value)
    elif key in NAMES and value is not None:
        pattern = IDENTIFIER if key in ("name", "as_name", "user_input_name") else DOTTED
        # An input that the program ignores has an empty name.
        if not isinstance(value, str) or not (pattern.fullmatch(value) or value == ""):
            raise InputError(
                f"uses {value!r:.80} as a name, which is none; torch would write it into Python text"
            )
    elif isinstance(value, str) and (len(value) > 10_000 or not value.isprintable()):
        raise InputError("holds a text that is no name and no option of an operator")
    return value


def _entry(key: str, value: Any, depth: int) -> Any:
    if not DOTTED.fullmatch(key):
        raise InputError(f"uses {key[:80]!r} as a name, which is none")
    if key in REFUSED:
        raise InputError(f"uses {REFUSED[key]}, which is not read from a file that may come from anyone")
    if key == "metadata":
        return _modules(value)
    if key in DROPPED:
        return {} if isinstance(value, dict) else []
    if key in ("device", "as_device"):
        return {"type": "cpu", "index": None}
    return _checked(value, depth + 1, key)


def _is_assertion(node: Any) -> bool:
    """Assertions on dtype and device compute nothing, and name devices that this machine may lack."""
    return isinstance(node, dict) and node.get("target") in ASSERTIONS


def refuse_target(target: object) -> None:
    """Raise unless ``target`` is an operator of torch's own that only computes.

    Raises:
        InputError: a custom operator, control flow, a function of Python. The sentence has no subject.
    """
    found = TARGET.fullmatch(target) if isinstance(target, str) else None
    if found is None:
        kind = "control flow or a call" if "higher_order" in str(target) else "an operator"
        raise InputError(
            f"calls {str(target)[:100]!r}, {kind} that is not among torch's own tensor operators"
        )
    if found[2] in FORBIDDEN or found[3] in FORBIDDEN or str(found[3]).startswith("source_"):
        raise InputError(f"calls {target!r}, which touches files or memory that are not the program's")


def _modules(metadata: Any) -> dict[str, str]:
    """Of a node's metadata only the module it came from is kept, with plain names."""
    stack = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
    if not isinstance(stack, str) or not stack:
        return {}
    kept = []
    for number, item in enumerate(stack.split(";")[:MAX_DEPTH]):
        parts = item.split(",")
        if len(parts) < 2:
            raise InputError("names a module in a way torch.export does not")
        path, kind = _path(parts[1]), parts[2] if len(parts) == 3 else ""
        kind = kind if DOTTED.fullmatch(kind) else "torch.nn.Module"
        # The key tells calls of one module apart; torch writes the path, with @n for the n-th call.
        key = re.sub(r"[^A-Za-z0-9_.@]", "_", parts[0])[:1000] or f"m{number}"
        kept.append(f"{key},{path},{kind}")
    return {"nn_module_stack": ";".join(kept)}


def _path(path: object) -> str:
    if not isinstance(path, str) or not (
        path == "" or re.fullmatch(rf"({DOTTED.pattern})(@\d{{1,6}})?", path)
    ):
        raise InputError(f"names the module {path!r:.80}, which is no module's name")
    return path


def _bounds(name: str, told: Any) -> dict[str, int | None]:
    if not SYMBOL.fullmatch(name) or not isinstance(told, dict):
        raise InputError(f"bounds {name[:60]!r}, which is no symbol")
    found = {k: told.get(k) for k in ("min_val", "max_val")}
    if any(v is not None and (type(v) is not int or abs(v) > 1 << 62) for v in found.values()):
        raise InputError(f"bounds {name!r} by something that is no number")
    return found


LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
PLAIN_TREES = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}


def _flat_inputs(count: int) -> list[Any]:
    """Inputs are passed by position, whatever tree they were exported with."""
    leaves = {"type": "builtins.tuple", "context": "null", "children_spec": [LEAF] * count}
    none = {"type": "builtins.dict", "context": "[]", "children_spec": []}
    return [1, {"type": "builtins.tuple", "context": "null", "children_spec": [leaves, none]}]


def _output_tree(spec: Any, outputs: int) -> tuple[list[Any], tuple[str, ...]]:
    """The outputs' tree where it is made of plain containers; else a tuple of all tensors."""
    tree = spec[1]
    if spec[0] == 1 and all(_is_plain(node) for node in _nodes(tree, 0)):
        return [1, tree], ()
    leaves = sum(not node["children_spec"] for node in _nodes(tree, 0))
    flat = {"type": "builtins.tuple", "context": "null", "children_spec": [LEAF] * min(leaves, outputs)}
    return [1, flat], ("its outputs are a class of their own; they are returned as a tuple",)


def _nodes(tree: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > MAX_DEPTH or not isinstance(tree, dict) or not isinstance(tree.get("children_spec"), list):
        raise InputError("describes its inputs or outputs in a way torch.export does not")
    yield tree
    for child in tree["children_spec"]:
        yield from _nodes(child, depth + 1)


def _is_plain(node: Mapping[str, Any]) -> bool:
    if node["type"] is None:
        return node["context"] is None and not node["children_spec"]
    if node["type"] not in PLAIN_TREES:
        return False
    if node["type"] in ("builtins.tuple", "builtins.list"):
        return bool(node["context"] == "null")
    try:
        keys = json.loads(node["context"])
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(keys, list) and all(isinstance(k, str | int) for k in keys)
