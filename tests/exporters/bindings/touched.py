"""Our source -> every attribute of TensorRT (and CUDA) it touches, with the conditions under which it does.

A small abstract interpreter. A value is a set of kinds: the module, a class of it, an object of such a class, a
bound method, one of our own functions or objects. What a call returns is read from the recorded signatures, and
what our parameters hold from the calls, so ``build(builder, config)`` is followed without annotations. A container
counts as what it holds. What cannot be followed has no kind and is not checked.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.exporters.bindings.contract import Contract, Version
from tests.exporters.bindings.kinds import (
    CUDA,
    MODULE_KIND,
    NOTHING,
    RTX_ONLY,
    TRIED,
    TRT_ONLY,
    Condition,
    Function,
    Kind,
    Touch,
    Value,
    called,
)
from tests.exporters.bindings.reader import Reader


class Walk:
    """All files together: a call in one may give a parameter in another its kind."""

    def __init__(self, sources: dict[str, str], contract: Contract) -> None:
        self.contract = contract
        self.tensorrt_classes = contract.classes()
        self.values: dict[tuple[str, str], Value] = defaultdict(frozenset)
        self.fields: dict[tuple[str, str], Value] = defaultdict(frozenset)
        self.results: dict[str, Value] = defaultdict(frozenset)
        self.under: dict[str, frozenset[Condition]] = {}
        self.sites: dict[str, list[frozenset[Condition]]] = defaultdict(list)
        self.functions: dict[str, list[Function]] = defaultdict(list)
        self.named: dict[str, Function] = {}
        self.ours: dict[str, ast.ClassDef] = {}
        self.touches: set[Touch] = set()
        self.trees = {file: ast.parse(text) for file, text in sources.items()}
        self.texts = {
            (file, target.id): statement.value.value
            for file, tree in self.trees.items()
            for statement in tree.body
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
            for target in statement.targets
            if isinstance(target, ast.Name) and isinstance(statement.value.value, str)
        }
        self.imports: dict[tuple[str, str], tuple[str, str]] = {}
        for file, tree in self.trees.items():
            self._collect(tree, file, None)
            self._imports(tree, file)

    def _imports(self, tree: ast.Module, file: str) -> None:
        """Name in a file -> the file of ours it comes from, and its name there ("" for the file itself)."""
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            home = node.module.replace(".", "/")
            for alias in node.names:
                for origin, name in ((f"{home}/{alias.name}.py", ""), (f"{home}.py", alias.name)):
                    if origin in self.trees:
                        self.imports[file, alias.asname or alias.name] = (origin, name)

    def at_top(self, file: str, name: str) -> list[Function]:
        """Our functions (no methods) that ``name`` means in a file."""
        origin, theirs = self.imports.get((file, name), (file, name))
        return [f for f in self.functions.get(theirs, []) if f.owner is None and f.file == origin]

    def _collect(self, node: ast.AST, file: str, owner: str | None) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                self.ours[child.name] = child
                self._collect(child, file, child.name)
            elif isinstance(child, ast.FunctionDef):
                function = Function(child, file, owner)
                self.functions[child.name].append(function)
                self.named[function.name] = function
                self._collect(child, file, None)
            else:
                self._collect(child, file, owner)

    def run(self) -> set[Touch]:
        """Walk until nothing new is learned."""
        while True:
            before = self._known()
            self.touches, self.sites = set(), defaultdict(list)
            for file, tree in self.trees.items():
                Reader(self, file, file, frozenset()).body(tree.body)
            self.under = {name: frozenset.intersection(*sites) for name, sites in self.sites.items()}
            if self._known() == before:
                return self.touches

    def _known(self) -> object:
        sizes = [sum(map(len, kept.values())) for kept in (self.values, self.fields, self.results)]
        return sizes, sorted((k, sorted(v)) for k, v in self.under.items())

    def seed(self, function: Function) -> None:
        """What the signature says of parameters and result."""
        for argument in function.parameters:
            self.learn(function.name, argument.arg, self.annotated(argument.annotation, argument.arg))
        if function.owner and [a.arg for a in function.parameters[:1]] == ["self"]:
            self.learn(function.name, "self", frozenset({("ours", function.owner)}))
        self.results[function.name] |= self.annotated(function.node.returns, function.node.name)

    def annotated(self, annotation: ast.expr | None, name: str) -> Value:
        """What an annotation says: our classes, and ``ModuleType``, which is TensorRT's unless its name says else."""
        if annotation is None:
            return NOTHING
        words = {n.id for n in ast.walk(annotation) if isinstance(n, ast.Name)}
        found: set[Kind] = {("ours", w) for w in words if w in self.ours}
        if "ModuleType" in words:
            found.add(MODULE_KIND)
        return called(name, frozenset(found))

    def learn(self, scope: str, name: str, value: Value) -> None:
        """A variable may hold this too."""
        if value:
            self.values[scope, name] |= called(name, value)

    def bind(self, name: str, values: Sequence[Value], named: dict[str, Value]) -> Value:
        """A call of one of our functions: its parameters learn, and what it returns comes back."""
        function = self.named[name]
        names = [a.arg for a in function.parameters]
        if function.owner and names[:1] == ["self"]:
            names = names[1:]
        for parameter, value in (*zip(names, values, strict=False), *named.items()):
            self.learn(name, parameter, value)
        return self.results[name]

    def field_of(self, owner: str, name: str) -> Value:
        """A field of one of our classes: as annotated, or as assigned anywhere."""
        known = self.fields[owner, name]
        for base in [owner, *self._bases(owner)]:
            known |= self.fields[base, name]
            node = self.ours.get(base)
            for item in node.body if node else []:
                if (
                    isinstance(item, ast.AnnAssign)
                    and isinstance(item.target, ast.Name)
                    and item.target.id == name
                ):
                    known |= self.annotated(item.annotation, name)
        return known

    def methods(self, owner: str, name: str) -> list[Function]:
        """Our methods of this name in a class or its bases."""
        owners = {owner, *self._bases(owner)}
        return [f for f in self.functions.get(name, []) if f.owner in owners]

    def _bases(self, owner: str) -> list[str]:
        node = self.ours.get(owner)
        return [b.id for b in (node.bases if node else []) if isinstance(b, ast.Name) and b.id in self.ours]


def sources(*patterns: str, root: Path) -> dict[str, str]:
    """File name -> text of every file under ``root`` that a pattern names."""
    paths = sorted({p for pattern in patterns for p in root.glob(pattern)})
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in paths}


def touched(files: dict[str, str], contract: Contract) -> set[Touch]:
    """Every touch of ``files``."""
    return Walk(files, contract).run()


def missing(touches: Iterable[Touch], contract: Contract) -> list[str]:
    """Sentences: which attribute is missing in which versions although nothing guards it."""
    wrong = []
    for touch in touches:
        if touch.owner == CUDA or TRIED in touch.under:
            continue
        lacking = [
            version.label
            for version in contract.versions
            if version.found(touch.owner, touch.name) is None
            and _exists(touch.owner, version)
            and all(_holds(c, version) for c in touch.under)
        ]
        if lacking:
            owner = touch.owner or "the module"
            wrong.append(f"{touch.file}:{touch.line}: {owner} has no '{touch.name}' in {', '.join(lacking)}")
    return sorted(wrong)


def _exists(owner: str, version: Version) -> bool:
    """Of a class that a version lacks there are no objects; what would give one is a touch by itself."""
    return not owner or owner in version.bases


def _holds(condition: Condition, version: Version) -> bool:
    if condition in (RTX_ONLY, TRT_ONLY):
        return version.rtx == (condition == RTX_ONLY)
    _, owner, name = condition
    return version.found(owner, name) is not None
