"""A model with fused nodes -> a session on ONNX Runtime's blocked layout, where that is possible here.

First every SCConv block that allows it becomes one node (:mod:`~scconv_deploy.runtime.block_fusion`). ONNX Runtime
optimises the model and writes the result down; :mod:`~scconv_deploy.runtime.blocked` rewires it; the rewired graph
is loaded as it is, and is used only if it and the ordinary session agree on random inputs. Where that fails the
same is tried with SRU and fuse as the nodes that they are in the file, and where that fails too the ordinary session
stays; each time the log ``scconv_deploy.runtime`` (level INFO) says why. What comes out is kept for the next time
(:mod:`~scconv_deploy.runtime.upgrade_cache`).
"""

from __future__ import annotations

import hashlib
import logging
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from scconv_deploy.errors import first_line
from scconv_deploy.kernels import loader
from scconv_deploy.runtime import block_fusion, upgrade_cache
from scconv_deploy.runtime.blocked import BLOCKED_DOMAIN, TO_BLOCKS, NotBlockedError, use_blocks
from scconv_deploy.runtime.graph_file import GraphFile, one_node_model
from scconv_deploy.runtime.graph_node import Node
from scconv_deploy.runtime.upgrade_cache import Entry

LOG = logging.getLogger("scconv_deploy.runtime")
FORMAT = "2"
"""Changes with what ``block_fusion`` and ``blocked`` make of a graph: older entries of the cache are then not found."""
BLOCKS = (16, 8)
SIZES = (64, 224, 32, 8)
"""Tried, in this order, for heights and widths that the model leaves open."""
LARGEST_DIFFERENCE = 1e-3
"""Of the largest output. Sums are taken in another order: outputs move by 1e-6, and by 1e-5 to 1e-4 where that
decides a gate otherwise; halves swapped, a channel taken for another or a ReLU lost in one block of many move them
by 1e-2 and more."""
TRIES, AGREEMENTS = 3, 2
"""Random inputs, and on how many of them both must agree: a gate of a very small net may move more than that."""


class Start(Protocol):
    """Opens a session with the caller's options."""

    def __call__(
        self, source: str | bytes, optimise: bool, is_kept: bool = True, written_to: Path | None = None
    ) -> Any:
        """A session of a file or of bytes.

        Args:
            source: path or bytes.
            optimise: False loads the graph as it is.
            is_kept: False for a session of ours, of which the caller wants no profile.
            written_to: where the graph that it runs is written.
        """


class Upgraded(NamedTuple):
    """A session, the block that our nodes work on in it (0: an ordinary session), and how many are whole blocks."""

    session: Any
    block: int = 0
    whole_blocks: int = 0


def open_upgraded(model: Path, library: Path, start: Start, version: str) -> Upgraded:
    """A session of the upgraded model, or an ordinary one.

    Args:
        model: an ONNX file with ``scconv`` nodes.
        library: our kernels, which ``start`` registers.
        start: opens a session.
        version: of ONNX Runtime.

    Raises:
        Exception: what ``start`` raises for the model itself.
    """
    file = upgrade_cache.file_for(
        format=FORMAT,
        model=_digest(model),
        library=_digest(library),
        build=str(loader.instruction_set()),
        runtime=version,
        cpu=cpu(),
    )
    entry = upgrade_cache.read(file)
    if entry is None:
        with upgrade_cache.alone(file):
            entry = upgrade_cache.read(file)
            if entry is None:
                entry = _upgrade(model, start)
                upgrade_cache.write(file, entry)
    if entry.refused:
        LOG.info("%s stays in the planar layout: %s", model.name, entry.refused)
        return Upgraded(start(str(model), True))
    try:
        return Upgraded(start(entry.graph, False), entry.block, entry.whole_blocks)
    except Exception as error:  # noqa: BLE001 - the model itself can still run
        LOG.warning("%s cannot be opened from %s: %s", model.name, file, first_line(error))
        return Upgraded(start(str(model), True))


def _upgrade(model: Path, start: Start) -> Entry:
    with tempfile.TemporaryDirectory(prefix="scconv-deploy-") as folder:
        written = Path(folder) / "optimised.onnx"
        try:
            planar = start(str(model), True, False, written)
            block = block_of_convolutions(start)
        except Exception as error:  # noqa: BLE001 - whatever it was, the model can run as it is
            return Entry(refused=first_line(error))
        ways: dict[str, Callable[[], Entry]] = {
            "whole blocks": lambda: _whole_blocks(model, Path(folder) / "whole.onnx", block, start),
            "fused nodes": lambda: _fused_nodes(written, block),
        }
        for name, way in ways.items():
            try:
                entry = way()
                check_agreement(planar, start(entry.graph, False, False))
            except Exception as error:  # noqa: BLE001 - as above
                entry = Entry(refused=first_line(error))
                LOG.info("%s: no %s: %s", model.name, name, entry.refused)
            else:
                LOG.info(
                    "%d fused nodes of %s work on blocks of %d channels; %d of them are whole SCConv blocks",
                    entry.nodes,
                    model.name,
                    entry.block,
                    entry.whole_blocks,
                )
                break
        return entry


def _whole_blocks(model: Path, written: Path, block: int, start: Start) -> Entry:
    """From the exported graph, which ONNX Runtime then optimises into ``written``."""
    if loader.block_version() != block_fusion.VERSION:
        raise NotBlockedError("this library of kernels has none for a whole block")
    graph = GraphFile(model.read_bytes())
    count, left = block_fusion.fuse_blocks(graph, block)
    for sentence in left:
        LOG.info("%s: several nodes stay several at %s", model.name, sentence)
    if not count:
        raise NotBlockedError("none can be one node")
    start(graph.to_bytes(), True, False, written)
    return replace(_fused_nodes(written, block), whole_blocks=count)


def _fused_nodes(written: Path, block: int) -> Entry:
    """From the graph that ONNX Runtime optimised."""
    graph = GraphFile(written.read_bytes())
    count = use_blocks(graph, block)
    return Entry(graph.to_bytes(), block, nodes=count)


def block_of_convolutions(start: Start) -> int:
    """Channels in a block of ONNX Runtime on this CPU: it is asked to reorder a row of known numbers.

    Raises:
        NotBlockedError: its order is not the one that our kernels read.
    """
    node = Node(TO_BLOCKS, ["x"], ["y"], BLOCKED_DOMAIN)
    session = start(one_node_model(node, BLOCKED_DOMAIN), False, False)
    channels, plane = 2 * max(BLOCKS), 3
    x = np.arange(channels * plane, dtype=np.float32).reshape(1, channels, 1, plane)
    made = session.run(None, {"x": x})[0].ravel()
    for block in BLOCKS:
        want = x.reshape(channels // block, block, plane).transpose(0, 2, 1)
        if np.array_equal(made, want.ravel()):
            return block
    raise NotBlockedError("this ONNX Runtime orders its blocks in a way that our kernels do not know")


def check_agreement(planar: Any, blocked: Any) -> None:
    """Run both sessions on the same random inputs.

    Raises:
        NotBlockedError: they differ, or no input could be found that the model takes.
    """
    agreed, worst = 0, 0.0
    for seed in range(TRIES):
        given, want = _probe(planar, seed)
        have = blocked.run(None, dict(given))
        difference = max(_difference(a, b) for a, b in zip(want, have, strict=True))
        agreed += difference <= LARGEST_DIFFERENCE
        worst = max(worst, difference)
        if agreed == AGREEMENTS:
            return
    raise NotBlockedError(
        f"the blocked graph differs from the planar one by {worst:.1e} of its largest output"
    )


def cpu() -> str:
    """What kind of CPU this is: a moved cache folder must not serve another one."""
    kinds = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    found = [line for line in lines if line.partition(":")[0].strip() in kinds]
    return "\n".join([platform.machine(), platform.processor(), *found])


def _probe(session: Any, seed: int) -> tuple[Mapping[str, np.ndarray], list[np.ndarray]]:
    """Random inputs that the session takes, and its outputs. A free first axis is the batch: 2 samples."""
    failed = ""
    for size in SIZES:
        generator = np.random.default_rng(seed)
        given = {i.name: _random(generator, i, size) for i in session.get_inputs()}
        try:
            return given, [np.asarray(a) for a in session.run(None, dict(given))]
        except Exception as error:  # noqa: BLE001 - another size may do
            failed = first_line(error)
    raise NotBlockedError(f"no input was found to compare on: {failed}")


def _random(generator: np.random.Generator, described: Any, size: int) -> np.ndarray:
    free = (2, *[size] * len(described.shape))
    shape = [n if isinstance(n, int) else free[min(axis, 1)] for axis, n in enumerate(described.shape)]
    if described.type != "tensor(float)":
        raise NotBlockedError(
            f"input '{described.name}' is a {described.type}, so there is nothing to compare on"
        )
    return generator.normal(size=shape).astype(np.float32)


def _difference(want: np.ndarray, have: np.ndarray) -> float:
    """Largest difference, relative to the largest wanted value; infinite where they cannot be compared."""
    if want.shape != have.shape or not (np.isfinite(want).all() and np.isfinite(have).all()):
        return np.inf
    wide = want.astype(np.float64)
    error = float(np.abs(have.astype(np.float64) - wide).max(initial=0.0))
    return error / float(np.abs(wide).max(initial=0.0)) if error else 0.0


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
