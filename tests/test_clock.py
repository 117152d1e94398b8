"""Simulated time: trio's clock and the wall clock, which run at one rate."""

from __future__ import annotations

import math
import time

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.clock import ScaledClock, clock_of
from pricecheck.simulator.settings import SimulatedTime
from pricecheck.timescale import TimeScale

DAY_S = 86_400


def test_a_simulated_day_passes_in_a_moment() -> None:
    """Sleeps and deadlines of a day are over at once, and a day has passed by trio's clock."""

    async def main() -> tuple[float, bool]:
        began = trio.current_time()
        with trio.move_on_after(DAY_S) as scope:
            await trio.sleep_forever()
        return trio.current_time() - began, scope.cancelled_caught

    real = time.monotonic()
    passed, cancelled = trio.run(main, clock=ScaledClock(1_000_000))

    assert passed >= DAY_S
    assert cancelled
    assert passed <= (time.monotonic() - real) * 1_000_000


def test_every_run_begins_at_zero() -> None:
    """A clock can be used again for another run."""
    clock = ScaledClock(100.0)

    async def main() -> float:
        return trio.current_time()

    first = trio.run(main, clock=clock)
    real = time.monotonic()
    second = trio.run(main, clock=clock)

    assert first >= 0
    assert 0 <= second <= (time.monotonic() - real) * 100


@given(
    factor=st.floats(0.01, 100_000),
    ahead_s=st.floats(0, 10 * DAY_S),
)
def test_a_deadlines_real_wait_is_shorter_by_the_factor(factor: float, ahead_s: float) -> None:
    """Slept through in real time, it is just reached."""
    clock = ScaledClock(factor)
    clock.start_clock()
    began = clock.current_time()

    wait_s = clock.deadline_to_sleep_time(began + ahead_s)

    assert wait_s <= ahead_s / factor * 1.000_001
    assert clock.current_time() + wait_s * factor >= (began + ahead_s) * 0.999_999


def test_no_deadline_is_waited_for_without_end() -> None:
    """Infinity stays infinity."""
    clock = ScaledClock(60.0)
    clock.start_clock()

    assert clock.deadline_to_sleep_time(math.inf) == math.inf


def test_real_time_is_trios_own() -> None:
    """Only simulated time needs a clock of ours."""
    clock = clock_of(TimeScale(60.0, 5))

    assert clock_of(TimeScale()) is None
    assert isinstance(clock, ScaledClock)
    clock.start_clock()
    assert clock.deadline_to_sleep_time(60.0) <= 1.0


def test_real_wall_time_is_the_systems() -> None:
    """Without a scale, now is now."""
    before = time.time_ns() // 1_000_000

    now = TimeScale().now_ms()

    assert before <= now <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("factor", "real_ms", "simulated_ms"),
    [
        (1440.0, 1_750_000_000_000, 1_750_000_000_000),
        (1440.0, 1_750_000_060_000, 1_750_086_400_000),
        (0.5, 1_750_000_060_000, 1_750_000_030_000),
        (1440.0, 1_749_999_999_999, 1_749_999_998_560),
    ],
    ids=["at the epoch", "a minute is a day", "slower", "before the epoch"],
)
def test_simulated_wall_time_runs_from_the_epoch(
    monkeypatch: pytest.MonkeyPatch, factor: float, real_ms: int, simulated_ms: int
) -> None:
    """At the epoch both times are equal, and from there it runs at its own rate."""
    monkeypatch.setattr(time, "time_ns", lambda: real_ms * 1_000_000)

    assert TimeScale(factor, 1_750_000_000_000).now_ms() == simulated_ms


def test_two_processes_agree_on_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemon and simulator know factor and epoch, and need nothing else of each other."""
    for real_ms in range(1_750_000_000_000, 1_750_000_100_000, 7_919):
        monkeypatch.setattr(time, "time_ns", lambda: real_ms * 1_000_000)  # noqa: B023
        ours = TimeScale(1234.5, 1_750_000_000_000).now_ms()
        assert ours == SimulatedTime(1234.5, 1_750_000_000_000).now_ms()
