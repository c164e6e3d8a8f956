"""Prepared subjects and their measurements -> an honesty table per bundle and setting.

Taken apart is what ONNX Runtime's CPU provider runs and what has certified blocks: our own exports of a model,
its naive export, and bundles the user gave. The plain twin comes from the model, so a bundle alone is explained
without it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from torch import nn

from scconv_deploy.bench.attribution import inlined
from scconv_deploy.bench.cost import graph_cost
from scconv_deploy.bench.honesty import Side, Subject, honesty_table, with_notes
from scconv_deploy.bench.openers import RunnerOpener
from scconv_deploy.bench.profile import SECONDS, Profile, profile_in_turns, profiler_us
from scconv_deploy.bench.roofline import ceilings
from scconv_deploy.bench.subjects import Candidate, ModelParts, Prepared, Setting, bench_inputs, refusal
from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.contracts import Progress
from scconv_deploy.errors import ScconvDeployError
from scconv_deploy.measurements import Conditions, Estimate, Measurement
from scconv_deploy.profiles import Ceilings, HonestyTable
from scconv_deploy.runtime.block_fusion import BLOCK, DOMAIN
from scconv_deploy.runtime.manifest import read_manifest
from scconv_deploy.runtime.onnx import CPU, STANDARD, OnnxRunner

RUNTIME = "onnxruntime"
TAKEN_APART = tuple(k.value for k in (BackendKind.OURS, BackendKind.PLUGIN, BackendKind.NAIVE))
"""Kinds of a model that hold its blocks; the naive export's nodes are named after their modules too."""
FUSED = (
    "where ONNX Runtime fuses operators, their time counts where the fused operator stands: an addition or ReLU "
    "behind a plain convolution at the convolution's place"
)


@dataclass(frozen=True, slots=True)
class Explained:
    """Tables, and a sentence for each candidate that could not be taken apart."""

    tables: tuple[HonestyTable, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Target:
    """One candidate with the file behind it, its blocks, and the model it comes from, if that is known."""

    candidate: Candidate
    file: Path
    paths: tuple[str, ...]
    parts: ModelParts | None
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def explain(
    prepared: Sequence[Prepared],
    measurements: Sequence[Measurement],
    conditions: Sequence[Conditions],
    config: BenchConfig,
    folder: Path,
    progress: Progress,
) -> Explained:
    """Profile every candidate that has blocks, in every setting it was measured in.

    Args:
        prepared: the subjects; their files still exist.
        measurements, conditions: of the timed run, whose ratio to the plain twin decides the net's verdict.
        config: batches, threads, seed.
        folder: lives as long as the run.
        progress: hears what takes long.
    """
    targets = [t for p in prepared for t in _targets(p, prepared)]
    tables: list[HonestyTable] = []
    notes: list[str] = []
    roofs: dict[int, Ceilings] = {}
    profiler = profiler_us(folder / "profiler") if targets else 0.0
    for threads, batch in itertools.product(config.threads if targets else (), config.batches):
        if threads not in roofs:
            progress.update(f"measuring what this machine can do on {threads} threads")
            roofs[threads] = ceilings(threads)
        for index, target in enumerate(targets):
            if refusal(target.candidate.inputs, batch) is not None:
                continue
            name, timed = _timed(target.candidate, batch, threads, measurements, conditions)
            progress.update(f"profiling {name}, batch {batch}")
            setting = Setting(batch, threads, config.seed)
            own = folder / f"explain{index}-{batch}-{threads}"
            try:
                tables.append(
                    _table(target, name, setting, roofs[threads], own, timed, profiler, config.duration_s)
                )
            except ScconvDeployError as error:
                notes.append(f"{name} is not taken apart at batch {batch}: {error}")
    return Explained(tuple(tables), tuple(dict.fromkeys(notes)))


def _targets(one: Prepared, every: Sequence[Prepared]) -> list[_Target]:
    found = []
    models = [p.model for p in every if p.model is not None]
    for candidate in one.candidates:
        if candidate.runtime != RUNTIME or not isinstance(candidate.opener, RunnerOpener):
            continue
        if candidate.opener.provider not in (None, CPU):
            continue
        file = candidate.opener.artifact
        if one.model is not None and candidate.kind in TAKEN_APART:
            paths = tuple(b.path for b in one.model.recognition.blocks)
            parts: ModelParts | None = one.model
        elif one.model is None and (file.parent / "manifest.json").is_file():
            paths = _manifest_paths(file.parent)
            # With one model beside it, a bundle is taken for a bundle of that model if it has its blocks.
            same = [m for m in models if {b.path for b in m.recognition.blocks} == set(paths)]
            parts = same[0] if len(same) == 1 else None
        else:
            continue
        if paths:
            beside = {} if parts is None else poolings(parts)
            found.append(_Target(candidate, file, paths, parts, beside))
    return found


def _manifest_paths(bundle: Path) -> tuple[str, ...]:
    recognition = read_manifest(bundle).get("recognition")
    blocks = recognition.get("blocks") if isinstance(recognition, Mapping) else None
    return tuple(str(b["path"]) for b in blocks or () if isinstance(b, Mapping) and "path" in b)


def poolings(parts: ModelParts) -> dict[str, tuple[str, ...]]:
    """Path of each block whose twin took over a stride -> the pooling in front of it, which the twin has not."""
    found: dict[str, tuple[str, ...]] = {}
    for path in parts.twin.strided if parts.twin is not None else ():
        parent_path, _, name = path.rpartition(".")
        parent = parts.module.get_submodule(parent_path)
        names = [n for n, child in parent.named_children() if isinstance(child, nn.Module)]
        position = names.index(name)
        if position > 0:
            found[path] = (f"{parent_path}.{names[position - 1]}" if parent_path else names[position - 1],)
    return found


def _timed(
    candidate: Candidate,
    batch: int,
    threads: int,
    measurements: Sequence[Measurement],
    conditions: Sequence[Conditions],
) -> tuple[str, Estimate | None]:
    """The name it was measured under, and its ratio where the yardstick is a plain twin."""
    here = [m for m in measurements if (m.batch, m.threads) == (batch, threads)]
    own = next((m for m in here if (m.subject, m.kind) == (candidate.subject, candidate.kind)), None)
    if own is None:
        return candidate.name, None
    yardstick = next((c.yardstick for c in conditions if (c.batch, c.threads) == (batch, threads)), None)
    plain = any(m.name == yardstick and m.kind == BackendKind.PLAIN.value for m in here)
    return own.name, own.against_yardstick if plain else None


def _table(
    target: _Target,
    name: str,
    setting: Setting,
    roof: Ceilings,
    folder: Path,
    timed: Estimate | None,
    profiler: float,
    seconds: float,
) -> HonestyTable:
    parts = target.parts
    twin_file = None if parts is None else parts.onnx.get(BackendKind.PLAIN.value)
    runs = [(profilable(target.file, folder), bench_inputs(target.candidate.inputs, setting))]
    if parts is not None and twin_file is not None:
        runs.append((twin_file, bench_inputs(parts.inputs, setting)))
    profiles = profile_in_turns(runs, setting.threads, folder, profiler, min(seconds, SECONDS))
    sides = [_side(file, arrays, p) for (file, arrays), p in zip(runs, profiles, strict=True)]
    subject = Subject(
        name=name,
        subject=target.candidate.subject,
        batch=setting.batch,
        threads=setting.threads,
        paths=target.paths,
        beside=target.beside,
        plain=parts.twin.places if parts is not None and parts.twin is not None else {},
    )
    twin = sides[1] if len(sides) > 1 else None
    table = honesty_table(subject, sides[0], twin, roof, setting.seed, timed if twin else None)
    return with_notes(table, [*_notes(target, twin), *_whole_blocks(profiles[0])])


def _whole_blocks(profile: Profile) -> list[str]:
    """What the columns cannot say where a kernel does the work of both units."""
    count = sum((n.domain, n.op_type) == (DOMAIN, BLOCK) for n in profile.graph.graph.node)
    return [f"{count} of the blocks ran as one kernel each, whose time stands at the CRU"] if count else []


def profilable(file: Path, folder: Path) -> Path:
    """The file itself, or where its fused operators run as their bodies here, the same graph with those named."""
    model = onnx.load(file)
    if not model.functions:
        return file
    with OnnxRunner(file, threads=1) as runner:
        if runner.kernels != STANDARD:
            return file
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "inlined.onnx"
    written.write_bytes(inlined(model).SerializeToString())
    return written


def _side(file: Path, arrays: Mapping[str, np.ndarray], profile: Profile) -> Side:
    exported = onnx.load(file)
    return Side(exported, profile, graph_cost(exported, {n: a.shape for n, a in arrays.items()}))


def _notes(target: _Target, twin: Side | None) -> list[str]:
    notes = [FUSED] if twin is not None else []
    if twin is not None and target.candidate.precision != "fp32":
        notes.append(
            f"the plain twin is measured in fp32, {target.candidate.name} in {target.candidate.precision}"
        )
    if target.beside:
        notes.append(
            "the average pooling before a block that replaces a strided convolution counts with the block"
        )
    return notes
