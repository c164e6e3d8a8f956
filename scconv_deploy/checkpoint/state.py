"""Checkpoint content -> the state_dict to deploy, out of the wrappers frameworks put around it.

Works on loaded tensors and on the facts of an outline alike; needs no torch. Where a checkpoint holds
averaged weights (EMA) beside the trained ones, the averaged ones are taken: they are what their frameworks
evaluate and ship (timm ``state_dict_ema``, torchvision ``model_ema``, BasicSR ``params_ema``, YOLO and
RT-DETR ``ema``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scconv_deploy.checkpoint.facts import Inert
from scconv_deploy.errors import InputError

EMA_WRAPPERS = ("state_dict_ema", "model_ema", "params_ema", "ema_state_dict", "ema_model", "ema")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights", "params", "module", "network")
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that wrappers add to every key: DataParallel, torch.compile."""

COUNTERS = ("n_averaged", "initted", "step")
"""Scalars that averaging wrappers store beside the weights."""

MAX_DEPTH = 64
MAX_VISITS = 1_000_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """A state_dict, the keys that led to it, and what was passed over for it."""

    state: dict[str, Any]
    path: tuple[str, ...] = ()
    passed_over: str | None = None
    module: Inert | None = None

    @property
    def averaged(self) -> bool:
        """Whether these are averaged weights."""
        return any(key in EMA_WRAPPERS for key in self.path)

    @property
    def note(self) -> str | None:
        """What was taken, where there was a choice."""
        where = ".".join(self.path)
        if self.averaged:
            instead = f", not those under '{self.passed_over}'" if self.passed_over else ""
            return f"the averaged weights (EMA) under '{where}' were taken{instead}"
        return f"the weights under '{where}' were taken" if self.path else None


def find_state_dict(content: Any) -> dict[str, Any] | None:
    """The state_dict to deploy, prefixes removed; None where there is none."""
    chosen = choose_state(content)
    return None if chosen is None else chosen.state


def choose_state(content: Any) -> Chosen | None:
    """The state_dict to deploy and where it was; None where there is none.

    Raises:
        InputError: the content refers to itself without end.
    """
    return _choose(content, ())


def _choose(content: Any, path: tuple[str, ...]) -> Chosen | None:
    if is_module(content):
        state = tensors(content)
        return Chosen(strip_prefixes(state), path, module=content) if state else None
    if not isinstance(content, Mapping) or len(path) > 8:
        return None
    state = {k: v for k, v in content.items() if isinstance(k, str) and is_tensor(v)}
    if state and len(state) == len(content):
        return Chosen(strip_prefixes(state), path)
    for key in (*EMA_WRAPPERS, *WRAPPERS):
        found = _choose(content.get(key), (*path, key))
        if found is not None:
            other = next((w for w in WRAPPERS if content.get(w) is not None), None)
            passed_over = other if key in EMA_WRAPPERS and other != key else found.passed_over
            return Chosen(found.state, found.path, passed_over, found.module)
    # Weights with a few other entries among them, such as an epoch.
    return Chosen(strip_prefixes(state), path) if 2 * len(state) > len(content) else None


def strip_prefixes(state: dict[str, Any]) -> dict[str, Any]:
    """Remove a prefix that every key carries, repeatedly, and the counters of averaging wrappers."""
    for prefix in PREFIXES:
        wrapped = {k: v for k, v in state.items() if k not in COUNTERS}
        if wrapped and all(key.startswith(prefix) for key in wrapped):
            return strip_prefixes({key[len(prefix) :]: value for key, value in wrapped.items()})
    return state


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or the fact of one."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "numel")


def is_module(value: Any) -> bool:
    """Whether an inert object has what a ``torch.nn.Module`` keeps."""
    state = getattr(value, "state", None) if isinstance(value, Inert) else None
    return isinstance(state, Mapping) and "_parameters" in state and "_modules" in state


def tensors(content: Any) -> dict[str, Any]:
    """Every tensor in nested mappings, sequences and inert modules, by dotted name.

    Raises:
        InputError: there are more places than any model has.
    """
    return dict(_walk(content, "", (), [0]))


def modules(content: Inert, name: str = "") -> Iterator[tuple[str, Inert]]:
    """Every inert module below ``content``, itself included, by dotted name; a shared one once."""
    seen: set[int] = set()
    waiting = [(name, content)]
    while waiting:
        name, module = waiting.pop()
        if id(module) in seen or not is_module(module):
            continue
        seen.add(id(module))
        yield name, module
        children = module.state["_modules"]
        if isinstance(children, Mapping):
            waiting += [(_join(name, k), v) for k, v in children.items()]


def _walk(value: Any, name: str, above: tuple[int, ...], visits: list[int]) -> Iterator[tuple[str, Any]]:
    visits[0] += 1
    if visits[0] > MAX_VISITS:
        raise InputError("the file's content refers to itself in more ways than any model does")
    if is_tensor(value):
        yield name, value
    # A module may refer to its parent; every place is visited once on each way down.
    elif id(value) not in above and len(above) < MAX_DEPTH:
        for key, item in _parts(value):
            yield from _walk(item, key if not name else _join(name, key), (*above, id(value)), visits)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Inert):
        if not is_module(value):
            return
        passing = getattr(value, "state", {}).get("_non_persistent_buffers_set")
        passing = passing if isinstance(passing, set | frozenset | list) else _set_arguments(passing)
        for slot in ("_parameters", "_buffers", "_modules"):
            inside = value.state.get(slot)
            if isinstance(inside, Mapping):
                yield from ((str(k), v) for k, v in inside.items() if k not in passing)
    elif isinstance(value, Mapping):
        yield from ((str(k), v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(i), v) for i, v in enumerate(value))


def _set_arguments(value: Any) -> list[Any]:
    """The members of a set that an outline holds as a call of ``set`` with a list."""
    arguments = value.arguments[0] if isinstance(value, Inert) and value.name == "builtins.set" else ()
    return list(arguments[0]) if arguments and isinstance(arguments[0], list) else []


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)
