"""The token bucket that every call to Keepa passes: nothing is spent that is not there.

The server is the truth. Each answer's envelope says how many tokens were left when, and the
bucket only carries that count forward: plus the refills since, minus what is reserved for calls
under way. Between two envelopes it errs to the careful side: a call under way is counted until
its own answer has settled it, even where another answer's count may hold it already.

Costs are learned: the config's figure is only the first guess.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final

import msgspec
import trio

from pricecheck.errors import PricecheckError
from pricecheck.keepa.wire import Envelope
from pricecheck.snapshot import TokenState

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
CAPACITY_MINUTES: Final = 60
"""Unused tokens expire after an hour (Keepa documentation, 'Tokens')."""

_TICK_SLACK_S: Final = 0.1
"""How much later than announced a refill is counted on, as Keepa's own Java client does."""

_PATIENCE_S: Final = 120.0
"""How much earlier a caller must have come to go before one of the next higher priority."""

_LATEST_MS: Final = 5 * _MINUTE_MS
"""How late an answer may come behind a later one."""

_UNKNOWN_RETRY_S: Final = 60.0
"""How long a waiting caller sleeps where no refill is in sight, unless woken before."""


class TooExpensiveError(PricecheckError):
    """A call that costs more than `limit` tokens: the cap on one call, or the whole bucket."""

    def __init__(self, cost: int, limit: int) -> None:
        super().__init__(
            f"a call of about {cost} tokens is above the limit of {limit} tokens",
            remedy="ask for less in one call, or raise keepa.max_call_cost",
        )
        self.limit = limit


class NoRefillError(PricecheckError):
    """More tokens are needed than there are, and none are coming."""

    def __init__(self) -> None:
        super().__init__(
            "no tokens arrive: the refill rate is 0, or Keepa trackings take all of it",
            remedy="remove trackings at Keepa or take a larger plan; asked again by itself",
        )


class Reservation:
    """Tokens set aside for one call. Leaving the block unsettled leaves its cost in doubt."""

    def __init__(self, bucket: Bucket, cost: int) -> None:
        self._bucket = bucket
        self.cost = cost
        self._open = True

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open:
            self._close()
            self._bucket._doubt(self.cost)

    def settle(self, envelope: Envelope) -> None:
        """Replace the reservation by the server's own count."""
        self._close()
        self._bucket.observe(envelope)

    def release(self) -> None:
        """Give the tokens back: no request was sent."""
        self._close()
        self._bucket._changed()

    def _close(self) -> None:
        self._open = False
        self._bucket._reserved -= self.cost


class _Waiter:
    """A caller in the queue; `order` says whose turn it is."""

    def __init__(self, cost: int, order: float, turn: int) -> None:
        self.cost = cost
        self.order = (order, turn)


class Bucket:
    """Keepa's token bucket for one key, shared by all tasks of one trio run."""

    def __init__(self, *, max_call_cost: int, costs: Mapping[str, float]) -> None:
        self._max_call_cost = max_call_cost
        self._costs = dict(costs)
        self._reserved = 0
        self._waiters: list[_Waiter] = []
        self._turns = 0
        self._news = trio.Event()
        self._confirmed = False
        self._doubted = 0  # tokens of calls whose answer never came, until /token tells
        self._ledger = _Ledger()
        # The server's count at an instant of our own monotonic clock; None until told.
        self._envelope: Envelope | None = None
        self._level: float
        self._next_tick: float

    @property
    def uncertain(self) -> bool:
        """Whether the count may be wrong, so that /token should be asked before more is spent."""
        return not self._confirmed or self._doubted > 0

    @property
    def doubted(self) -> int:
        """Tokens of calls whose answer never came: they count as spent until /token tells."""
        return self._doubted

    @property
    def capacity(self) -> int:
        """The most tokens the bucket can hold; 0 before the first envelope."""
        if self._envelope is None:
            return 0
        return int(max(self._envelope.refill_rate * CAPACITY_MINUTES, self._level, 0))

    @property
    def limit(self) -> int:
        """The most tokens that one call may cost."""
        known = self._envelope is not None and self._envelope.refill_rate > 0
        return min(self._max_call_cost, self.capacity) if known else self._max_call_cost

    def available(self) -> int:
        """Return how many tokens may be spent now."""
        return math.floor(self._count(trio.current_time())) - self._reserved - self._doubted

    def estimate(self, operation: str, units: int = 1) -> int:
        """Return what a call of so many units will cost, at least 1 token."""
        return max(1, math.ceil(self._costs[operation] * units - 1e-9))

    def expect(self, costs: Mapping[str, float]) -> None:
        """Take over first guesses, tokens a unit, of operations of which nothing is known yet."""
        self._costs = {**costs, **self._costs}

    def learn(self, operation: str, units: int, consumed: int) -> None:
        """Let a call's real cost change the estimate: a dearer one at once, a cheaper slowly."""
        if units <= 0 or consumed < 0:
            return
        # Never beyond what one call may cost: it would not be made again, and nothing be learned.
        seen, known = min(consumed / units, self.limit), self._costs[operation]
        self._costs[operation] = seen if seen > known else known + (seen - known) * 0.2

    async def take(
        self, cost: int, priority: int = 0, on_wait: Callable[[float], None] = lambda seconds: None
    ) -> Reservation:
        """Wait until `cost` tokens are there and reserve them. Lower priority numbers go first.

        Callers are served in order of arrival plus two minutes for each step of priority: first
        come, first served within a priority, and no caller waits for ever behind more important
        ones, for it is overtaken only by those who come within that time. Nobody overtakes by
        being cheaper. `on_wait` is told the seconds that are to be waited, and again whenever that
        may have changed. Cancelled, it leaves no trace. Raises TooExpensiveError, before or while
        waiting, when the cost is above `limit`, and NoRefillError when it waits in vain.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._turns += 1
        waiter = _Waiter(cost, trio.current_time() + priority * _PATIENCE_S, self._turns)
        self._waiters.append(waiter)
        try:
            while True:
                if cost > self.limit:
                    raise TooExpensiveError(cost, self.limit)
                if self._is_first(waiter) and self.available() >= cost:
                    self._reserved += cost
                    return Reservation(self, cost)
                if self._envelope is not None and self._envelope.effective_rate <= 0:
                    raise NoRefillError
                ahead = sum(each.cost for each in self._waiters if each.order <= waiter.order)
                on_wait(self.wait_s(ahead))
                await self._wait_for_news(waiter)
        finally:
            self._waiters.remove(waiter)
            self._changed()

    def wait_s(self, cost: int) -> float:
        """Return the seconds until `cost` tokens will be there, if nobody else spends any."""
        missing = cost - self.available()
        if missing <= 0:
            return 0.0
        rate = self._envelope.effective_rate if self._envelope else 0.0
        if self._envelope is None or rate <= 0:
            return _UNKNOWN_RETRY_S
        ticks = math.ceil(missing / rate)
        return self._until_tick(trio.current_time()) + (ticks - 1) * 60.0

    def observe(self, envelope: Envelope) -> None:
        """Take over the server's count from any answer.

        Answers may overtake each other: one that the server wrote earlier than the newest known
        says nothing new about the count. A blank envelope (wrong key) is not a count at all.
        """
        if envelope.is_blank:
            return
        known = self._envelope
        self._ledger.add(envelope)
        bare = not envelope.timestamp_ms  # as some 429 bodies are: take it as the newest
        if known is None or bare or _is_newer(envelope, known):
            self._adopt(envelope)
        elif envelope.timestamp_ms == known.timestamp_ms:
            self._level = min(self._level, envelope.tokens_left)
        self._changed()

    def confirm(self, envelope: Envelope, doubted: int | None = None) -> None:
        """Take over the answer of a /token call; `doubted` is what was in doubt when it was sent.

        Without it all is settled. No other answer settles a doubt: it may have been written
        before the lost call was charged.
        """
        self._confirmed = True
        self._doubted -= self._doubted if doubted is None else doubted
        self.observe(envelope)

    def state(self) -> TokenState:
        """Return what the bucket knows, for status."""
        known = self._envelope
        return TokenState(
            tokens=self.available() if known else None,
            capacity=self.capacity if known else None,
            refill_rate=known.effective_rate if known else None,
            refill_in_s=round(self._until_tick(trio.current_time()), 1) if known else None,
            reserved=self._reserved,
            waiting=len(self._waiters),
            foreign_per_hour=self._ledger.foreign(),
            costs=dict(self._costs),
        )

    def _adopt(self, envelope: Envelope) -> None:
        if not envelope.refill_rate and self._envelope is not None:
            # A bare 429 body repeats neither rate nor time.
            envelope = msgspec.structs.replace(
                envelope,
                refill_rate=self._envelope.refill_rate,
                token_flow_reduction=self._envelope.token_flow_reduction,
                timestamp_ms=envelope.timestamp_ms or self._envelope.timestamp_ms,
            )
        self._envelope = envelope
        self._level = envelope.tokens_left
        self._next_tick = trio.current_time() + envelope.refill_in_ms / 1000 + _TICK_SLACK_S

    def _count(self, now: float) -> float:
        """Return the server's count as it should be now, before reservations."""
        if self._envelope is None:
            return 0.0
        since_tick = now - self._next_tick
        ticks = max(0, 1 + int(since_tick // 60.0))
        return min(self._level + ticks * self._envelope.effective_rate, self.capacity)

    def _until_tick(self, now: float) -> float:
        """Return the seconds until the next refill."""
        if self._envelope is None:
            return _UNKNOWN_RETRY_S
        left = self._next_tick - now
        # Never less than a millisecond: a rest of rounding would be slept again and again.
        return max(left if left > 0 else left % 60.0 or 60.0, 0.001)

    def _doubt(self, cost: int) -> None:
        """Count a call as spent whose answer never came."""
        self._doubted += cost
        self._ledger.doubt(cost)
        self._changed()

    def _is_first(self, waiter: _Waiter) -> bool:
        return min(self._waiters, key=lambda other: other.order) is waiter

    async def _wait_for_news(self, waiter: _Waiter) -> None:
        # Only the first in the queue has a time to wait for; the others wait for their turn.
        seconds = self.wait_s(waiter.cost) if self._is_first(waiter) else math.inf
        with trio.move_on_after(seconds):
            await self._news.wait()

    def _changed(self) -> None:
        self._news.set()
        self._news = trio.Event()


class _Ledger:
    """Whether the server's count falls faster than we spend: somebody else uses the key.

    Compares each envelope with the one before in the server's own time. The refill tick is
    known only to the minute, so single differences may be off by one refill either way; their
    sum over an hour is not.
    """

    def __init__(self) -> None:
        self._last: Envelope | None = None
        self._differences: deque[tuple[int, float]] = deque()
        self._doubted = 0

    def add(self, envelope: Envelope) -> None:
        last = self._last
        if last and envelope.timestamp_ms and _is_other_clock(envelope, last):
            self._differences.clear()
            last = None
        if not envelope.timestamp_ms or (last and envelope.timestamp_ms < last.timestamp_ms):
            # Written before the newest: that count held this call already.
            self._note(last.timestamp_ms if last else 0, -envelope.tokens_consumed)
            return
        if last is not None:
            expected = _carried(last, envelope.timestamp_ms) - envelope.tokens_consumed
            missing = expected - envelope.tokens_left
            explained = min(max(missing, 0), self._doubted)
            self._doubted = 0
            self._note(envelope.timestamp_ms, missing - explained)
        self._last = envelope

    def doubt(self, cost: int) -> None:
        self._doubted += cost

    def foreign(self) -> int:
        return max(0, round(sum(missing for _, missing in self._differences)))

    def _note(self, at_ms: int, missing: float) -> None:
        self._differences.append((at_ms, missing))
        while self._differences[0][0] < at_ms - _HOUR_MS:
            self._differences.popleft()


def _is_newer(one: Envelope, other: Envelope) -> bool:
    return one.timestamp_ms > other.timestamp_ms or _is_other_clock(one, other)


def _is_other_clock(one: Envelope, other: Envelope) -> bool:
    """Whether an answer is so much older that Keepa's clock must have been put back since."""
    return one.timestamp_ms < other.timestamp_ms - _LATEST_MS


def _carried(envelope: Envelope, until_ms: int) -> float:
    """Return what the count of an envelope should have become at a later server time."""
    since_tick = until_ms - envelope.timestamp_ms - envelope.refill_in_ms
    ticks = max(0, 1 + since_tick // _MINUTE_MS)
    capacity = max(envelope.refill_rate * CAPACITY_MINUTES, envelope.tokens_left)
    return min(envelope.tokens_left + ticks * envelope.effective_rate, capacity)
