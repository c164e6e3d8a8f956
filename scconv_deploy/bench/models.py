"""A model -> its candidates: eager, compiled, naively exported, its plain twin, and our own bundle of it.

``eager`` and ``compile`` run the user's own module, ``naive`` what torch's exporter makes of it by default:
what the user has without this package. ``plain`` is the network without SCConv (:mod:`..bench.twin`), exported
exactly as ``ours`` is and run in the same runtime; ratios refer to it unless the user names another. ``plugin``
is ``ours`` with the fused operators. What cannot be made is a note, never a silent gap.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from scconv_deploy.artifacts import Recognition, TensorSpec
from scconv_deploy.bench.naive import naive_export
from scconv_deploy.bench.openers import LocalModule, ModuleOpener
from scconv_deploy.bench.subjects import (
    Candidate,
    ModelParts,
    Prepared,
    bundle_subject,
    onnx_subject,
    renamed,
)
from scconv_deploy.bench.twin import PlainTwin, plain_twin
from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.config import Form, ShapeRange
from scconv_deploy.contracts import Progress
from scconv_deploy.errors import InputError, ScconvDeployError
from scconv_deploy.inputs import example_tensors
from scconv_deploy.kernels import loader

NAMES = {
    BackendKind.EAGER: "PyTorch eager",
    BackendKind.COMPILE: "torch.compile",
    BackendKind.NAIVE: "naive ONNX",
    BackendKind.PLAIN: "plain twin",
    BackendKind.OURS: "ours",
    BackendKind.PLUGIN: "ours, fused",
}
OUR_OWN = (BackendKind.OURS, BackendKind.PLUGIN)

Export = Callable[[nn.Module, Sequence[torch.Tensor], Path, Form, bool], Path]
"""(module, example inputs, bundle's folder, form, verified) -> the bundle, for ONNX Runtime, in fp32."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model. ``text`` is what the user named, ``suffix`` tells its backends from another model's."""

    text: str
    suffix: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    size_bytes: int | None


def prepare_model(
    model: Model,
    kinds: Sequence[BackendKind],
    recognition: Recognition,
    config: BenchConfig,
    folder: Path,
    export: Export,
    progress: Progress,
) -> Prepared:
    """Make every backend's file in ``folder`` (which exists and is this model's own).

    Args:
        model: loaded, its inputs settled; measuring does not change its module.
        kinds: the backends wanted.
        recognition: certified blocks of the module.
        config: batches, shapes, seed, provider.
        folder: lives as long as the run.
        export: makes a bundle.
        progress: hears what takes long.
    """
    model = replace(model, module=copy.deepcopy(model.module).eval())
    example = example_tensors(model.inputs, config.seed)
    found: list[Candidate] = []
    notes: list[str] = []
    files: dict[str, Path] = {}
    twin: PlainTwin | None = None
    for kind in kinds:
        progress.update(_SAYS[kind])
        try:
            if kind in (BackendKind.EAGER, BackendKind.COMPILE):
                found.append(_torch(model, kind, folder))
                continue
            if kind is BackendKind.NAIVE:
                file = folder / "naive.onnx"
                file.write_bytes(naive_export(model.module, model.inputs, config.batches, config.seed))
                made = onnx_subject(str(file), _as_ranges(model.inputs), config.provider)
            else:
                module = model.module
                if kind is BackendKind.PLAIN:
                    twin = plain_twin(model.module, recognition, example, config.seed)
                    module = twin.module
                # The twin's own certificate would prove nothing; ours is measured only if it is verified.
                form = Form.PLUGIN if kind is BackendKind.PLUGIN else Form.STANDARD
                bundle = export(module, example, folder / kind.value, form, kind in OUR_OWN)
                made = bundle_subject(str(bundle), config.shapes, config.provider)
                file = bundle / "model.onnx"
        except ScconvDeployError as error:
            notes.append(f"{NAMES[kind]}{model.suffix} is not measured: {error}")
            continue
        files[kind.value] = file
        found.append(replace(renamed(made, NAMES[kind] + model.suffix, model.text), kind=kind.value))
    parts = ModelParts(model.module, model.inputs, recognition, twin, files)
    return Prepared(model.text, tuple(found), tuple(notes), parts)


_SAYS = {
    BackendKind.EAGER: "saving the module for its own process",
    BackendKind.COMPILE: "saving the module for its own process",
    BackendKind.NAIVE: "exporting as torch does by default (minutes where sum() unrolls)",
    BackendKind.PLAIN: "exporting the plain twin",
    BackendKind.OURS: "exporting and verifying our bundle",
    BackendKind.PLUGIN: "exporting and verifying our bundle with the fused operators",
}


def _torch(model: Model, kind: BackendKind, folder: Path) -> Candidate:
    """The user's module, saved whole so that another process can rebuild it; or only here, if it cannot be."""
    compiled = kind is BackendKind.COMPILE
    file = folder / "module.pt"
    portable = file.exists() or _saved(model.module, file)
    weights = [*model.module.parameters(), *model.module.buffers()]
    return Candidate(
        name=NAMES[kind] + model.suffix,
        subject=model.text,
        kind=kind.value,
        runtime="torch inductor" if compiled else "torch",
        precision="fp32",
        inputs=model.inputs,
        size_bytes=model.size_bytes or sum(t.numel() * t.element_size() for t in weights),
        opener=ModuleOpener(file, compiled, folder / "inductor") if portable else None,
        local=LocalModule(model.module, compiled),
    )


def _saved(module: nn.Module, file: Path) -> bool:
    try:
        torch.save(module, file)
    except Exception:  # noqa: BLE001 - whatever pickle stumbles over, the module can still be measured here
        file.unlink(missing_ok=True)
        return False
    return True


def _as_ranges(inputs: Sequence[TensorSpec]) -> tuple[ShapeRange, ...]:
    return tuple(ShapeRange(s.name, s.optimum, s.optimum, s.optimum) for s in inputs)


def wanted_kinds(config: BenchConfig, *, bundles: bool) -> tuple[BackendKind, ...]:
    """The backends of every model. ``bundles``: the user gave bundles of their own, which stand for ours.

    Without the kernels the fused operators run as the standard ones do, so nothing is measured twice.
    """
    if config.backends is not None:
        if not config.backends:
            raise InputError(f"--backends names none; choose of {', '.join(k.value for k in BackendKind)}")
        return config.backends
    fused = (BackendKind.PLUGIN,) if loader.instruction_set() is not None else ()
    ours = () if bundles else (BackendKind.OURS, *fused)
    return (BackendKind.PLAIN, *ours, BackendKind.NAIVE, BackendKind.EAGER, BackendKind.COMPILE)
