"""Counters before and after -> shares and warnings, by hand; the real counters only have to make sense."""

from __future__ import annotations

import os

import pytest

from scconv_deploy.bench.host import NoiseMeter, Reading, noise, read

BEFORE = Reading(wall=10.0, total=1000.0, busy=400.0, stolen=5.0, own=50.0)


def after(seconds: float, own: float, other: float, stolen: float | None = 0.0) -> Reading:
    """Two cores for ``seconds``."""
    return Reading(
        BEFORE.wall + seconds,
        BEFORE.total + 2 * seconds,
        BEFORE.busy + own + other,
        None if stolen is None else 5.0 + stolen,
        BEFORE.own + own,
    )


def test_a_quiet_machine_gives_no_warning() -> None:
    found = noise(BEFORE, after(10.0, own=12.0, other=0.4), [2600.0, 2600.0], 0.3)
    assert (found.seconds, found.own_share) == (10.0, 0.6)
    assert found.other_share == pytest.approx(0.02)
    assert (found.steal_share, found.frequency_mhz, found.load_average_before) == (0.0, (2600.0, 2600.0), 0.3)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("reading", "mhz", "words"),
    [
        (after(10.0, own=10.0, other=6.0), [2600.0], "other processes took 30% of the machine"),
        (after(10.0, own=10.0, other=0.0, stolen=1.0), [2600.0], "5.0% of the machine's time was stolen"),
        (after(10.0, own=10.0, other=0.0), [2600.0, 3400.0, 1800.0], "moved between 1800 and 3400 MHz"),
    ],
)
def test_each_disturbance_is_a_sentence(reading: Reading, mhz: list[float], words: str) -> None:
    (warning,) = noise(BEFORE, reading, mhz, None).warnings
    assert words in warning


def test_what_the_system_does_not_tell_is_none() -> None:
    found = noise(BEFORE, after(1.0, 1.0, 0.0, stolen=None), [], None)
    assert (found.steal_share, found.frequency_mhz) == (None, None)


def test_more_of_ours_than_of_all_is_no_negative_share() -> None:
    # Counters tick in hundredths: over short times the parts may exceed the whole.
    assert noise(BEFORE, after(0.1, own=0.1, other=-0.02), [], None).other_share == 0.0


def test_the_meter_reads_our_workers_and_samples_the_clock() -> None:
    readings, asked = [BEFORE, after(5.0, own=4.0, other=0.0)], []
    clocks = iter([2000.0, 2010.0, None, 1990.0])

    def reader(pids: object) -> Reading:
        asked.append(pids)
        return readings[len(asked) - 1]

    meter = NoiseMeter([11, 12], reader, lambda: next(clocks))
    meter.sample()
    meter.sample()
    found = meter.stop()
    assert asked == [(11, 12)] * 2
    assert found.frequency_mhz == (1990.0, 2010.0)
    assert found.own_share == 0.4


def test_real_counters_grow_and_a_process_that_ended_counts_nothing() -> None:
    first = read([])
    sum(range(3_000_000))
    second = read([2**22 + 1])
    assert second.total >= first.total > 0
    assert second.own > first.own
    assert first.busy <= first.total
    assert read([os.getpid()]).own > 1.5 * read([]).own
