"""A compiled OpenVINO model -> its kernels: what each computes, in which types, for which nodes of the graph.

OpenVINO says of every kernel which nodes it was made of (they carry the graph's names), the type it computes in
and the types of its results. A fused element-wise kernel computes every value in the type its nodes state and
says only one of them, so its type here is the widest among its own, its outputs' and those of its
inputs that are no constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scconv_deploy.artifacts import Json
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.graph.precision import CONVOLUTIONS, FUSE, GATE, lowest, role, settled, widest
from scconv_deploy.scconv.fused_ops import FUSE as FUSED_FUSE
from scconv_deploy.scconv.fused_ops import SRU as FUSED_SRU
from scconv_deploy.scconv.spec import Gate

if TYPE_CHECKING:
    import openvino as ov

NAMES = {"f64": "fp64", "f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
FUSED_KIND = "Reference"
"""What OpenVINO calls an operator that computes itself, as those of our extension do. A whole block is one with the
names of all its nodes; it multiplies in the type of its input."""
STRUCTURE = ("Const", "Input", "Output")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel: its kind ("Convolution"), implementation ("brgconv_avx512_amx"), types and the graph's nodes."""

    kind: str
    implementation: str
    computes: str | None
    """Type of its first input, as OpenVINO states it; None for integers."""
    touches: tuple[str, ...]
    """Types of its inputs and outputs."""
    nodes: tuple[str, ...]


def read_kernels(model: ov.Model) -> tuple[Kernel, ...]:
    """The kernels of ``CompiledModel.get_runtime_model()``, constants and ends left out."""
    found = []
    for op in model.get_ordered_ops():
        told = _told(op)
        kind = told.get("layerType", op.get_type_name())
        if kind in STRUCTURE:
            continue
        made = told.get("outputPrecisions", "").split(",")
        made += [p for source in op.input_values() for p in _given(source)]
        found.append(
            Kernel(
                kind=kind,
                implementation=told.get("primitiveType", ""),
                computes=NAMES.get(told.get("runtimePrecision", "")),
                touches=tuple(sorted({NAMES[t] for t in made if t in NAMES})),
                nodes=tuple(n for n in told.get("originalLayersNames", "").split(",") if n),
            )
        )
    return tuple(found)


def precision_built(kernels: Iterable[Kernel]) -> str | None:
    """The lowest type of any convolution or matrix product; without one, of any kernel."""
    everything = list(kernels)
    products = [k.computes for k in everything if k.kind in PRODUCTS and k.computes]
    return lowest(products) or lowest(k.computes for k in everything if k.computes)


def types_per_block(kernels: Iterable[Kernel], blocks: Sequence[str]) -> dict[str, dict[str, str]]:
    """Block path -> role ("convolutions", "gate", "fuse") -> type."""
    found: dict[str, dict[str, set[str]]] = {path: {} for path in blocks}
    for kernel in kernels:
        for path in blocks:
            for name in kernel.nodes:
                if kernel.kind == FUSED_KIND and (inside := _fused_role(name, path)) is not None:
                    # Our kernels compute in float32 whatever they store.
                    found[path].setdefault(inside, set()).add("fp32")
                    continue
                what = role(name, path)
                if what is None or kernel.computes is None:
                    continue
                if what == CONVOLUTIONS:
                    # What is fused behind a convolution may be wider; its products are not.
                    multiplies = kernel.kind in PRODUCTS or kernel.kind == FUSED_KIND
                    kind: str | None = kernel.computes if multiplies else None
                else:
                    kind = widest((kernel.computes, *kernel.touches))
                if kind is not None:
                    found[path].setdefault(what, set()).add(kind)
    return {path: settled(roles) for path, roles in found.items()}


def _fused_role(name: str, block: str) -> str | None:
    """Role of one of the extension's operators; a static gate was decided before."""
    operator = name.rpartition("/")[2]
    if not belongs_to(name, block):
        return None
    if operator.startswith(f"{FUSED_FUSE}_"):
        return FUSE
    static = operator.startswith(f"{FUSED_SRU}_{Gate.STATIC.value}")
    return GATE if operator.startswith(f"{FUSED_SRU}_") and not static else None


def kernel_counts(kernels: Iterable[Kernel]) -> dict[str, Json]:
    """``"Convolution bf16"`` -> how many; integer kernels by their kind alone."""
    counts = Counter(f"{k.kind} {k.computes}" if k.computes else k.kind for k in kernels)
    return {name: counts[name] for name in sorted(counts)}


def _given(source: Any) -> list[str]:
    """The type that an input's producer gives; a constant's says nothing of what is computed."""
    node = source.get_node()
    if _is_constant(node):
        return []
    types = _told(node).get("outputPrecisions", "").split(",")
    index = source.get_index()
    return types[index : index + 1] if index < len(types) else types


def _is_constant(node: Any) -> bool:
    """Whether a kernel's value is known before anything runs: a constant, perhaps in another layout."""
    kind = _told(node).get("layerType")
    sources = [value.get_node() for value in node.input_values()]
    return kind == "Const" or (kind in ("Reorder", "Reshape") and all(map(_is_constant, sources)))


def _told(node: Any) -> dict[str, str]:
    return {key: str(_text(value)) for key, value in node.get_rt_info().items()}


def _text(value: Any) -> Any:
    """A runtime-info entry is an OVAny in some places and plain in others."""
    return value.astype(str) if hasattr(value, "astype") else value
