"""Loaded checkpoint content -> the state_dict in it, out of the wrappers frameworks put around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that wrappers add to every key: DataParallel, torch.compile."""


def find_state_dict(content: Any) -> dict[str, torch.Tensor] | None:
    """The innermost mapping of names to tensors, prefixes removed; None where there is none."""
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()):
        return strip_prefixes(dict(content))
    for key in WRAPPERS:
        if key in content:
            found = find_state_dict(content[key])
            if found is not None:
                return found
    return None


def strip_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove a prefix that every key carries, repeatedly."""
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            return strip_prefixes({key[len(prefix) :]: value for key, value in state.items()})
    return state
