"""What time it is: real time, or the faster time of a simulation.

The whole daemon lives in one time, so that a simulated day can pass in a minute: trio's clock
and the wall clock run at the same rate. Process and simulator agree on it by the epoch, the
real instant at which both times were equal, so a restart changes nothing.
"""

from __future__ import annotations

import time

import msgspec
import trio


class TimeScale(msgspec.Struct, frozen=True):
    """`factor` simulated seconds pass in each real one since the real instant `epoch_ms`."""

    factor: float = 1.0
    epoch_ms: int = 0

    def now_ms(self) -> int:
        """Return the wall clock: Unix time in milliseconds, simulated if this scale is."""
        real = time.time_ns() // 1_000_000
        return round(self.epoch_ms + (real - self.epoch_ms) * self.factor)


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
