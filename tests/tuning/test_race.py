"""The faster call is chosen, equal and noisy ones are not; the clock is a fake, so nothing depends on the machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scconv_deploy.tuning.race import MARGIN, MIN_ROUNDS, Result, race

MS = 1_000_000


class Machine:
    """A clock that calls move forward."""

    def __init__(self) -> None:
        self.now = 0
        self.order: list[str] = []
        self.paused = 0.0

    def clock(self) -> int:
        return self.now

    def pause(self, seconds: float) -> None:
        self.paused += seconds
        self.now += int(seconds * 1e9)

    def call(self, name: str, milliseconds: Callable[[], float]) -> Callable[[], object]:
        def run() -> None:
            self.order.append(name)
            self.now += int(milliseconds() * MS)

        return run


def raced(times: dict[str, Callable[[], float]], budget_s: float = 5.0) -> tuple[Machine, Result]:
    machine = Machine()
    calls = {name: machine.call(name, time) for name, time in times.items()}
    return machine, race(calls, budget_s, 0, machine.clock, machine.pause)


def steady(value: float) -> Callable[[], float]:
    return lambda: value


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"rule": 10.0, "a": 9.0, "b": 8.0}, "b"),
        ({"rule": 10.0, "a": 10.0 * (1 - MARGIN / 2), "b": 11.0}, "rule"),
        ({"rule": 10.0, "a": 12.0}, "rule"),
        ({"rule": 10.0}, "rule"),
    ],
)
def test_the_fastest_by_more_than_the_margin(times: dict[str, float], chosen: str) -> None:
    _, result = raced({name: steady(value) for name, value in times.items()})
    assert result.chosen == chosen
    found = {f.name: (f.milliseconds, f.ratio) for f in result.forms}
    assert found == {name: (value, round(value / 10.0, 4)) for name, value in times.items()}


def test_a_median_that_noise_made_is_not_believed() -> None:
    """Median ratio below 1, but rounds spread from half to twice: the interval reaches over 1."""
    draws = iter(np.random.default_rng(7).choice([5.0, 20.0], 4000, p=[0.55, 0.45]).tolist())
    _, result = raced({"rule": steady(10.0), "noisy": lambda: float(next(draws))}, 1.0)
    noisy = result.forms[1]
    assert noisy.low < 1 < noisy.high
    assert result.chosen == "rule"


def test_rounds_are_interleaved_behind_a_pause() -> None:
    machine, result = raced({"rule": steady(30.0), "a": steady(20.0)}, 2.0)
    turns = [name for i, name in enumerate(machine.order) if i == 0 or machine.order[i - 1] != name]
    assert turns == ["rule", "a"] * result.rounds
    assert machine.paused > 0


def test_the_budget_is_kept() -> None:
    machine, result = raced({"rule": steady(100.0), "a": steady(90.0)}, 4.0)
    one_round = 3 * (0.1 + 0.09) + 0.04  # a lead-in and two timed calls each, behind a pause
    assert 4.0 <= machine.now / 1e9 <= 4.0 + one_round + 1e-6
    assert result.rounds >= MIN_ROUNDS


def test_too_few_rounds_decide_nothing() -> None:
    _, result = raced({"rule": steady(1000.0), "a": steady(1.0)}, 4.0)
    assert (result.chosen, result.forms) == ("rule", ())
    assert 0 < result.rounds < MIN_ROUNDS
