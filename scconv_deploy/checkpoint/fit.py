"""A state_dict and a module -> the module with those weights in it, or a readable list of misfits.

Wrappers leave prefixes on names (``model.``, ``module.``, ``net.``, ``_orig_mod.``), so names are matched up
to one prefix that the file has and the module has not, or the other way round.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from scconv_deploy.config import dims
from scconv_deploy.errors import InputError

PROFILING = ("total_ops", "total_params")
"""Buffers that profilers leave in a state_dict."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """Which stored tensor goes where. ``outside`` are stored names that do not carry the common prefix."""

    pairs: Mapping[str, str]
    stripped: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    outside: tuple[str, ...]
    misshaped: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every weight of the module is there with its shape, and nothing is left over."""
        return bool(self.pairs) and not (self.missing or self.unexpected or self.misshaped)

    @property
    def faults(self) -> int:
        """Number of names that do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)


def match(wanted: Mapping[str, Shape | None], stored: Mapping[str, Shape]) -> Match:
    """Pair names of a module (shape None: any) with names of a file."""
    plain = {_plain(s): s for s in stored}
    targets = {_plain(w): w for w in wanted}
    stripped, added = _prefix(plain, targets), _prefix(targets, plain)
    if sum(added + s in targets for s in plain) > sum(stripped + t in plain for t in targets):
        stripped, pairs = "", {targets[added + s]: k for s, k in plain.items() if added + s in targets}
    else:
        pairs = {w: plain[stripped + t] for t, w in targets.items() if stripped + t in plain}
    used = set(pairs.values())
    rest = [s for s in stored if s not in used and s.rpartition(".")[2] not in PROFILING]
    outside = [s for s in rest if not _plain(s).startswith(stripped)]
    wrong = tuple(w for w, s in pairs.items() if wanted[w] is not None and wanted[w] != stored[s])
    return Match(
        pairs,
        stripped,
        missing=tuple(w for w in wanted if w not in pairs and not w.endswith("num_batches_tracked")),
        unexpected=tuple(s for s in rest if _plain(s).startswith(stripped)),
        outside=tuple(outside),
        misshaped=wrong,
    )


def fit(module: nn.Module, state: Mapping[str, torch.Tensor], path: object, maker: str) -> tuple[str, ...]:
    """Load ``state`` into ``module`` (in place); returns notes on prefixes and on what was left out.

    Raises:
        InputError: names or shapes do not fit; the first few of each are listed.
    """
    bad = [k for k, v in state.items() if not isinstance(v, torch.Tensor)]
    if bad:
        raise InputError(f"the weights of {path} do not fit {maker}: '{bad[0]}' is no tensor")
    wanted = shapes_of(module)
    found = match(wanted, {k: tuple(v.shape) for k, v in state.items()})
    if not found.fits:
        raise InputError(f"the weights of {path} do not fit {maker}: {faults(found, wanted, state)}")
    try:
        module.load_state_dict({w: state[s] for w, s in found.pairs.items()}, strict=False)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"the weights of {path} do not fit {maker}: {error}") from error
    return _notes(found, module, state)


def shapes_of(module: nn.Module) -> dict[str, Shape | None]:
    """Name -> shape of everything in the module's state_dict; None for lazy parameters and extra state."""
    return {
        k: tuple(v.shape) if isinstance(v, torch.Tensor) and not is_lazy(v) else None
        for k, v in module.state_dict().items()
        if not k.endswith("_extra_state")
    }


def faults(found: Match, wanted: Mapping[str, Shape | None], stored: Mapping[str, Any]) -> str:
    """What does not fit, in one sentence: counts, the first few of each, and the nearest names."""
    parts = []
    if found.missing:
        parts.append(f"{len(found.missing)} of {len(wanted)} tensors are missing ({_few(found.missing)})")
    if found.unexpected:
        parts.append(
            f"{len(found.unexpected)} of {len(stored)} in the file are unexpected ({_few(found.unexpected)})"
        )
    if found.misshaped:
        shown = [
            f"{w} is {dims(tuple(stored[found.pairs[w]].shape))} in the file and {dims(wanted[w] or ())} "
            "in the model"
            for w in found.misshaped[:3]
        ]
        more = f" and {len(found.misshaped) - 3} more" if len(found.misshaped) > 3 else ""
        parts.append(f"{len(found.misshaped)} have another shape ({'; '.join(shown)}{more})")
    if not found.pairs and not parts:
        parts.append("the file has no tensors")
    return "; ".join(parts) + _hint(found, wanted, stored)


def _hint(found: Match, wanted: Mapping[str, Shape | None], stored: Mapping[str, Any]) -> str:
    for name in found.missing[:20]:
        alike = [s for s in found.unexpected[:2000] if tuple(stored[s].shape) == wanted[name]]
        close = difflib.get_close_matches(name, alike, n=1, cutoff=0.6)
        if close:
            return f"; '{close[0]}' in the file may be the model's '{name}' under another name"
    first = {s.partition(".")[0] for s in stored}
    if found.missing and len(first) == 1 and len(stored) > 1:
        return f"; every name in the file begins with '{first.pop()}.'"
    return ""


def _notes(found: Match, module: nn.Module, state: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    notes = []
    if found.stripped:
        notes.append(f"the prefix '{found.stripped}' was removed from the names of the weights")
    if found.outside:
        notes.append(
            f"{len(found.outside)} stored tensors outside '{found.stripped}' were left out "
            f"({_few(found.outside)})"
        )
    own = module.state_dict()
    kept = {str(state[s].dtype) for w, s in found.pairs.items() if state[s].dtype != own[w].dtype}
    if kept:
        names = ", ".join(sorted(d.removeprefix("torch.") for d in kept))
        notes.append(f"weights stored as {names} were converted to the type that the architecture uses")
    return tuple(notes)


def _prefix(longer: Mapping[str, str], shorter: Mapping[str, str]) -> str:
    """The prefix that, put before names of ``shorter``, makes most of them names of ``longer``."""
    votes: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".")
        for depth in range(min(len(parts), 6)):
            if ".".join(parts[depth:]) in shorter:
                votes["".join(f"{p}." for p in parts[:depth])] += 1
    # Averaged weights beside the trained ones ("ema_model." and "model.") are the ones to deploy.
    return max(votes, key=lambda p: (votes[p], "ema" in p, -len(p)), default="")


def _plain(name: str) -> str:
    return name.replace("_orig_mod.", "")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
