"""Bursts and warm-ups on a clock the test controls; what the loop itself costs, on the real one."""

from __future__ import annotations

import pytest

from scconv_deploy.bench import stopwatch
from scconv_deploy.bench.stopwatch import (
    LEAD_IN_NS,
    MIN_BURST,
    MIN_PATIENCE_BURSTS,
    lead_in,
    overhead_us,
    timed,
    warm_up,
)
from tests.bench_unit.fakes import MS

LIMIT_US = 20.0


class Machine:
    def __init__(self, *durations_ms: float) -> None:
        self.now, self.calls, self.durations = 0, 0, durations_ms

    def clock(self) -> int:
        return self.now

    def call(self) -> None:
        index = min(self.calls, len(self.durations) - 1)
        self.now += round(self.durations[index] * MS)
        self.calls += 1


def test_every_call_is_timed() -> None:
    machine = Machine(5.0, 1.0, 400.0, 1.0)
    assert timed(machine.call, 4, machine.clock).tolist() == [5 * MS, MS, 400 * MS, MS]


def test_a_warm_up_lasts_its_time_where_calls_are_steady() -> None:
    machine = Machine(1.0)
    found = warm_up(machine.call, 100, machine.clock)
    assert found.settled
    assert found.typical_ns == MS
    assert found.calls == machine.calls
    assert 100 <= machine.now / MS < 150


def test_a_warm_up_goes_on_while_calls_get_faster() -> None:
    """Broken twin: by time alone it would end at 100 ms, with calls four times as slow as they become."""
    falling = [20.0 * 0.9**i for i in range(40)]
    machine = Machine(*falling)
    found = warm_up(machine.call, 100, machine.clock)
    assert found.settled
    assert found.typical_ns < 1.2 * falling[-1] * MS
    by_time = Machine(*falling)
    while by_time.now < 100 * MS:
        by_time.call()
    assert falling[by_time.calls] > 4 * falling[-1]


def test_a_warm_up_is_bounded_and_says_that_it_did_not_settle() -> None:
    machine = Machine(*[1000.0 * 0.97**i for i in range(4000)])
    found = warm_up(machine.call, 100, machine.clock)
    assert not found.settled
    assert found.calls == MIN_PATIENCE_BURSTS * MIN_BURST


def test_without_warm_up_time_there_are_two_bursts() -> None:
    machine = Machine(7.0)
    assert warm_up(machine.call, 0, machine.clock).calls == 2 * MIN_BURST


@pytest.mark.parametrize(("duration_ms", "calls"), [(0.5, 10), (2.0, 3), (900.0, 1), (0.0, 2)])
def test_a_lead_in_takes_5_ms_and_one_call_at_least(duration_ms: float, calls: int) -> None:
    machine = Machine(duration_ms)
    lead_in(machine.call, machine.clock)
    assert machine.calls == calls
    assert LEAD_IN_NS == 5 * MS


def test_measuring_costs_less_than_20_microseconds_per_call() -> None:
    # The best of several: a busy machine may interrupt one of them for milliseconds; the loop costs 0.2.
    assert min(overhead_us() for _ in range(5)) < LIMIT_US


def test_a_loop_that_does_too_much_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stopwatch.timed

    def wasteful(call: object, count: int, clock: object) -> object:
        for _ in range(count):
            sum(range(2000))
        return real(call, count, clock)  # type: ignore[arg-type]

    monkeypatch.setattr(stopwatch, "timed", wasteful)
    assert overhead_us() > 10 * LIMIT_US / 20
