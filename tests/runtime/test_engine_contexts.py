"""The pool's promises about threads; what a slot computes is in test_tensorrt.py."""

from __future__ import annotations

import threading
import time
from typing import cast

import pytest

from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.engine_contexts import ContextPool, Shapes, Slot


class Counted:
    """A slot that only counts."""

    def __init__(self) -> None:
        self.set_to: Shapes | None = None
        self.graph_refusal: str | None = None
        self.closed = False

    def close(self) -> None:
        self.closed = True


A: Shapes = (0, (("x", (1,)),))
B: Shapes = (0, (("x", (2,)),))


def pool(size: int, made: list[Counted]) -> ContextPool:
    def make() -> Slot:
        made.append(Counted())
        return cast(Slot, made[-1])

    return ContextPool(make, size)


def test_the_slot_that_saw_these_shapes_is_preferred() -> None:
    made: list[Counted] = []
    slots = pool(2, made)
    for wanted in (A, B):
        with slots.slot(wanted) as slot:
            slot.set_to = wanted
    for wanted in (B, A, A, B):
        with slots.slot(wanted) as slot:
            assert slot.set_to == wanted
    assert len(made) == 2


def test_no_more_are_made_than_were_asked_for() -> None:
    made: list[Counted] = []
    slots, inside, most = pool(3, made), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with slots.slot(A):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with lock:
                    inside -= 1

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == len(made) == 3


def test_closing_waits_for_the_call_that_runs_and_refuses_those_that_wait() -> None:
    made: list[Counted] = []
    slots = pool(1, made)
    entered, leave, refused = threading.Event(), threading.Event(), threading.Event()

    def runs() -> None:
        with slots.slot(A):
            entered.set()
            leave.wait(10)
            assert not made[0].closed

    def waits() -> None:
        with pytest.raises(CapabilityError, match="was closed"), slots.slot(A):
            pass
        refused.set()

    workers = [threading.Thread(target=runs)]
    workers[0].start()
    assert entered.wait(10)
    workers += [threading.Thread(target=waits), threading.Thread(target=slots.close)]
    for worker in workers[1:]:
        worker.start()
    assert refused.wait(10)
    assert not made[0].closed
    leave.set()
    for worker in workers:
        worker.join(10)
    assert made[0].closed


def test_a_slot_that_cannot_be_made_leaves_the_place_free() -> None:
    made: list[Counted] = []
    broken = [True]

    def make() -> Slot:
        if broken[0]:
            raise CapabilityError("no memory")
        made.append(Counted())
        return cast(Slot, made[-1])

    slots = ContextPool(make, 1)
    with pytest.raises(CapabilityError, match="no memory"), slots.slot(A):
        pass
    broken[0] = False
    with slots.slot(A):
        assert len(made) == 1
    slots.close()


def test_a_slot_comes_back_from_a_call_that_fails() -> None:
    slots = pool(1, [])
    with pytest.raises(ZeroDivisionError), slots.slot(A):
        _ = 1 / 0
    with slots.slot(A):
        pass
    slots.close()
