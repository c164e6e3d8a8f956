"""load: a path or a module -> :class:`SourceModel`, executing nobody's code that was not named.

Kinds that load today: our own checkpoint format (``scconv-deploy/1``: zoo architecture, settings, weights),
a bare or wrapped state_dict (zip or safetensors) with ``--factory``, a whole pickled module with ``--trust``.
Every other kind is recognised by content and refused in one sentence.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scconv_deploy.artifacts import SourceModel, TensorSpec
from scconv_deploy.checkpoint.kinds import Kind, kind_of
from scconv_deploy.checkpoint.read import import_named, load_weights_only
from scconv_deploy.checkpoint.state import find_state_dict
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.scconv import zoo
from scconv_deploy.workspace import sha256

OWN_FORMAT = "scconv-deploy/1"


def run(source: str | Path | nn.Module, config: ExportConfig) -> SourceModel:
    """Load the model.

    Raises:
        InputError: missing, damaged or unsupported file; a state_dict that does not fit; untrusted code.
    """
    if isinstance(source, nn.Module):
        name = type(source).__qualname__
        return _in_float32(SourceModel(source, f"{name} object", "module in memory", None, name, ()))
    path = Path(source)
    kind = kind_of(path)
    if kind is Kind.TORCH_ZIP or kind is Kind.TORCH_LEGACY:
        content = load_weights_only(path, config.trust)
    elif kind is Kind.SAFETENSORS:
        content = _read_safetensors(path)
    else:
        raise InputError(
            f"{path} is a{'n' if kind.value[0] in 'aeiouAEIOU' else ''} {kind}; this version exports PyTorch "
            "checkpoints and safetensors, give the checkpoint the model was trained into"
        )
    return _in_float32(_from_content(path, content, kind, config))


def _in_float32(model: SourceModel) -> SourceModel:
    """This version builds fp32: floating weights of another width are converted, and that is said."""
    tensors = [*model.module.parameters(), *model.module.buffers()]
    other = sorted({str(t.dtype) for t in tensors if t.is_floating_point()} - {"torch.float32"})
    if not other:
        return model
    note = (
        f"the weights are stored as {', '.join(d.removeprefix('torch.') for d in other)}; they were "
        "converted to float32, in which the artifact was built and verified"
    )
    # A module in memory is the user's: it is never changed.
    return replace(model, module=copy.deepcopy(model.module).float(), notes=(*model.notes, note))


def _from_content(path: Path, content: Any, kind: Kind, config: ExportConfig) -> SourceModel:
    digest = sha256(path)
    if isinstance(content, nn.Module):
        name = f"{type(content).__module__}.{type(content).__qualname__}"
        return SourceModel(content, str(path), f"whole pickled module, {kind}", digest, name, ())
    if isinstance(content, Mapping) and content.get("format") == OWN_FORMAT:
        return _own_checkpoint(path, content, digest)
    if isinstance(content, Mapping):
        # The EMA weights are the ones their frameworks evaluate and ship.
        for key in ("ema", "model"):
            if isinstance(content.get(key), nn.Module):
                module = content[key]
                name = f"{type(module).__module__}.{type(module).__qualname__}"
                return SourceModel(
                    module, str(path), f"pickled module under '{key}', {kind}", digest, name, ()
                )
    state = find_state_dict(content)
    if state is None:
        raise InputError(
            f"{path} holds a {type(content).__name__} without a module or state_dict; "
            "scconv-inspect shows what is in it"
        )
    if config.factory is None:
        raise InputError(
            f"{path} holds weights only (a state_dict of {len(state)} tensors); name the function that "
            "builds the architecture: --factory package.module:callable"
        )
    module = _build(config.factory, path.parent)
    _fit(module, state, path, config.factory)
    return SourceModel(module, str(path), f"state_dict, {kind}", digest, config.factory, ())


def _own_checkpoint(path: Path, content: Mapping[str, Any], digest: str) -> SourceModel:
    try:
        name, settings = content["architecture"], dict(content["settings"])
        state = dict(content["state_dict"])
        specs = tuple(
            TensorSpec(str(i["name"]), str(i["dtype"]), tuple(i["shape"])) for i in content.get("inputs", ())
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} says it is {OWN_FORMAT} but lacks {error}; save it again") from error
    module = zoo.build(name, **settings)
    _fit(module, state, path, f"architecture {name}")
    return SourceModel(module, str(path), f"{OWN_FORMAT} checkpoint", digest, name, specs)


def _build(factory: str, beside: Path) -> nn.Module:
    make = import_named(factory, beside)
    if not callable(make):
        raise InputError(
            f"--factory {factory} is not callable; name a class or function that returns a module"
        )
    try:
        module = make()
    except Exception as error:
        raise InputError(f"--factory {factory} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"--factory {factory} returned a {type(module).__name__}, not a torch.nn.Module")
    return module


def _fit(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path, maker: str) -> None:
    try:
        missing, unexpected = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        detail = lines[0] if lines else str(error).splitlines()[0]
        raise InputError(f"the weights of {path} do not fit {maker}: {detail}") from error
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"{len(missing)} missing (first: {missing[0]})")
        if unexpected:
            parts.append(f"{len(unexpected)} unexpected (first: {unexpected[0]})")
        raise InputError(f"the weights of {path} do not fit {maker}: {'; '.join(parts)}")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CapabilityError("reading safetensors needs that package: pip install safetensors") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} cannot be loaded: {error}") from error
