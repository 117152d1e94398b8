"""What time it is: real time, or the faster time of a simulation.

The whole daemon lives in one time, so that a simulated day can pass in a minute. Process and
simulator agree on it by the epoch, the real instant at which both times were equal, so a restart
changes nothing. trio's side of it is in clock.py.
"""

from __future__ import annotations

import time

import msgspec


class TimeScale(msgspec.Struct, frozen=True):
    """`factor` simulated seconds pass in each real one since the real instant `epoch_ms`."""

    factor: float = 1.0
    epoch_ms: int = 0

    def now_ms(self) -> int:
        """Return the wall clock: Unix time in milliseconds, simulated if this scale is."""
        real = time.time_ns() // 1_000_000
        return round(self.epoch_ms + (real - self.epoch_ms) * self.factor)
