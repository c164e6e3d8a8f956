"""A pickled checkpoint of unknown classes -> its tensors by name, without importing any of them.

Every class the pickle names is mapped to an inert stand-in that only remembers what it was given, under
``weights_only=True``. Structure and weights come back; code does not, and neither does ``forward``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from scconv_deploy.checkpoint.read import load_restricted, needed_globals


class Inert:
    """Stands for an object of any class: keeps its state, runs nothing."""

    name = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.arguments = (args, kwargs)

    def __setstate__(self, state: Any) -> None:
        self.state = state


def load_inert(path: Path) -> Any:
    """The checkpoint's content with :class:`Inert` objects in place of everything unknown.

    Raises:
        InputError: the file is damaged, or uses pickle features that cannot be read inertly.
    """
    stand_ins = [(type("Inert", (Inert,), {"name": name}), name) for name in needed_globals(path)]
    return load_restricted(path, stand_ins)


def tensors(content: Any) -> dict[str, torch.Tensor]:
    """Every tensor in nested mappings, sequences and inert modules, by dotted name."""
    return dict(_walk(content, "", 0))


def _walk(value: Any, name: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif depth > 64:
        return
    elif isinstance(value, Inert):
        state = getattr(value, "state", None)
        if isinstance(state, Mapping):
            for slot in ("_parameters", "_buffers", "_modules"):
                yield from _walk(state.get(slot) or {}, name, depth + 1)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, f"{name}.{index}" if name else str(index), depth + 1)
