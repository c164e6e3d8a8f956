"""How many threads torch computes on, for a while, and then as many as before.

OpenMP meets at a barrier after every operator. Where another process holds one of the cores, each meeting
waits for the scheduler: an SCConv-ResNet-50 (thousands of operators of some 100 microseconds) was verified in
5 s on one thread and in 5 to 54 s on two threads of a loaded two-core machine. Long operators do not mind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch

SMALL = 2**21
"""Input elements up to which one thread is used: 13 images of 3x224x224."""


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Within this context torch computes on that many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def threads_for(elements: Iterable[int]) -> Iterator[None]:
    """One thread where every input has few elements, else as many as torch was set to.

    Depends on sizes alone, never on the load: results must not change from run to run.
    """
    small = max(elements, default=0) <= SMALL
    with torch_threads(1 if small else torch.get_num_threads()):
        yield
