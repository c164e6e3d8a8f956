"""One candidate module -> a certified block, a reason why not, or "this is no SCConv at all"."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from scconv_deploy.artifacts import Certificate
from scconv_deploy.recognition.certify import (
    Bench,
    Judgement,
    Witness,
    distance,
    judge,
    other_comparison,
    runner_up,
)
from scconv_deploy.recognition.observe import Observation, observe, tensors
from scconv_deploy.recognition.private import (
    ForwardError,
    call,
    counting,
    has_hooks,
    private_copy,
    rewritten,
    state,
)
from scconv_deploy.recognition.probe import SIZES, Draft, general_probes
from scconv_deploy.recognition.propose import Hints, Proposal, frames, gather_hints, gatings
from scconv_deploy.recognition.structure import (
    CRU_CONVOLUTIONS,
    Anatomy,
    attribute_numbers,
    dissect,
    fixed_shape,
    input_channels,
)
from scconv_deploy.recognition.variants import describe

HEAD = 64
"""Likeliest candidates of a frame, tried as soon as the frame fits the open gate."""
MAX_CANDIDATES = 3000
"""Candidates tried per module before it is left as it is (about a millisecond each)."""

_BRANCHES = (
    "its forward reads values of its input back into Python (as 'if x.mean() > 0' does), so it may take "
    "another path on inputs that were not tried"
)
_NO_GATE = "it has two per-channel vectors, but compares no normalised values with a threshold as an SRU does"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A certified candidate; ``proposal.roles`` are names inside the candidate module."""

    proposal: Proposal
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Refused:
    """Looks like SCConv, is not certified. ``looks_like`` is False where the structure is something else."""

    reason: str
    looks_like: bool
    whole: bool = False
    """Whether both units seem to be inside."""


@dataclass(slots=True)
class Benches:
    """Probes shared by all modules of one recognition run, by pattern of shapes and hints."""

    seed: int
    by_pattern: dict[object, Bench] = field(default_factory=dict)

    def get(
        self, anatomy: Anatomy, shapes: Mapping[str, tuple[int, ...]], first: FirstRun, hints: Hints
    ) -> Bench:
        """The bench of this pattern, made on first use."""
        calls = tuple((c.weight, c.bias, c.spec) for c in anatomy.convs)
        vectors = tuple(anatomy.vectors.items())
        key = (tuple(shapes.items()), vectors, calls, first.sizes, first.channels, first.batch, hints)
        if key not in self.by_pattern:
            sums = tuple(dict.fromkeys([*hints.small, 1e-5, 1e-8]))
            draft = Draft(shapes, anatomy.gamma, anatomy.beta, self.seed, sums, anatomy.weight, anatomy.mask)
            general = general_probes(draft, first.channels, first.sizes, first.batch)
            shape = (first.batch or 2, first.channels, *first.sizes[0])
            self.by_pattern[key] = Bench(draft, tuple(general), shape)
        return self.by_pattern[key]


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What the module did on the first input it accepted, and the input sizes it accepts."""

    seen: Observation
    channels: int
    sizes: tuple[tuple[int, int], ...]
    batch: int | None = None
    """The only batch it accepts, where that is known."""


def attempt(module: nn.Module, benches: Benches) -> Accepted | Refused:
    """Copy, watch, propose, certify. Never raises for what the user's code does."""
    try:
        twin = private_copy(module)
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        return Refused(f"it cannot be copied for a private trial ({_one_line(error)})", looks_like=False)
    before = state(twin)
    first = _first_run(twin)
    if isinstance(first, Refused):
        return first
    changed = rewritten(before, state(twin)) or counting(
        twin, torch.randn(first.batch or 2, first.channels, *first.sizes[0])
    )
    found = dissect(first.seen, tensors(twin), set(dict(twin.named_parameters(remove_duplicate=False))))
    looks = _looks_like(first.seen)
    if changed or first.seen.random:
        return Refused(changed or _random_reason(first.seen), looks_like=looks or changed is not None)
    if first.seen.reads_input:
        return Refused(_BRANCHES, looks)
    whole = first.seen.gates and len(first.seen.convs) == CRU_CONVOLUTIONS
    if isinstance(found, str):
        return Refused(found, looks, whole)
    gates = first.seen.gates or found.mask is not None
    if found.gamma and (not gates or found.channels % 2):
        odd = f"it has an odd number of channels ({found.channels}); an SRU cuts them into two equal halves"
        return Refused(odd if gates else _NO_GATE, looks)
    try:
        result = _certify(twin, found, first, benches)
        return _with_hooks(module, twin, result, first) if isinstance(result, Accepted) else result
    except ForwardError as error:
        return Refused(f"its forward raised {_one_line(error.__cause__)} on a probe", looks_like=looks)


def _first_run(twin: nn.Module) -> FirstRun | Refused:
    """Find an input the module accepts; note what it does there and a second size."""
    errors: list[str] = []
    batch, fixed_channels, fixed_size = fixed_shape(twin)
    sizes = SIZES if fixed_size is None else (fixed_size,)
    for channels in input_channels(twin)[:6] if fixed_channels is None else (fixed_channels,):
        for index, size in enumerate(sizes):
            x = torch.randn(batch or 2, channels, *size, dtype=torch.float64)
            try:
                seen, y = observe(twin, x)
            except Exception as error:  # noqa: BLE001 - user code may raise anything
                errors.append(_one_line(error))
                continue
            if y.ndim != 4:
                return Refused(f"it returns a {y.ndim}-D tensor for a 4-D input", looks_like=False)
            if y.dtype is not torch.float64:
                kind = str(y.dtype).removeprefix("torch.")
                reason = f"its forward casts to {kind}, so it cannot be compared in float64"
                return Refused(reason, looks_like=seen.gates)
            other = _second_size(twin, (batch or 1, channels), sizes[index + 1 :])
            return FirstRun(seen, channels, (size, other) if other else (size,), batch)
    return _refuse_by_rank(twin, errors)


def _second_size(
    twin: nn.Module, leading: tuple[int, int], sizes: tuple[tuple[int, int], ...]
) -> tuple[int, int] | None:
    for size in sizes:
        try:
            call(twin, torch.randn(*leading, *size, dtype=torch.float64))
        except ForwardError:
            continue  # some sizes are refused (flat groups); the next may do
        return size
    return None


def _refuse_by_rank(twin: nn.Module, errors: list[str]) -> Refused:
    """No 4-D input was accepted: is it a 1-D or 3-D form?"""
    for rank, size in ((1, (16,)), (3, (3, 4, 5))):
        for channels in input_channels(twin)[:3]:
            try:
                seen, y = observe(twin, torch.randn(2, channels, *size, dtype=torch.float64))
            except Exception:  # noqa: BLE001 - not this rank
                continue
            if y.ndim != rank + 2:
                continue  # broadcasting let it run, and made something else of it
            looks = seen.gates or len(seen.odd_convolutions) == 5
            return Refused(
                f"it works on {rank + 2}-D tensors (a {rank}-D form); only the 2-D form is rewritten", looks
            )
    reason = f"its forward raised {errors[0]}" if errors else "no input it could accept was found"
    convs = sum(p.ndim == 4 for p in twin.parameters())
    vectors = len({p.numel() for p in twin.parameters() if p.ndim != 4 and p.numel() > 1})
    return Refused(reason, looks_like=convs == 5 and vectors > 0)


def _certify(twin: nn.Module, anatomy: Anatomy, first: FirstRun, benches: Benches) -> Accepted | Refused:
    integers, floats = attribute_numbers(twin)
    hints = gather_hints(first.seen, integers, floats, anatomy.channels)
    live = tuple(n for n in tensors(twin) if n in _role_tensors(anatomy))
    witness = Witness(twin, live)
    shapes = {n: tuple(t.shape) for n, t in witness.stored.items()}
    bench = benches.get(anatomy, shapes, first, hints)
    nearest: tuple[float, str] = (float("inf"), "none")
    tried = 0
    for proposal in _candidates(witness, bench, anatomy, hints):
        tried += 1
        verdict = judge(witness, bench, proposal)
        if verdict.refuted_at_tie:
            proposal = other_comparison(proposal)
            verdict = judge(witness, bench, proposal)
        if verdict.accepted:
            return _accept(witness, bench, proposal, verdict)
        if verdict.refuting_error < nearest[0]:
            nearest = (verdict.refuting_error, describe(proposal.spec))
        if tried >= MAX_CANDIDATES:
            break
    whole = anatomy.gamma is not None and bool(anatomy.convs)
    return Refused(_different(first.seen, tried, nearest), _looks_like(first.seen), whole)


def _candidates(witness: Witness, bench: Bench, anatomy: Anatomy, hints: Hints) -> Iterator[Proposal]:
    """What was accepted for this pattern before; then all gatings of every frame that fits the open gate."""
    yield from bench.accepted
    pending = []
    for frame in frames(anatomy, hints):
        if _fits_open(witness, bench, frame):
            rest = gatings(frame, hints)
            yield from itertools.islice(rest, HEAD)
            pending.append(rest)
    # Several frames can look alike while the gate is open (the SRU is then the identity, or leaves one half
    # empty): after the likeliest of each, their remaining candidates are taken in turn.
    for turn in itertools.zip_longest(*pending):
        yield from (proposal for proposal in turn if proposal is not None)


def _fits_open(witness: Witness, bench: Bench, frame: Proposal) -> bool:
    """Whether the frame agrees while the gate is forced open; without an SRU there is nothing to open."""
    if frame.spec.sru is None:
        return True
    probe = bench.open_probe()
    ours = bench.expects(frame, probe, probe.name, witness.stored)
    return distance(witness.says(probe, probe.name), ours).agrees


def _accept(witness: Witness, bench: Bench, proposal: Proposal, verdict: Judgement) -> Accepted | Refused:
    rival = runner_up(witness, bench, proposal)
    if isinstance(rival, str):
        whole = proposal.spec.sru is not None and proposal.spec.cru is not None
        return Refused(rival, looks_like=True, whole=whole)
    if proposal not in bench.accepted:
        bench.accepted.append(proposal)
    return Accepted(
        proposal,
        Certificate(bench.draft.seed, verdict.probes, verdict.edges, verdict.worst, rival[0], rival[1]),
    )


def _with_hooks(module: nn.Module, twin: nn.Module, result: Accepted, first: FirstRun) -> Accepted | Refused:
    """Hooks are left out of the trial; one last run with them proves that they do not change the output."""
    if not has_hooks(module):
        return result
    x = torch.randn(first.batch or 2, first.channels, *first.sizes[0], dtype=torch.float64)
    if distance(call(private_copy(module, hooks=True), x), call(twin, x)).agrees:
        return result
    return Refused("a forward hook on it changes its output", looks_like=True, whole=True)


def _role_tensors(anatomy: Anatomy) -> set[str]:
    names = {*anatomy.vectors.values(), *(n for c in anatomy.convs for n in (c.weight, c.bias))}
    return {name for name in names if name is not None}


def _looks_like(seen: Observation) -> bool:
    """An SRU compares normalised values with a threshold; a CRU runs five convolutions and a softmax."""
    counts = (len(seen.convs), len(seen.convs) + len(seen.odd_convolutions))
    return seen.gates or (CRU_CONVOLUTIONS in counts and "_softmax" in seen.operators)


def _different(seen: Observation, tried: int, nearest: tuple[float, str]) -> str:
    reason = "it computes a different function from every SCConv form"
    if seen.foreign:
        reason += f" (its forward also runs {' and '.join(seen.foreign)})"
    if not tried:
        return f"{reason}: even with the gate forced open no arrangement of split, transform and fuse fits"
    return f"{reason}; of {tried} candidates the nearest is {nearest[1]}, off by {nearest[0]:.2g}"


def _random_reason(seen: Observation) -> str:
    return (
        f"its forward draws random numbers (aten.{seen.random}): a layer is built inside forward, or dropout "
        "stays active in eval mode"
    )


def _one_line(error: BaseException | None) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
