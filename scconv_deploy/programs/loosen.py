"""A loaded program's graph -> the same graph with sizes read from its tensors instead of written into it.

An export at fixed shapes writes numbers where the user's code asked for sizes (``x.view(N, C, H, W)`` became
``view(y, [2, 16, 32, 32])``), and an export with free axes passes sizes from the network's input into every module.
Both hide an SCConv block from recognition, which looks at a module by itself and at sizes of its own choice.
Here such a size becomes the size of a tensor near by that has the same extent at the same place. At the shapes
the program was exported for nothing changes, and for no others is the artifact built: the guess which tensor
was meant decides only whether a block is found, never what is computed.

Casts between floating types are dropped, since the precision is chosen by the export. A mask becomes a number of
the type that it was computed from: a type written into the graph would keep the program from running in half.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

aten = torch.ops.aten
RESHAPES = (aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.expand.default)
CASTS = (aten.to.dtype, aten._to_copy.default, aten.to.dtype_layout, aten.to.device)
ASSERTIONS = (
    aten._assert_scalar.default,
    aten._assert_async.msg,
    aten.sym_constrain_range_for_size.default,
    aten.sym_constrain_range.default,
    aten._assert_tensor_metadata.default,
)
MAX_ANCESTORS = 200
"""Tensors looked at, nearest first, for one of the wanted shape."""


def loosen(program: ExportedProgram) -> tuple[str, ...]:
    """Rewrite ``program``'s graph in place; the notes say which casts were dropped.

    Its ``module()`` computes the same function on the shapes it accepts, but for rounding where casts went.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in ASSERTIONS:
            graph.erase_node(node)
    casts = [n for n in graph.nodes if n.target in CASTS and _is_floating_cast(n)]
    dropped = sum(n.args[0].meta["val"].dtype != n.meta["val"].dtype for n in casts)
    for node in casts:
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
    for node in [n for n in graph.nodes if n.target in CASTS]:
        _type_mask(graph, node)
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in RESHAPES:
            _read_sizes(graph, node)
    collapse_sums(graph)
    _sweep(graph)
    program.graph_module.recompile()
    if not dropped:
        return ()
    casts_were = "cast between floating types was" if dropped == 1 else "casts between floating types were"
    return (f"{dropped} {casts_were} left out: the precision asked for holds throughout",)


def collapse_sums(graph: fx.Graph) -> None:
    """``0 + p[0] + p[1] + ...`` over all of a tensor -> one sum: Python's ``sum(gn.weight)`` unrolls so.

    The order of additions differs, so the last bits may; a ResNet-50 has 12,000 of them.
    """
    for unbind in list(graph.nodes):
        if unbind.target is not aten.unbind.int or (len(unbind.args) > 1 and unbind.args[1] != 0):
            continue
        source = unbind.args[0]
        last = _end_of_chain(unbind, int(source.meta["val"].shape[0]))
        if last is None:
            continue
        with graph.inserting_before(last):
            total = graph.call_function(aten.sum.dim_IntList, (source, [0]))
        total.meta = dict(last.meta)
        last.replace_all_uses_with(total)


def _end_of_chain(unbind: fx.Node, count: int) -> fx.Node | None:
    """The last of the additions, if every element is added exactly once and in order, starting from 0."""
    total: Any = 0
    items = {n.args[1]: n for n in unbind.users if len(n.users) == 1}
    if len(items) != count or set(items) != set(range(count)):
        return None
    for index in range(count):
        (user,) = items[index].users
        if user.target is not aten.add.Tensor or user.kwargs or len(user.args) != 2:
            return None
        other = user.args[1] if user.args[0] is items[index] else user.args[0]
        starts = index == 0 and not isinstance(other, fx.Node) and other == 0
        if other is not total and not starts:
            return None
        total = user
    return total if isinstance(total, fx.Node) else None


def _is_floating_cast(node: fx.Node) -> bool:
    """Whether both sides are floating: a mask that becomes a number is none."""
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return False
    before, after = source.meta.get("val"), node.meta.get("val")
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor):
        return False
    return before.dtype.is_floating_point and after.dtype.is_floating_point


def _type_mask(graph: fx.Graph, node: fx.Node) -> None:
    """``(s > t).to(float32)`` -> ``(s > t).type_as(s)``; left as it is where ``s`` is of another type."""
    source, made = node.args[0], node.meta.get("val")
    if not isinstance(source, fx.Node) or not isinstance(made, torch.Tensor):
        return
    given = source.meta.get("val")
    if not isinstance(given, torch.Tensor) or given.dtype != torch.bool or not made.dtype.is_floating_point:
        return
    kinds = ((n, n.meta.get("val")) for n in _ancestors(source, node))
    typed = (n for n, value in kinds if isinstance(value, torch.Tensor) and value.dtype == made.dtype)
    if (origin := next(typed, None)) is None:
        return
    with graph.inserting_before(node):
        mask = graph.call_function(aten.type_as.default, (source, origin))
    mask.meta = dict(node.meta)
    node.replace_all_uses_with(mask)
    graph.erase_node(node)


def _read_sizes(graph: fx.Graph, node: fx.Node) -> None:
    sizes = node.args[1]
    source, made = node.args[0], node.meta.get("val")
    if not isinstance(sizes, list | tuple) or not isinstance(source, fx.Node) or made is None:
        return
    given = source.meta.get("val")
    if not isinstance(given, torch.Tensor):
        return
    own = [axis < given.ndim and _same(given.shape[axis], made.shape[axis]) for axis in range(len(sizes))]
    chosen: fx.Node | None = None
    # Where one size is left open (-1) the others are group counts, which are no tensor's size.
    if -1 not in sizes and not all(own):
        chosen = next((n for n in _ancestors(source, node) if _has_shape(n, made.shape)), None)
    read = []
    for axis, size in enumerate(sizes):
        origin = chosen or (source if own[axis] else None)
        told = size == -1 or (size == 1 and axis > 0)
        read.append(size if told or origin is None else _size(graph, node, origin, axis))
    node.args = (source, read, *node.args[2:])


def _size(graph: fx.Graph, before: fx.Node, origin: fx.Node, axis: int) -> fx.Node:
    with graph.inserting_before(before):
        made = graph.call_function(aten.sym_size.int, (origin, axis))
    made.meta = {"val": origin.meta["val"].shape[axis]}
    if "nn_module_stack" in before.meta:
        made.meta["nn_module_stack"] = before.meta["nn_module_stack"]
    return made


def _ancestors(node: fx.Node, inside: fx.Node) -> Iterator[fx.Node]:
    """What ``node`` was computed from, nearest first, itself included, within the module of ``inside``.

    A module's inputs are looked at and not beyond: another module's tensor would tie the two together.
    """
    home = _module_of(inside)
    seen, waiting = {node}, deque([node])
    while waiting and len(seen) < MAX_ANCESTORS:
        found = waiting.popleft()
        yield found
        for source in found.all_input_nodes if _module_of(found) == home else ():
            if source not in seen:
                seen.add(source)
                waiting.append(source)


def _module_of(node: fx.Node) -> object:
    stack = node.meta.get("nn_module_stack") or {}
    return list(stack.values())[-1][0] if stack else None


def _has_shape(node: fx.Node, shape: torch.Size) -> bool:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or value.ndim != len(shape):
        return False
    return all(_same(a, b) for a, b in zip(value.shape, shape, strict=True))


def _same(one: int | torch.SymInt, other: int | torch.SymInt) -> bool:
    """Whether two sizes are the same number or the same expression; asks nothing of the program's guards."""
    if isinstance(one, torch.SymInt) and isinstance(other, torch.SymInt):
        return bool(one.node.expr == other.node.expr)
    return isinstance(one, int) and isinstance(other, int) and one == other


def _sweep(graph: fx.Graph) -> None:
    """Remove what nothing uses any more, first of all the sizes of the network's own input."""
    for node in reversed(graph.nodes):
        if node.op == "call_function" and not node.users and not node.is_impure():
            graph.erase_node(node)
