"""Hostile and broken program archives: name -> the entries of one, made from a good one.

``witness`` is a path that the payloads create when anything runs them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.checkpoint.files import Payload
from tests.programs.archives import PROGRAM, SAMPLES, WEIGHTS, changed, pickled

Good = Mapping[str, bytes]
Maker = Callable[[Good, Path], dict[str, bytes]]
EXPORTED: dict[str, Maker] = {}
SCRIPTS: dict[str, Maker] = {}


def python(witness: Path) -> str:
    """An expression that creates the witness."""
    return f"__import__('os').system('touch {witness}')"


def exported(name: str) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        EXPORTED[name] = maker
        return maker

    return add


def in_graph(name: str, change: Callable[[dict[str, Any], Path], None]) -> None:
    def maker(good: Good, witness: Path) -> dict[str, bytes]:
        return changed(good, PROGRAM, lambda program: change(program, witness))

    EXPORTED[name] = maker


def graph(program: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = program["graph_module"]["graph"]
    return found


def signature(program: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = program["graph_module"]["module_call_graph"][0]["signature"]
    return found


def first_weight(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(config["config"].values()))
    return found


def size_of_x(program: dict[str, Any], text: str) -> None:
    graph(program)["tensor_values"]["x"]["sizes"][0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 2}}}


@exported("a reduce payload in the sample inputs")
def _samples(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, SAMPLES: pickled(((Payload(witness),), {}))}


@exported("sample inputs of a class of their own")
def _foreign(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, SAMPLES: pickled(((Path("x"),), {}))}


@exported("sample inputs that are a bare pickle")
def _bare(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, SAMPLES: pickle.dumps(Payload(witness))}


@exported("a pickled weight")
def _pickled_weight(good: Good, witness: Path) -> dict[str, bytes]:
    made = changed(good, WEIGHTS, lambda c: first_weight(c).update(use_pickle=True))
    return {**made, "data/weights/weight_0": pickled(Payload(witness))}


@exported("weights in the old pickled form")
def _old_weights(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, "data/weights/model.pt": pickled({"w": Payload(witness)})}


def _constant(path: str, data: bytes, good: Good) -> dict[str, bytes]:
    def add(config: dict[str, Any]) -> None:
        entry = {"path_name": path, "is_param": False, "use_pickle": True, "tensor_meta": None}
        config["config"]["extra"] = entry

    made = changed(good, "data/constants/model_constants_config.json", add)
    return {**made, f"data/constants/{path}": data}


@exported("a reduce payload among the constants")
def _constants(good: Good, witness: Path) -> dict[str, bytes]:
    return _constant("tensor_0", pickled(Payload(witness)), good)


@exported("an opaque object")
def _opaque(good: Good, witness: Path) -> dict[str, bytes]:
    return _constant("opaque_obj_0", pickle.dumps(Payload(witness)), good)


@exported("a custom object")
def _custom(good: Good, witness: Path) -> dict[str, bytes]:
    return _constant("custom_obj_0", pickle.dumps(Payload(witness)), good)


@exported("a compiled library")
def _library(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, "data/aotinductor/model/wrapper.so": b"\x7fELF" + bytes(64)}


@exported("a compiled library in the extra files")
def _extra(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, "extra/kernel.cubin": b"\x7fELF" + bytes(64)}


@exported("two programs")
def _two(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, "models/other.json": good[PROGRAM]}


@exported("JSON nested without end")
def _deep(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, PROGRAM: b"[" * 200_000 + b"]" * 200_000}


@exported("no JSON")
def _no_json(good: Good, witness: Path) -> dict[str, bytes]:
    return {**good, PROGRAM: good[PROGRAM][:-50]}


@exported("a weight larger than the file")
def _larger(good: Good, witness: Path) -> dict[str, bytes]:
    return changed(
        good, WEIGHTS, lambda c: first_weight(c)["tensor_meta"].update(sizes=[{"as_int": 1 << 30}] * 4)
    )


@exported("a weight of a terabyte by strides of 0")
def _strides(good: Good, witness: Path) -> dict[str, bytes]:
    meta = {"sizes": [{"as_int": 1 << 20}] * 4, "strides": [{"as_int": 0}] * 4}
    return changed(good, WEIGHTS, lambda c: first_weight(c)["tensor_meta"].update(meta))


@exported("an empty weight of a terabyte")
def _empty(good: Good, witness: Path) -> dict[str, bytes]:
    meta = {"sizes": [{"as_int": 1 << 20}] * 4}
    made = changed(good, WEIGHTS, lambda c: first_weight(c)["tensor_meta"].update(meta))
    return {**made, "data/weights/weight_0": b""}


@exported("a weight outside of the archive")
def _outside(good: Good, witness: Path) -> dict[str, bytes]:
    return changed(good, WEIGHTS, lambda c: first_weight(c).update(path_name="../../../etc/passwd"))


@exported("a weight with a negative size")
def _negative(good: Good, witness: Path) -> dict[str, bytes]:
    return changed(good, WEIGHTS, lambda c: first_weight(c)["tensor_meta"].update(sizes=[{"as_int": -1}] * 4))


in_graph("a size that calls", lambda p, w: size_of_x(p, python(w)))
in_graph("a size that never ends", lambda p, w: size_of_x(p, "Pow(9, Pow(9, Pow(9, 9)))"))
in_graph("a size with an attribute", lambda p, w: size_of_x(p, "Symbol('s0').__class__"))
in_graph("a size whose symbol is code", lambda p, w: size_of_x(p, f"Symbol({python(w)!r})"))
in_graph(
    "a bound that is code", lambda p, w: p.update(range_constraints={python(w): {"min_val": 1, "max_val": 2}})
)
in_graph("an operator that is a function", lambda p, w: graph(p)["nodes"][0].update(target="torch.os.system"))
in_graph("a builtin as operator", lambda p, w: graph(p)["nodes"][0].update(target="_operator.methodcaller"))
in_graph("a custom operator", lambda p, w: graph(p)["nodes"][0].update(target="torch.ops.mylib.run.default"))
in_graph(
    "an operator that opens files",
    lambda p, w: graph(p)["nodes"][0].update(target="torch.ops.aten.from_file.default"),
)
in_graph("control flow", lambda p, w: graph(p)["nodes"][0].update(target="torch.ops.higher_order.while_loop"))
in_graph("a name that is code", lambda p, w: graph(p)["nodes"][0].update(name=f"a = {python(w)}; b"))
in_graph(
    "a custom object as argument",
    lambda p, w: graph(p)["nodes"][0]["inputs"].append(
        {"name": "o", "arg": {"as_custom_obj": {"name": "o", "class_fqn": "a.b"}}}
    ),
)
in_graph(
    "a module's name that is code",
    lambda p, w: p["graph_module"]["module_call_graph"][1].update(fqn=python(w)),
)
in_graph("no graph", lambda p, w: p["graph_module"].pop("graph"))


def _stack(program: dict[str, Any], witness: Path) -> None:
    graph(program)["nodes"][0]["metadata"]["nn_module_stack"] = f"k,{python(witness)},torch.nn.Module"


in_graph("a module stack that is code", _stack)


def code_of(good: Good) -> str:
    """The source file of the network's own class."""
    return next(n for n, data in good.items() if n.endswith(".py") and b"class Net" in data)


def script(name: str, line: str) -> None:
    """A TorchScript archive whose forward holds ``line`` first."""

    def maker(good: Good, witness: Path) -> dict[str, bytes]:
        place = code_of(good)
        text = good[place].decode().replace("x: Tensor) -> Tensor:\n", f"x: Tensor) -> Tensor:\n    {line}\n")
        return {**good, place: text.replace("WITNESS", str(witness)).encode()}

    SCRIPTS[name] = maker


script("a file written", 'torch.save(x, "WITNESS")')
script("a file written by a method", '(x).save("WITNESS")')
script("a file written by getattr", 'getattr(x, "save")("WITNESS")')
script("a file mapped", 'z = torch.from_file("WITNESS", True, 10)')
script("a custom operator", "z = ops.image.read_file(x)")
script("an operator passed on", "z = ops\n    y = z.image.read_file(x)")
script("torch passed on", 't = torch\n    y = t.save(x, "WITNESS")')
script("a remote call", "z = ops.prim.rpc_async(x)")
script("a loop without end", "while True:\n      x = torch.neg(x)")
script("a print", 'print("hello")')
script("a custom class", "z : __torch__.torch.classes.my.Thing = x")
script("a comment that ends early", 'y = 1 #\r    torch.save(x, "WITNESS")')


def _source(change: Callable[[str], str]) -> Maker:
    def maker(good: Good, witness: Path) -> dict[str, bytes]:
        place = code_of(good)
        return {**good, place: change(good[place].decode()).replace("WITNESS", str(witness)).encode()}

    return maker


SETSTATE = '  def __setstate__(self,\n    s: Tensor) -> None:\n    torch.save(s, "WITNESS")\n'
SCRIPTS["a __setstate__ that writes"] = _source(lambda text: text.rstrip("\n") + "\n" + SETSTATE)
SCRIPTS["no code"] = _source(lambda text: "this is not TorchScript")
SCRIPTS["code under an odd name"] = lambda good, w: {**good, "code/__torch__/a b.py": b"x"}
SCRIPTS["a payload among the objects"] = lambda good, w: {**good, "data.pkl": pickle.dumps(Payload(w), 2)}
SCRIPTS["a payload among the constants"] = lambda good, w: {
    **good,
    "constants.pkl": pickle.dumps((Payload(w),), 2),
}
SCRIPTS["weights cut short"] = lambda good, w: {**good, "data/0": good["data/0"][:4]}
SCRIPTS["no weights"] = lambda good, w: {n: d for n, d in good.items() if n != "data/0"}
