"""load: a path or a module -> :class:`SourceModel`, executing nobody's code that was not named.

Kinds that load today: our own checkpoint format (``scconv-deploy/1``: zoo architecture, settings, weights),
weights (a state_dict in any wrapper, zip, legacy or safetensors) with ``--factory``, a whole pickled module
with ``--trust``, and programs: ONNX, TorchScript, ``torch.export``. With ``--factory`` a pickled module's weights
are read without its code, so no trust is needed. Every other kind is refused in one sentence.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from scconv_deploy.artifacts import SourceModel, TensorSpec
from scconv_deploy.checkpoint.archive import outline
from scconv_deploy.checkpoint.attributes import differences
from scconv_deploy.checkpoint.factory import build, parse_factory
from scconv_deploy.checkpoint.facts import Inert
from scconv_deploy.checkpoint.fit import fit
from scconv_deploy.checkpoint.inert import load_inert
from scconv_deploy.checkpoint.kinds import OWN_FORMAT, Kind, kind_of
from scconv_deploy.checkpoint.known import zoo_module
from scconv_deploy.checkpoint.read import load_weights_only
from scconv_deploy.checkpoint.safe_tensors import read_safetensors
from scconv_deploy.checkpoint.state import choose_state
from scconv_deploy.checkpoint.zoo_shapes import identify
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import InputError, UntrustedCodeError
from scconv_deploy.scconv import zoo
from scconv_deploy.workspace import sha256


def run(
    source: str | Path | nn.Module | ExportedProgram,
    config: ExportConfig,
    example: Sequence[torch.Tensor] | None = None,
) -> SourceModel:
    """Load the model. ``example`` inputs say the shapes of a ScriptModule where ``config`` does not.

    Raises:
        InputError: missing, damaged or unsupported file; a state_dict that does not fit; untrusted code.
    """
    if isinstance(source, torch.jit.ScriptModule):
        from scconv_deploy.programs import torchscript

        return _in_float32(torchscript.from_module(source, config, example))
    if isinstance(source, ExportedProgram):
        from scconv_deploy.programs import exported

        return _in_float32(exported.from_program(source, config))
    if isinstance(source, nn.Module):
        name = type(source).__qualname__
        return _in_float32(SourceModel(source, f"{name} object", "module in memory", None, name, ()))
    path = Path(source)
    kind = kind_of(path)
    if kind in PROGRAMS:
        return _program(path, kind, config)
    if kind is Kind.TORCH_ZIP or kind is Kind.TORCH_LEGACY:
        content = load_inert(path) if config.factory else _with_trust(path, config)
    elif kind is Kind.SAFETENSORS:
        content = read_safetensors(path)
    else:
        raise InputError(
            f"{path} is an {kind}; PyTorch checkpoints, TorchScript and torch.export archives, safetensors and ONNX "
            "models can be exported: give one of these"
        )
    return _in_float32(_from_content(path, content, kind, config))


PROGRAMS = (Kind.ONNX, Kind.TORCHSCRIPT, Kind.EXPORTED_PROGRAM)
"""Files that hold their own function: no class, no architecture and no variant is missing."""


def _program(path: Path, kind: Kind, config: ExportConfig) -> SourceModel:
    given = {"--factory": config.factory, "--variant": config.variant, "--trust": " ".join(config.trust)}
    for option, value in given.items():
        if value:
            raise InputError(
                f"{option} {value} does not apply to {path}: the {kind} holds its whole function; leave it out"
            )
    # Reading programs takes libraries (onnxruntime, torch.export) that weights do not need.
    if kind is Kind.ONNX:
        from scconv_deploy.programs import onnx_file

        return onnx_file.load(path, config)
    if kind is Kind.TORCHSCRIPT:
        from scconv_deploy.programs import torchscript

        return _in_float32(torchscript.load(path, config))
    from scconv_deploy.programs import exported

    return _in_float32(exported.load(path, config))


def _in_float32(model: SourceModel) -> SourceModel:
    """Everything starts from float32 (``lower`` types the graph): other widths are converted, and that is said."""
    tensors = [*model.module.parameters(), *model.module.buffers()]
    other = sorted({str(t.dtype) for t in tensors if t.is_floating_point()} - {"torch.float32"})
    if not other:
        return model
    note = (
        f"the weights are stored as {', '.join(d.removeprefix('torch.') for d in other)}; they were "
        "converted to float32, the reference that the artifact is compared with"
    )
    # A module in memory is the user's: it is never changed.
    return replace(model, module=copy.deepcopy(model.module).float(), notes=(*model.notes, note))


def _from_content(path: Path, content: Any, kind: Kind, config: ExportConfig) -> SourceModel:
    digest = sha256(path)
    _refuse_senseless_variant(path, content, config)
    if isinstance(content, nn.Module):
        _refuse_damaged(path, content)
        name = f"{type(content).__module__}.{type(content).__qualname__}"
        return SourceModel(content, str(path), f"whole pickled module, {kind}", digest, name, ())
    if isinstance(content, Mapping) and content.get("format") == OWN_FORMAT:
        return _own_checkpoint(path, content, digest)
    if isinstance(content, Mapping):
        # The EMA weights are the ones their frameworks evaluate and ship.
        for key in ("ema", "model"):
            if isinstance(content.get(key), nn.Module):
                module = content[key]
                _refuse_damaged(path, module)
                name = f"{type(module).__module__}.{type(module).__qualname__}"
                other = key == "ema" and content.get("model") is not None
                note = f"the module under '{key}' was taken" + (
                    ", not the one under 'model'" if other else ""
                )
                return SourceModel(
                    module, str(path), f"pickled module under '{key}', {kind}", digest, name, (), (note,)
                )
    return _weights(path, content, kind, config, digest)


def _weights(path: Path, content: Any, kind: Kind, config: ExportConfig, digest: str) -> SourceModel:
    chosen = choose_state(content)
    if chosen is None:
        raise InputError(
            f"{path} holds a {_type_name(content)} without a module or state_dict; "
            "scconv-inspect shows what is in it"
        )
    shapes = {name: tuple(t.shape) for name, t in chosen.state.items()}
    if config.factory is None:
        known = identify(shapes)
        raise InputError(
            f"{path} holds weights only (a state_dict of {len(shapes)} tensors); name the function that "
            "builds the architecture: --factory package.module:callable"
            + (f", or the zoo's network that they fit: {known}" if known else "")
        )
    factory = parse_factory(config.factory)
    notes = () if chosen.note is None else (chosen.note,)
    if factory.is_zoo:
        module, more = zoo_module(factory, shapes, config.variant, chosen.module)
    else:
        module, more = build(factory, path.parent), ()
        more = tuple(f"the file and the factory differ: {d}" for d in differences(chosen.module, module)[:3])
    more += fit(module, chosen.state, path, config.factory)
    form = "weights of a pickled module" if chosen.module is not None else "state_dict"
    return SourceModel(module, str(path), f"{form}, {kind}", digest, config.factory, (), notes + more)


def _with_trust(path: Path, config: ExportConfig) -> Any:
    """Load with the classes that were named; where the network is one we know, say how to do without."""
    try:
        return load_weights_only(path, config.trust)
    except UntrustedCodeError as error:
        chosen = choose_state(outline(path).content)
        known = identify({n: tuple(t.shape) for n, t in chosen.state.items()}) if chosen else None
        if known is None or "--trust" not in str(error):
            raise
        raise UntrustedCodeError(
            f"{error}. Its weights fit a network of the zoo, which needs none of that code: {known}"
        ) from error


def _refuse_senseless_variant(path: Path, content: Any, config: ExportConfig) -> None:
    if config.variant is None:
        return
    own = isinstance(content, Mapping) and content.get("format") == OWN_FORMAT
    if config.factory is None or own or not parse_factory(config.factory).is_zoo:
        decides = "the checkpoint's own settings" if own else "the model's own code"
        raise InputError(
            f"--variant {config.variant} settles weights that are loaded into a zoo network (--factory "
            f"scconv_resnet50); for {path} {decides} decide the SCConv variant, so leave it out"
        )


def _refuse_damaged(path: Path, module: nn.Module) -> None:
    """A pickle may leave a module without the dictionaries that every module has."""
    try:
        module.state_dict()
        for part in module.modules():
            repr(part.training)
            part.extra_repr()
    except Exception as error:
        raise InputError(
            f"{path} holds a module that is damaged ({type(error).__name__}: {error}); save it again"
        ) from error


def _type_name(content: Any) -> str:
    return content.name if isinstance(content, Inert) and content.name else type(content).__name__


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
    notes = fit(module, state, path, f"architecture {name}")
    return SourceModel(module, str(path), f"{OWN_FORMAT} checkpoint", digest, name, specs, notes)
