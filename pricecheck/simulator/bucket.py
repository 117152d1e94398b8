"""The token bucket as Keepa's server keeps it."""

from __future__ import annotations

_MINUTE_MS = 60_000
_ENDLESS_RATE = 1_000_000


class ServerBucket:
    """Tokens that arrive once a minute of simulated time, and expire above 60 minutes' worth.

    A call is admitted while there is a token left, and may drive the count below zero. With
    `rate` 0 the tokens never end: the count stays at a huge figure. Times are Unix milliseconds.
    """

    def __init__(self, *, rate: int, tokens: int | None, now_ms: int) -> None:
        self._endless = rate == 0
        self.rate = rate or _ENDLESS_RATE
        self.capacity = 60 * self.rate
        self.left = self.capacity if tokens is None or self._endless else tokens
        self._next_tick_ms = now_ms + _MINUTE_MS

    def advance(self, now_ms: int) -> int:
        """Add what has arrived by now; return the milliseconds until the next refill."""
        if now_ms >= self._next_tick_ms:
            ticks = (now_ms - self._next_tick_ms) // _MINUTE_MS + 1
            self._next_tick_ms += ticks * _MINUTE_MS
            self.left = min(self.left + ticks * self.rate, self.capacity)
        return self._next_tick_ms - now_ms

    def admits(self) -> bool:
        """Whether a call that costs tokens may begin."""
        return self.left > 0

    def charge(self, cost: int) -> None:
        """Take the tokens of a call."""
        if not self._endless:
            self.left -= cost

    def sink(self) -> None:
        """Drop to ten minutes' worth below zero, as after a call far dearer than expected."""
        if not self._endless:
            self.left = min(self.left, 0) - 10 * self.rate
