"""A module tree -> every certified block and every look-alike that was left as it is, with the reason.

Top down: the outermost module that *is* an SRU, a CRU or both becomes one block. Where such a container does
not certify, its parts are tried alone. Wrappers (Sequential of one, DataParallel, compiled) are entered.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field

import torch
from torch import nn

from scconv_deploy.artifacts import LeftAsIs, RecognisedBlock, Recognition
from scconv_deploy.recognition.attempt import Accepted, Benches, Refused, attempt
from scconv_deploy.recognition.structure import may_be_block
from scconv_deploy.recognition.variants import variant_name

# Names never decide what a module is: they only keep a module *called* SCConv from being passed over in
# silence.
_CALLED_SCCONV = re.compile(r"^_?(sc_?conv|sru|cru)(?![a-z])|^_?(ScConv|SCConv|SRU|CRU)", re.IGNORECASE)


@dataclass(slots=True)
class _Walk:
    benches: Benches
    blocks: list[RecognisedBlock] = field(default_factory=list)
    left: list[LeftAsIs] = field(default_factory=list)
    results: dict[int, Accepted | Refused] = field(default_factory=dict)


def recognise(module: nn.Module, *, seed: int = 0) -> Recognition:
    """Find and certify every SCConv block of ``module``, which stays untouched.

    Args:
        module: any module tree, on any device, in any floating dtype and mode.
        seed: of the probes; it is recorded in every certificate.

    Returns:
        Blocks by path (a module used at two places gives one block per path), and what was left as it is.
    """
    walk = _Walk(Benches(seed))
    _visit(walk, "", module, scripted=False)
    return Recognition(tuple(walk.blocks), tuple(walk.left))


def _visit(walk: _Walk, path: str, module: nn.Module, *, scripted: bool) -> None:
    wrapped = _only_part(module)
    if wrapped is not None:
        before = len(walk.blocks) + len(walk.left)
        _visit(walk, _join(path, wrapped[0]), wrapped[1], scripted=scripted or _is_scripted(module))
        if len(walk.blocks) + len(walk.left) > before or _is_wrapper(module):
            return
    result = _attempt(walk, module)
    if isinstance(result, Accepted):
        if scripted:
            reason = (
                "it lies inside a scripted module, whose parts cannot be replaced; script only after export"
            )
            walk.left.append(LeftAsIs(path, reason))
        else:
            walk.blocks.append(_block(path, result))
        return
    blocks, left = len(walk.blocks), len(walk.left)
    if wrapped is None:
        for name, child in _children(module):
            _visit(walk, _join(path, name), child, scripted=scripted or _is_scripted(module))
    _report(walk, path, module, result, blocks, left)


def _report(
    walk: _Walk, path: str, module: nn.Module, result: Refused | None, blocks: int, left: int
) -> None:
    """Name the module if it looks like SCConv and nothing inside it explains it better."""
    inside = walk.blocks[blocks:]
    if len(walk.left) > left or any(b.spec.sru and b.spec.cru for b in inside):
        return
    if result is not None and result.looks_like and (not inside or result.whole):
        tail = "; its units were recognised separately" if inside else ""
        walk.left.append(LeftAsIs(path, result.reason + tail))
    elif not inside and _CALLED_SCCONV.match(_class_name(module)):
        why = result.reason if result is not None else "its layers are those of neither an SRU nor a CRU"
        walk.left.append(LeftAsIs(path, f"it is called {_class_name(module)} but is not this block: {why}"))


def _attempt(walk: _Walk, module: nn.Module) -> Accepted | Refused | None:
    """Try a module once, however many places use it; None where its shapes rule it out."""
    if _is_wrapper(module) or not may_be_block(module):
        return None
    if id(module) not in walk.results:
        walk.results[id(module)] = attempt(module, walk.benches)
    return walk.results[id(module)]


def _block(path: str, result: Accepted) -> RecognisedBlock:
    spec = result.proposal.spec
    names = {role: _join(path, name) for role, name in result.proposal.roles.items()}
    return RecognisedBlock(path, variant_name(spec), spec, result.certificate, names)


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Direct children under every name they have (``named_children`` skips a second use)."""
    return [(name, child) for name, child in module._modules.items() if child is not None]


def _only_part(module: nn.Module) -> tuple[str, nn.Module] | None:
    """The one child that holds all tensors of the module, if there is such a child."""
    if any(True for _ in module.parameters(recurse=False)) or any(
        True for _ in module.buffers(recurse=False)
    ):
        return None
    holding = [(n, c) for n, c in _children(module) if any(True for _ in c.parameters())]
    return holding[0] if len(holding) == 1 else None


def _is_wrapper(module: nn.Module) -> bool:
    """Wrappers of torch itself: copying and calling them would compile or scatter."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return True
    # Importing torch._dynamo takes a second; nothing can be compiled where nobody has.
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _class_name(module: nn.Module) -> str:
    return str(getattr(module, "original_name", type(module).__name__))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
