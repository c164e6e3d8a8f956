"""tune (``--autotune`` only): recognised blocks + candidate styles -> a style per block, timed on this machine.

Runs before ``lower``, whose choice of graph forms it makes: without it one style, the target's rule, holds for all
blocks. Blocks of equal specification and input shape are timed once. Every candidate computes the same function,
so nothing that verifies changes; the choice, the times and the machine go into the manifest, from which
``scconv-verify`` lowers the model the same way again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import nn

from scconv_deploy.artifacts import Json, RecognisedBlock, Recognition, SourceModel, TensorSpec
from scconv_deploy.bench.machine import this_machine
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Exporter, Progress
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import copied, example_tensors, run_once
from scconv_deploy.report.to_json import to_json
from scconv_deploy.runtime.onnx import OnnxRunner, version
from scconv_deploy.scconv.emit import can_emit
from scconv_deploy.scconv.spec import SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.threads import threads_for
from scconv_deploy.tuning.forms import INPUT, different_forms
from scconv_deploy.tuning.race import Result, race
from scconv_deploy.tuning.record import RULE, TunedBlock, Tuning

Shape = tuple[int, ...]


def must_be_timeable(exporter: Exporter, config: ExportConfig) -> None:
    """Refuse early what cannot be timed here.

    Raises:
        InputError: the target, precision or form is not one that ONNX Runtime runs here as it will be deployed.
    """
    if config.autotune_seconds is None:
        return
    why = None
    if not hasattr(exporter, "candidate_styles"):
        why = f"--target {config.target} has no graph forms that can be timed here"
    elif config.precision is not Precision.FP32:
        why = f"{config.precision.value} graphs are made for other machines than the one that times them here"
    elif config.form is not Form.STANDARD:
        why = f"--form {config.form.value} leaves the forms to its kernels"
    if why:
        raise InputError(f"--autotune times fp32 forms in ONNX Runtime, and {why}; leave --autotune out")


def candidates(exporter: Exporter, config: ExportConfig, rule: GraphStyle) -> dict[str, GraphStyle]:
    """The exporter's candidate styles, with the gate as ``rule`` writes it.

    Raises:
        InputError: as :func:`must_be_timeable`.
    """
    must_be_timeable(exporter, config)
    styles: Mapping[str, GraphStyle] = exporter.candidate_styles(config)  # type: ignore[attr-defined]
    return {name: replace(style, literal_gate=rule.literal_gate) for name, style in styles.items()}


def run(
    source: SourceModel,
    recognition: Recognition,
    rule: GraphStyle,
    candidates: Mapping[str, GraphStyle],
    inputs: Sequence[TensorSpec],
    config: ExportConfig,
    progress: Progress,
) -> Tuning:
    """Time ``candidates`` against ``rule`` for every different block at the inputs' optimum shapes.

    Args:
        source: the user's module; a copy runs once, to see the shapes that arrive at its blocks.
        recognition: certified blocks.
        rule: the target's style; it is kept where nothing is at least 2 % faster.
        candidates: name -> style.
        inputs: settled; the optimum shapes are those that are timed.
        config: ``autotune_seconds`` is the budget of time, ``seed`` that of the inputs and weights.
        progress: hears which block is timed.

    Raises:
        InputError: the user's own module cannot be copied, or does not run on its inputs.
    """
    start, budget = time.perf_counter(), config.autotune_seconds or 0.0
    shapes = block_shapes(source.module, recognition, inputs, config.seed)
    alike: dict[tuple[SCConvSpec, Shape], list[str]] = {}
    for block in recognition.blocks:
        if block.path in shapes:
            alike.setdefault((block.spec, shapes[block.path]), []).append(block.path)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    every = {RULE: rule, **candidates}
    blocks: list[TunedBlock] = []
    for index, ((spec, shape), paths) in enumerate(alike.items()):
        left = budget - (time.perf_counter() - start)
        progress.update(f"timing forms of {paths[0] or 'the model'}", index / len(alike))
        result = _timed(spec, shape, every, left / (len(alike) - index), threads, config.seed)
        blocks.append(TunedBlock(tuple(paths), shape, result.chosen, result.rounds, result.forms))
    return Tuning(
        styles={path: every[block.chosen] for block in blocks for path in block.paths},
        blocks=tuple(blocks),
        runtime=f"ONNX Runtime {version()} on CPU",
        threads=threads,
        budget_s=budget,
        seconds=time.perf_counter() - start,
        machine=cast(dict[str, Json], to_json(this_machine())),
    )


def block_shapes(
    module: nn.Module, recognition: Recognition, inputs: Sequence[TensorSpec], seed: int
) -> dict[str, Shape]:
    """Block path -> shape of its first input where the model runs on its optimum shapes; absent if never called."""
    model = copied(module).eval()
    example = example_tensors(inputs, seed)
    found: dict[str, Shape] = {}

    def watch(block: RecognisedBlock) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def keep(_module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            found.setdefault(block.path, tuple(given[0].shape))  # what a hook returns replaces the input

        return keep

    handles = [model.get_submodule(b.path).register_forward_pre_hook(watch(b)) for b in recognition.blocks]
    try:
        with threads_for(t.numel() for t in example):
            run_once(model, example, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _timed(
    spec: SCConvSpec,
    shape: Shape,
    candidates: Mapping[str, GraphStyle],
    budget_s: float,
    threads: int,
    seed: int,
) -> Result:
    """Nothing is timed where the block cannot be written by us, has one form only, or no time is left."""
    nothing = Result(RULE, 0, ())
    if budget_s <= 0 or not can_emit(spec):
        return nothing
    start = time.perf_counter()
    models = different_forms(spec, shape, candidates, seed)
    if len(models) < 2:
        return nothing
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    with ExitStack() as stack:
        calls: dict[str, Callable[[], object]] = {}
        for name, model in models.items():
            runner = stack.enter_context(OnnxRunner(model.SerializeToString(), threads=threads))
            calls[name] = _call(runner, x)
        return race(calls, budget_s - (time.perf_counter() - start), seed)


def _call(runner: OnnxRunner, x: np.ndarray) -> Callable[[], object]:
    return lambda: runner.run({INPUT: x})
