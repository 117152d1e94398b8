"""Which products to check next: each at its own fixed interval, spread evenly over it.

A product's due times lie on a lattice phase + k * every, its phase a hash of its name. So a
watchlist that was checked all at once, or after an outage, spreads out by itself, and the plan
after a restart is the plan before it. `next_due` alone holds this policy; the planner keeps what
it says in order, and knows no clock: every time is a parameter, in Unix milliseconds.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from pricecheck.extras import PLAIN, Extras
from pricecheck.rhythm import Rhythm
from pricecheck.watchlist import Watch

_PHASES: Final = 360
"""How many phases an interval has: one a minute of six hours. Products that share one are due
together, which makes full batches, and lets a million products share a few thousand slots."""

AT_ONCE: Final = 0
"""When a product is due that was never checked."""

CLOCK_SLACK_MS: Final = 60_000
"""How far a clock may step back unnoticed: it delays checks by no more."""


class Purse(msgspec.Struct, frozen=True):
    """What there is to spend, and what a check costs."""

    tokens: float  # now
    capacity: float
    refill: float  # tokens a minute
    others: float = 0.0  # of them, what deals and best sellers take
    costs: Mapping[Extras, float] = {}  # tokens a check; 1 where unknown

    @property
    def budget(self) -> float:
        """Tokens a day for product checks; never nothing, so that there is always a plan."""
        return max(self.refill - self.others, 0.02 * self.refill, 0.001) * 24 * 60


class Batch(msgspec.Struct, frozen=True):
    """Products of one marketplace to check in one call, which all ask for the same."""

    domain: str
    watches: tuple[Watch, ...]
    first: bool  # none of them was ever checked
    extras: Extras = PLAIN


class Statistics(msgspec.Struct, frozen=True):
    """How far the checks are behind the plan."""

    size: int
    due: int
    next_due_ms: int | None  # never before now; None when no product waits
    longest_overdue_ms: int  # of what is planned for a time; a first check is due at no time


def fitting(tokens: float, cost: float) -> int:
    """Return how many checks at such a cost so many tokens are enough for; one at least."""
    return max(1, int(min(tokens / cost + 1e-9, 1e9)))


def next_due(watch: Watch, after_ms: int) -> int:
    """Return when a product is due that was checked at `after_ms`: later, by at most `every`.

    From one point of its lattice to the next is exactly `every`. Onto the lattice, after a first
    or a late check, it is any part of it: one token too many, once, is the price for never being
    late and for a load without a peak.
    """
    every_ms = watch.every_s * 1000
    name = f"{watch.domain}:{watch.asin}".encode()
    phase_ms = zlib.crc32(name) % _PHASES * every_ms // _PHASES
    return after_ms + every_ms - (after_ms - phase_ms) % every_ms


class Planner:
    """All products of a watchlist: those waiting by due time, and those picked and not yet back.

    `checked_at` maps (domain, asin) to the last check; a product without one is due at once.
    Products never checked and those due again are picked in turn where both wait, so that a
    thousand new ones do not hold up the old.
    """

    def __init__(self, watches: Iterable[Watch], checked_at: Mapping[tuple[str, str], int]) -> None:
        self._queues: dict[tuple[str, Extras, bool], _Queue] = {}
        self._out: dict[Watch, tuple[int, bool]] = {}
        self._picked_first = False
        self._costs: Mapping[Extras, float] = {}
        self._latest = max(checked_at.values(), default=0)
        for watch in watches:
            checked = checked_at.get((watch.domain, watch.asin))
            if checked is None:
                self._put(watch, AT_ONCE, first=True)
            else:
                self._put(watch, next_due(watch, checked), first=False)

    def steer(self, now: int, purse: Purse) -> None:
        """Take over what checks cost; intervals stay fixed, whatever there is to spend."""
        self._costs = purse.costs

    def learn(self, watch: Watch, rhythm: Rhythm | None, price: int | None) -> None:
        """Take no notice: intervals stay fixed, whatever a check has taught."""

    def pick(
        self, now: int, most: int, tokens: float = math.inf, *, ahead_ms: int = 0
    ) -> Batch | None:
        """Take out the most overdue product, and up to `most` in all that can go with it.

        These are due `ahead_ms` after `now` at the latest, of the same marketplace, ask for the
        same, are like it checked before or not, and cost no more than `tokens` together. They are
        out until `done` or `retry`. None when nothing is due by `now`. `most` is at least 1.
        """
        if now < self._latest - CLOCK_SLACK_MS:
            self._clock_set_back(now)
        self._latest = max(self._latest, now)
        due = [key for key, queue in self._queues.items() if queue and queue.first_due <= now]
        if not due:
            return None
        in_turn = [key for key in due if key[-1] != self._picked_first] or due
        chosen = min(in_turn, key=lambda key: self._queues[key].first_due)
        domain, extras, self._picked_first = chosen
        most = min(most, fitting(tokens, self._costs.get(extras, 1.0)))
        taken = list(self._queues[chosen].take(now + ahead_ms, most))
        self._out.update((watch, (due_ms, self._picked_first)) for due_ms, watch in taken)
        watches = tuple(watch for _, watch in taken)
        return Batch(domain, watches, self._picked_first, extras)

    def done(self, watches: Iterable[Watch], now: int) -> None:
        """Plan picked products again that were checked at `now`. KeyError for one not out."""
        for watch in watches:
            due_ms, _ = self._out.pop(watch)
            # A check that came early was for the time it was due, which must not come again.
            self._put(watch, next_due(watch, max(now, due_ms)), first=False)

    def retry(self, watches: Iterable[Watch], at: int) -> None:
        """Plan picked products for `at` that could not be checked. KeyError for one not out."""
        for watch in watches:
            _, first = self._out.pop(watch)
            self._put(watch, at, first)

    def due_in(self, now: int) -> int | None:
        """Return the milliseconds until a product is due; None when there is no product at all.

        While every product is out, it is the time until the first would be due again.
        """
        times = [queue.first_due for queue in self._queues.values() if queue]
        times = times or [next_due(watch, now) for watch in self._out]
        return max(0, min(times) - now) if times else None

    def statistics(self, now: int) -> Statistics:
        """Return the state of the plan, at the cost of one look at each distinct due time."""
        slots = [slot for queue in self._queues.values() for slot in queue.sizes()]
        return Statistics(
            size=sum(size for _, size in slots) + len(self._out),
            due=sum(size for due_ms, size in slots if due_ms <= now),
            next_due_ms=max(now, min(due_ms for due_ms, _ in slots)) if slots else None,
            longest_overdue_ms=max(
                (now - due_ms for due_ms, _ in slots if AT_ONCE < due_ms <= now), default=0
            ),
        )

    def _put(self, watch: Watch, due_ms: int, first: bool) -> None:
        key = (watch.domain, watch.extras, first)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        queue.put(due_ms, watch)

    def _clock_set_back(self, now: int) -> None:
        """Plan anew what a clock that ran ahead has put off beyond its interval."""
        self._latest = now
        self._out = {watch: (min(due, now), first) for watch, (due, first) in self._out.items()}
        queues, self._queues = self._queues, {}
        for (*_, first), queue in queues.items():
            for due_ms, watch in queue:
                self._put(watch, min(due_ms, next_due(watch, now)), first)


class _Queue:
    """Products by due time; those due at the same time share a slot, first come first out.

    A slot costs eight bytes a product where a heap of products would cost over a hundred, and a
    batch comes out of it without a comparison.
    """

    def __init__(self) -> None:
        self._times: list[int] = []  # a heap of the keys of _slots
        self._slots: dict[int, deque[Watch]] = {}

    def __bool__(self) -> bool:
        return bool(self._times)

    def __iter__(self) -> Iterator[tuple[int, Watch]]:
        for due_ms, slot in self._slots.items():
            for watch in slot:
                yield due_ms, watch

    @property
    def first_due(self) -> int:
        """The earliest due time; IndexError when nothing waits."""
        return self._times[0]

    def put(self, due_ms: int, watch: Watch) -> None:
        """Let a product wait until it is due."""
        slot = self._slots.get(due_ms)
        if slot is None:
            slot = self._slots[due_ms] = deque()
            heapq.heappush(self._times, due_ms)
        slot.append(watch)

    def take(self, now: int, most: int) -> Iterator[tuple[int, Watch]]:
        """Remove and yield up to `most` products that are due by `now`, in due order."""
        while most > 0 and self._times and self._times[0] <= now:
            due_ms = self._times[0]
            slot = self._slots[due_ms]
            while most > 0 and slot:
                yield due_ms, slot.popleft()
                most -= 1
            if not slot:
                heapq.heappop(self._times)
                del self._slots[due_ms]

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yield each due time and how many products share it."""
        return ((due_ms, len(slot)) for due_ms, slot in self._slots.items())
