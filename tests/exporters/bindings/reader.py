"""The statements of one function, read in order: kinds of its variables, and the attributes it touches."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.exporters.bindings.guards import catches_missing, conditions, leaves
from tests.exporters.bindings.kinds import (
    CUDA,
    MANY,
    MODULE,
    MODULE_KIND,
    NOTHING,
    TRIED,
    Condition,
    Function,
    Kind,
    Touch,
    Value,
    unwrapped,
    wrapped,
)

if TYPE_CHECKING:
    from tests.exporters.bindings.touched import Walk

CONTAINERS = (
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.GeneratorExp,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
)
HOLDING = ("values", "items", "get", "pop", "copy", "popleft", "setdefault")
"""Methods of containers that give what they hold, or a container of it."""

CUDA_CALL = re.compile(r"cuda[A-Z]\w+$")


class Reader:
    """One scope: a file's top level or a function."""

    def __init__(
        self, walk: Walk, file: str, scope: str, under: frozenset[Condition], outer: Reader | None = None
    ) -> None:
        self.walk, self.file, self.scope, self.under, self.outer = walk, file, scope, under, outer

    def body(self, statements: list[ast.stmt]) -> None:
        """Read a block; what an early exit leaves true holds for the rest of it."""
        kept = self.under
        for statement in statements:
            self.statement(statement)
            if isinstance(statement, ast.If) and leaves(statement.body) and not statement.orelse:
                self.under |= conditions(statement.test, self._owners, truth=False)
        self.under = kept

    def _within(self, statements: list[ast.stmt], more: frozenset[Condition]) -> None:
        kept, self.under = self.under, self.under | more
        self.body(statements)
        self.under = kept

    def statement(self, node: ast.stmt) -> None:
        """Read one statement."""
        if isinstance(node, ast.If | ast.While):
            self.value(node.test)
            self._within(node.body, conditions(node.test, self._owners))
            self._within(node.orelse, conditions(node.test, self._owners, truth=False))
        elif isinstance(node, ast.Try):
            self._within(node.body, frozenset({TRIED}) if catches_missing(node.handlers) else frozenset())
            for block in (*(h.body for h in node.handlers), node.orelse, node.finalbody):
                self.body(block)
        elif isinstance(node, ast.FunctionDef):
            self._function(node)
        elif isinstance(node, ast.ClassDef):
            given = [self.value(b.value if isinstance(b, ast.Starred) else b) for b in node.bases]
            self._overrides(node, unwrapped(NOTHING.union(*given)))
            self.body(node.body)
        elif isinstance(node, ast.For):
            self._assign(node.target, unwrapped(self.value(node.iter)))
            self.body([*node.body, *node.orelse])
        elif isinstance(node, ast.With):
            for item in node.items:
                entered = self.value(item.context_expr)
                if item.optional_vars is not None:
                    self._assign(item.optional_vars, entered)
            self.body(node.body)
        else:
            self._simple(node)

    def _function(self, node: ast.FunctionDef) -> None:
        function = next(f for f in self.walk.functions[node.name] if f.node is node)
        self.walk.seed(function)
        # A condition that holds wherever a function is called holds inside it.
        under = self.under | self.walk.under.get(function.name, frozenset())
        Reader(self.walk, self.file, function.name, under, self).body(node.body)

    def _simple(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._pairs(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign(node.target, self.value(node.value))
        elif isinstance(node, ast.Return) and node.value is not None:
            self.walk.results[self.scope] |= self.value(node.value)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in ("tensorrt", "tensorrt_rtx"):
                    name = alias.asname or alias.name.partition(".")[0]
                    self.walk.learn(self.scope, name, frozenset({MODULE_KIND}))
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.value(child)

    def _pairs(self, target: ast.expr, value: ast.expr) -> None:
        if (
            isinstance(target, ast.Tuple)
            and isinstance(value, ast.Tuple)
            and len(target.elts) == len(value.elts)
        ):
            for one, other in zip(target.elts, value.elts, strict=True):
                self._assign(one, self.value(other))
        else:
            self._assign(target, self.value(value))

    def _assign(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Name):
            self.walk.learn(self.scope, target.id, value)
        elif isinstance(target, ast.Attribute):
            for kind, name in self.value(target.value):
                if kind == "ours":
                    self.walk.fields[name, target.attr] |= value
            self.value(target)
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._assign(part, unwrapped(value))

    def value(self, node: ast.expr) -> Value:
        """The kinds an expression may have; touches inside it are noted."""
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, self.value(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.IfExp):
            self.value(node.test)
            return self._guarded(node.body, node.test, True) | self._guarded(node.orelse, node.test, False)
        if isinstance(node, ast.BoolOp):
            return self._chain(node)
        if isinstance(node, ast.NamedExpr):
            found = self.value(node.value)
            self._assign(node.target, found)
            return found
        if isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
            for generator in node.generators:
                self._assign(generator.target, unwrapped(self.value(generator.iter)))
        parts = [self.value(child) for child in _expressions(node)]
        if isinstance(node, ast.Compare):
            return NOTHING
        held = NOTHING.union(*parts)
        if isinstance(node, ast.Subscript):
            return unwrapped(held)
        return wrapped(held) if isinstance(node, CONTAINERS) else held

    def _chain(self, node: ast.BoolOp) -> Value:
        kept, found = self.under, NOTHING
        for part in node.values:
            found |= self.value(part)
            self.under |= conditions(part, self._owners, truth=isinstance(node.op, ast.And))
        self.under = kept
        return found

    def _guarded(self, node: ast.expr, test: ast.expr, truth: bool) -> Value:
        kept, self.under = self.under, self.under | conditions(test, self._owners, truth)
        found = self.value(node)
        self.under = kept
        return found

    def _name(self, name: str) -> Value:
        scope: Reader | None = self
        while scope is not None:
            if self.walk.values[scope.scope, name]:
                return self.walk.values[scope.scope, name]
            scope = scope.outer
        if name in self.walk.ours:
            return frozenset({("our class", name)})
        if self.walk.imports.get((self.file, name), ("", "?"))[1] == "":
            return frozenset({("file", self.walk.imports[self.file, name][0])})
        return self._refer(self.walk.at_top(self.file, name))

    def _refer(self, functions: Iterable[Function]) -> Value:
        """Our functions as values; whoever names one may call it, under the conditions of this place."""
        found = tuple(functions)
        for function in found:
            self.walk.sites[function.name].append(self.under)
        return frozenset(("function", f.name) for f in found)

    def _attribute(self, node: ast.expr, base: Value, name: str) -> Value:
        found: set[Kind] = set()
        for kind, of in base:
            if kind == "ours":
                found |= self.walk.field_of(of, name)
                found |= self._refer(self.walk.methods(of, name))
            elif kind == "file":
                found |= (
                    {("our class", name)}
                    if name in self.walk.ours
                    else self._refer(self.walk.at_top(of, name))
                )
            elif kind.startswith(MANY):
                found |= {(kind, of), (kind.removeprefix(MANY), of)} if name in HOLDING else set()
            elif kind in ("module", "class", "object", CUDA):
                owner = {"module": MODULE, CUDA: CUDA}.get(kind, of)
                self._touch(node, owner, name)
                found |= self._given(kind, owner, name)
        return frozenset(found)

    def _given(self, kind: str, owner: str, name: str) -> set[Kind]:
        classes = self.walk.tensorrt_classes
        if kind == CUDA:
            return set()
        if kind == "module" and name in classes:
            return {("class", name)}
        if name in classes and not self.walk.contract.forms(owner, name):
            return {("class", name)}
        gives = self.walk.contract.gives(owner, name)
        if self.walk.contract.forms(owner, name):
            return {("method", f"{owner}.{name}")}
        return {("object", gives)} if gives else set()

    def _call(self, node: ast.Call) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr") and len(node.args) > 1:
            return self._by_name(node)
        function = self.value(node.func)
        values = [self.value(a.value if isinstance(a, ast.Starred) else a) for a in node.args]
        named = {k.arg: self.value(k.value) for k in node.keywords if k.arg}
        self._cuda_by_name(node)
        found: set[Kind] = set()
        for kind, name in function:
            if kind.startswith(MANY) or (
                kind == "object" and isinstance(node.func, ast.Attribute) and node.func.attr in HOLDING
            ):
                found.add((kind, name))
            elif kind == "class":
                found.add(("object", name))
            elif kind == "method":
                gives = self.walk.contract.gives(*name.rpartition(".")[::2])
                found |= {("object", gives)} if gives else set()
            elif kind == "our class":
                found.add(("ours", name))
                self._construct(name, values, named)
            elif kind == "function":
                found |= self.walk.bind(name, values, named)
        # One function may load any module; which, only its argument says.
        texts = [self._text(a) for a in node.args]
        if any(t.startswith(CUDA) for t in texts):
            found = {(CUDA, "") if kind == MODULE_KIND else kind for kind in found}
        elif "torch" in texts:
            found.discard(MODULE_KIND)
        return frozenset(found)

    def _text(self, node: ast.expr) -> str:
        """A string as written, or as a name of this file's top level holds it."""
        if isinstance(node, ast.Name):
            return self.walk.texts.get((self.file, node.id), "")
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""

    def _construct(self, name: str, values: list[Value], named: dict[str, Value]) -> None:
        for start in self.walk.methods(name, "__init__"):
            self._refer([start])
            self.walk.bind(start.name, values, named)
        body = self.walk.ours[name].body
        names = [i.target.id for i in body if isinstance(i, ast.AnnAssign) and isinstance(i.target, ast.Name)]
        for field, value in (*zip(names, values, strict=False), *named.items()):
            self.walk.fields[name, field] |= value

    def _by_name(self, node: ast.Call) -> Value:
        """``getattr(x, "name")`` touches; with a default, and with ``hasattr``, it asks."""
        assert isinstance(node.func, ast.Name)
        base, name = self.value(node.args[0]), node.args[1]
        for other in node.args[2:]:
            self.value(other)
        if node.func.id == "hasattr":
            return NOTHING
        if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
            self.value(name)
            return frozenset(("object", of) for kind, of in base if kind == "class")
        kept = self.under
        if len(node.args) == 3:
            self.under |= {TRIED}
        found = self._attribute(node, base, name.value)
        self.under = kept
        return found

    def _cuda_by_name(self, node: ast.Call) -> None:
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str) and CUDA_CALL.match(first.value):
            self._touch(node, CUDA, first.value)

    def _overrides(self, node: ast.ClassDef, base: Value) -> None:
        """A public method of a TensorRT class's subclass that overrides nothing would never be called."""
        bases = sorted(of for kind, of in base if kind == "class")
        for item in node.body:
            if bases and isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                holding = [b for b in bases if any(self.walk.contract.has(b, item.name))]
                self._touch(item, (holding or bases)[0], item.name)

    def _touch(self, node: ast.expr | ast.stmt, owner: str, name: str) -> None:
        if not name.startswith("__"):
            self.walk.touches.add(Touch(self.file, node.lineno, owner, name, self.under))

    def _owners(self, node: ast.expr) -> set[str]:
        kinds = {"module": MODULE}
        return {kinds.get(kind, of) for kind, of in self.value(node) if kind in ("module", "class", "object")}


def _expressions(node: ast.AST) -> list[ast.expr]:
    found: list[ast.expr] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            found.append(child)
        elif isinstance(child, ast.comprehension):
            found.extend(child.ifs)
    return found
