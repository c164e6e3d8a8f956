"""One forward of a private copy, watched at the dispatcher -> what it touched, in order, with which numbers.

Attribute names say nothing and attributes may be dead; the operators that really run cannot lie. From them
come the live tensors, the geometry of every convolution, and hints (group counts, eps, thresholds) that
only *order* the candidates: nothing is accepted on a hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from scconv_deploy.scconv.spec import ConvSpec

RANDOM_OPERATORS = frozenset(
    {"uniform_", "normal_", "bernoulli", "bernoulli_", "rand", "randn", "randint", "randperm", "rand_like"}
    | {"randn_like", "native_dropout", "multinomial", "exponential_", "randint_like", "trunc_normal_"}
)
"""Operators whose result differs from call to call."""

FOREIGN_OPERATORS: Mapping[str, str] = {
    "relu": "a ReLU",
    "relu_": "a ReLU",
    "leaky_relu": "a LeakyReLU",
    "silu": "a SiLU",
    "silu_": "a SiLU",
    "gelu": "a GELU",
    "elu": "an ELU",
    "hardswish": "a Hardswish",
    "hardswish_": "a Hardswish",
    "hardtanh": "a ReLU6",
    "tanh": "a tanh",
    "max_pool2d_with_indices": "max pooling",
    "adaptive_max_pool2d": "global max pooling",
    "amax": "a maximum over positions",
    "native_batch_norm": "a batch normalisation",
    "_native_batch_norm_legit_no_training": "a batch normalisation",
    "_native_batch_norm_legit": "a batch normalisation",
    "native_layer_norm": "a layer normalisation",
    "addmm": "a linear layer",
}
"""Operators that no SCConv form contains, in words; named in refusals, never used to accept."""

_COMPARISONS = frozenset({"gt", "ge", "lt", "le"})
_CLAMPS = frozenset({"clamp", "clamp_min", "clamp_", "clamp_min_", "maximum"})
_NORMS = frozenset({"native_group_norm", "std", "var", "var_mean", "std_mean", "sqrt", "rsqrt", "pow"})
_SCALING = frozenset({"mul", "div", "sum", "_softmax", "abs", "mul_", "div_", "unbind", "select"})


@dataclass(frozen=True, slots=True)
class ConvCall:
    """One executed convolution: the names of its tensors in the module, and its geometry."""

    weight: str
    bias: str | None
    spec: ConvSpec


@dataclass(slots=True)
class Observation:
    """What one forward did. ``scaled`` are vectors that took part in a product, sum or softmax."""

    live: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
    """The live tensors by first use."""
    scaled: set[str] = field(default_factory=set)
    convs: list[ConvCall] = field(default_factory=list)
    operators: list[str] = field(default_factory=list)
    group_norms: list[tuple[int, float]] = field(default_factory=list)
    affine: tuple[str, str] | None = None
    floats: list[float] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)
    comparisons: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    clamped: list[float] = field(default_factory=list)
    odd_convolutions: list[str] = field(default_factory=list)
    reads_input: bool = False
    """Whether Python was told a value that depends on the input, as ``if x.mean() > 0`` asks for."""

    @property
    def random(self) -> str | None:
        """The first operator that draws random numbers."""
        return next((name for name in self.operators if name in RANDOM_OPERATORS), None)

    @property
    def foreign(self) -> tuple[str, ...]:
        """Operations that no SCConv form contains, in words, each once."""
        return tuple(dict.fromkeys(FOREIGN_OPERATORS[n] for n in self.operators if n in FOREIGN_OPERATORS))

    @property
    def gates(self) -> bool:
        """Whether it compares normalised values with a threshold: the mark of an SRU.

        The sigmoid is no part of the mark: a hard gate may compare its argument with 0 just as well.
        """
        return bool(_COMPARISONS.intersection(self.operators)) and bool(_NORMS.intersection(self.operators))


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fills an Observation with every operator that reaches the dispatcher."""

    def __init__(
        self,
        names: Mapping[int, str],
        paddings: Mapping[str, tuple[str, tuple[int, int]]],
        settings: frozenset[str],
        x: Tensor,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.paddings = paddings
        self.settings = settings
        self.seen = Observation()
        # Storage -> a tensor in it, kept alive so that no later tensor gets the same address.
        self.from_input = {x.untyped_storage().data_ptr(): x}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        self.seen.operators.append(name)
        tensors = [self._name(a) for a in _flat(args)]
        used = {t for t in tensors if t is not None}
        self.seen.order += [t for t in dict.fromkeys(tensors) if t is not None and t not in self.seen.live]
        self.seen.live |= used
        if name in _SCALING:
            self.seen.scaled |= used
        if name == "convolution":
            self._convolution(args)
        elif name == "native_group_norm":
            self.seen.group_norms.append((int(args[6]), float(args[7])))
            weight, bias = self._name(args[1]), self._name(args[2])
            if weight and bias:
                self.seen.affine = (weight, bias)
        elif name in {"view", "_unsafe_view", "reshape"}:
            self.seen.sizes += [int(v) for v in args[1] if int(v) > 0][1:2]
        else:
            self._scalars(name, args)
        result = func(*args, **(kwargs or {}))
        self._follow_input(name, [*args, *(kwargs or {}).values()], result)
        return result

    def _follow_input(self, name: str, given: Iterable[Any], result: object) -> None:
        """Note which results depend on the input, and whether one of them became a Python number."""
        tensors = [t for t in _flat(given) if isinstance(t, Tensor)]
        if any(t.untyped_storage().data_ptr() in self.from_input for t in tensors):
            self.seen.reads_input |= name == "_local_scalar_dense"
            made = (t for t in _flat([result]) if isinstance(t, Tensor) and t.numel())
            self.from_input.update((t.untyped_storage().data_ptr(), t) for t in made)

    def _name(self, value: object) -> str | None:
        return self.names.get(value.untyped_storage().data_ptr()) if isinstance(value, Tensor) else None

    def _scalars(self, name: str, args: tuple[Any, ...]) -> None:
        for value in _flat(args[1:]):
            if isinstance(value, Tensor):
                # Other one-element tensors are results or elements of gamma, not settings.
                if value.numel() != 1 or not (name in _COMPARISONS or self._name(value) in self.settings):
                    continue
                number = float(value)
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                number = float(value)
            else:
                continue
            self.seen.floats.append(number)
            if name in _COMPARISONS:
                self.seen.compared.append(number)
            if name in _CLAMPS:
                self.seen.clamped.append(number)
        if name in _COMPARISONS:
            self.seen.comparisons.append(name)

    def _convolution(self, args: tuple[Any, ...]) -> None:
        weight, bias = self._name(args[1]), self._name(args[2])
        if weight is None or (args[2] is not None and bias is None):
            self.seen.odd_convolutions.append(
                "a convolution whose weights are computed in forward or by a hook, not stored as parameters (with "
                "the old torch.nn.utils.weight_norm: call remove_weight_norm before the export)"
            )
            return
        shape = args[1].shape
        if len(shape) != 4 or args[6]:
            kind = "transposed" if args[6] else f"{len(shape) - 2}-D"
            self.seen.odd_convolutions.append(f"a {kind} convolution")
            return
        mode, padding = self.paddings.get(weight, ("zeros", (0, 0)))
        spec = ConvSpec(
            c_in=int(shape[1]) * int(args[8]),
            c_out=int(shape[0]),
            kernel=_pair(shape[2:]),
            stride=_pair(args[3]),
            padding=_pair(args[4]) if mode == "zeros" else padding,
            dilation=_pair(args[5]),
            groups=int(args[8]),
            bias=bias is not None,
            padding_mode=mode,
        )
        self.seen.convs.append(ConvCall(weight, bias, spec))


def observe(module: nn.Module, x: Tensor) -> tuple[Observation, Tensor]:
    """Run ``module(x)`` once without gradients and return what it did, and its output.

    Raises:
        TypeError: the result is not a single tensor.
        Exception: whatever the module itself raises.
    """
    settings = frozenset(name for name, tensor in tensors(module).items() if tensor.numel() == 1)
    watcher = _Watcher(_storages(module), _padding_modes(module), settings, x)
    with torch.no_grad(), watcher:
        y: object = module(x)
    if not isinstance(y, Tensor):
        raise TypeError(f"it returns {type(y).__name__} where an SCConv block returns one tensor")
    return watcher.seen, y


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of the module by name, shared ones under each of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _storages(module: nn.Module) -> dict[int, str]:
    """Storage address -> the first name of the tensor there."""
    names: dict[int, str] = {}
    for name, tensor in tensors(module).items():
        if tensor.numel():
            names.setdefault(tensor.untyped_storage().data_ptr(), name)
    return names


def _padding_modes(module: nn.Module) -> dict[str, tuple[str, tuple[int, int]]]:
    """Weight name -> (padding mode, padding) of the convolutions that pad in a separate step."""
    found = {}
    for path, child in module.named_modules(remove_duplicate=False):
        mode = getattr(child, "padding_mode", "zeros")
        padding = getattr(child, "padding", None)
        if (
            isinstance(mode, str)
            and mode != "zeros"
            and isinstance(padding, (tuple, list))
            and len(padding) == 2
        ):
            found[f"{path}.weight" if path else "weight"] = (mode, _pair(padding))
    return found


def _pair(values: Iterable[Any]) -> tuple[int, int]:
    first, *rest = (int(v) for v in values)
    return first, rest[0] if rest else first


def _flat(values: Iterable[Any]) -> list[Any]:
    out: list[Any] = []
    for value in values:
        if isinstance(value, (tuple, list)):
            out += _flat(value)
        else:
            out.append(value)
    return out
