"""trio's clock in simulated time, which runs at the rate of the wall clock in timescale.py.

Apart from that, because the quick commands read a config without the tenth of a second that
trio takes to import.
"""

from __future__ import annotations

import time

import trio

from pricecheck.timescale import TimeScale


class ScaledClock(trio.abc.Clock):
    """trio's clock at `factor` times the speed, for a run in simulated time."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._began = 0.0

    def start_clock(self) -> None:
        """Begin at 0 with the run."""
        self._began = time.perf_counter()

    def current_time(self) -> float:
        """Return the simulated seconds since the run began."""
        return (time.perf_counter() - self._began) * self._factor

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return the real seconds until a simulated deadline."""
        return (deadline - self.current_time()) / self._factor


def clock_of(time: TimeScale) -> ScaledClock | None:
    """Return the clock for a trio run in this time; None, which is trio's own, for real time."""
    return ScaledClock(time.factor) if time.factor != 1 else None
