"""The policies that are measured against each other."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from pricecheck.adaptive import AdaptivePlanner, Seen
from pricecheck.extras import PLAIN
from pricecheck.planner import Purse
from pricecheck.rhythm import Rhythm, follow
from pricecheck.watchlist import Watch
from scripts.planner_bench.run import Policy, staggered
from scripts.planner_bench.worlds import HISTORY, World

_EPOCH_MINUTES: Final = 8_000_000
_EPOCH_MS: Final = 1_800_000_000_000
_DAY_MINUTES: Final = 1440
_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_FLOOR_S: Final = 900
_NEVER: Final = 1e6  # days of half-life: nothing is forgotten
_PLAN: Final = 20.0
"""Tokens a minute, unless told; a budget of fewer checks means that each costs more."""

_SHORTEST: Final = 1 / 48
_LONGEST: Final = 60.0
"""Between these days the double-or-halve heuristic keeps its intervals."""


def minute(at: float) -> int:
    """Return the Keepa minute of a day of the run."""
    return _EPOCH_MINUTES + math.floor(at * _DAY_MINUTES)


def learned(world: World, i: int, until: float, half_life_days: float) -> Rhythm:
    """Return what the product's history before the run has taught."""
    times = world.changes[i]
    known = map(minute, times[: bisect_right(times, until)])
    return follow(Rhythm(minute(-HISTORY)), known, minute(until), half_life_days)


class RoundRobin:
    """Every product in turn."""

    def __init__(self, world: World, budget: float) -> None:
        self._count = len(world.rates)

    def checks(self, budget: float) -> Iterator[tuple[float, int]]:
        """Go round."""
        k = 0
        while True:
            k += 1
            yield k / budget, (k - 1) % self._count

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        """Learn nothing."""


class _Intervals:
    """Every product at an interval of its own; the earliest due is checked next, be it late."""

    def __init__(self, world: World, budget: float) -> None:
        self._last = staggered(len(world.rates), budget)

    def checks(self, budget: float) -> Iterator[tuple[float, int]]:
        """Check what is due first, at an even pace."""
        heap = [(last + self.interval(i), i) for i, last in enumerate(self._last)]
        heapq.heapify(heap)
        k = 0
        while True:
            k += 1
            at = k / budget
            i = heap[0][1]
            yield at, i
            heapq.heapreplace(heap, (at + self.interval(i), i))

    def interval(self, i: int) -> float:
        raise NotImplementedError


class PowerOfRate(_Intervals):
    """As often as some power of its learned rate says: 1 is proportional, 0.5 the square root."""

    def __init__(self, world: World, budget: float, power: float) -> None:
        super().__init__(world, budget)
        self._budget = budget
        self._power = power
        self._rhythms = [learned(world, i, at, _NEVER) for i, at in enumerate(self._last)]
        known = sum(rhythm.changes for rhythm in self._rhythms)
        self._prior = known / sum(rhythm.days for rhythm in self._rhythms)
        self._shares = [rhythm.rate(self._prior) ** power for rhythm in self._rhythms]
        self._sum = sum(self._shares)

    def interval(self, i: int) -> float:
        """Share the budget by the power of the rates."""
        return float(self._sum / (self._budget * self._shares[i]))

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        """Learn the rate."""
        rhythm = follow(self._rhythms[i], map(minute, changes), minute(at), _NEVER)
        share: float = rhythm.rate(self._prior) ** self._power
        self._sum += share - self._shares[i]
        self._rhythms[i], self._shares[i] = rhythm, share


class DoubleOrHalve(_Intervals):
    """Twice the interval after a check that found nothing, half of it after one that did."""

    def __init__(self, world: World, budget: float) -> None:
        super().__init__(world, budget)
        self._intervals = [len(world.rates) / budget] * len(world.rates)

    def interval(self, i: int) -> float:
        """Return the product's own."""
        return self._intervals[i]

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        """Double or halve."""
        factor = 0.5 if changes else 2.0
        self._intervals[i] = min(max(self._intervals[i] * factor, _SHORTEST), _LONGEST)


class BestFreshness(_Intervals):
    """What makes most copies right, rates known: what changes too often is given up."""

    def __init__(self, world: World, budget: float) -> None:
        super().__init__(world, budget)
        low, high = 1e-12, 1 / min(world.rates)
        for _ in range(60):
            middle = math.sqrt(low * high)
            spent = sum(1 / wait for rate in world.rates if (wait := _fresh_wait(rate, middle)))
            low, high = (middle, high) if spent > budget else (low, middle)
        self._waits = [_fresh_wait(rate, high) or math.inf for rate in world.rates]

    def interval(self, i: int) -> float:
        """Return the product's own; infinity for never."""
        return self._waits[i]

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        """Learn nothing."""


def _fresh_wait(rate: float, price: float) -> float | None:
    """Return the wait at which one more check a day adds `price` to the share of right copies."""
    y = price * rate
    if y >= 1:
        return None
    # P(2, x) = y, by Newton from the left, where P is steep or from its inflection at 1.
    x = min(math.sqrt(2 * y), 1.0)
    for _ in range(60):
        step = (1 - (1 + x) * math.exp(-x) - y) / (x * math.exp(-x))
        x -= step
        if abs(step) < 1e-9 * x:
            break
    return x / rate


class AgeIndex:
    """pricecheck's own planner, with the token bucket of a plan of 20 tokens a minute.

    Rates are learned as the daemon learns them, or given.
    """

    def __init__(
        self,
        world: World,
        budget: float,
        *,
        rates: list[float] | None = None,
        half_life_days: float = 30.0,
        every_s: int = 21_600,
        refill: float = _PLAN,
        spoil: Callable[[Rhythm], Rhythm] = lambda rhythm: rhythm,
    ) -> None:
        last = staggered(len(world.rates), budget)
        self._half_life = half_life_days
        self._rates = rates
        self._refill = refill
        self._cost = refill * _DAY_MINUTES / budget
        self._watches = [
            Watch(f"B{i:09d}", world.domain(i), weight, None, every_s)
            for i, weight in enumerate(world.weights)
        ]
        self._numbers = {watch: i for i, watch in enumerate(self._watches)}
        self.rhythms = [
            self.certain(rates[i]) if rates else spoil(learned(world, i, at, half_life_days))
            for i, at in enumerate(last)
        ]
        seen = (
            Seen(watch.domain, watch.asin, _ms(at), rhythm)
            for watch, at, rhythm in zip(self._watches, last, self.rhythms, strict=True)
        )
        self.planner = AdaptivePlanner(self._watches, seen, min_every_s=_FLOOR_S)

    @staticmethod
    def certain(rate: float) -> Rhythm:
        """Return what one would remember of a history without end."""
        return Rhythm(minute(0), rate * 1e9, 1e9)

    def checks(self, budget: float) -> Iterator[tuple[float, int]]:
        """Ask the planner each minute, as the price task does."""
        planner, numbers, watches = self.planner, self._numbers, self._watches
        refill = self._refill
        level = capacity = refill * 60
        step = 0
        while True:
            step += 1
            now = _EPOCH_MS + step * _MINUTE_MS
            level = min(level + refill, capacity)
            planner.steer(now, Purse(level, capacity, refill, costs={PLAIN: self._cost}))
            while batch := planner.pick(now, 100):
                for watch in batch.watches:
                    i = numbers[watch]
                    yield step / _DAY_MINUTES, i
                    planner.learn(watches[i], self.rhythms[i], None)
                planner.done(batch.watches, now)
                level -= self._cost * len(batch.watches)

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        """Learn the rate."""
        if self._rates is None:
            self.rhythms[i] = follow(
                self.rhythms[i], map(minute, changes), minute(at), self._half_life
            )


def _ms(at: float) -> int:
    return _EPOCH_MS + math.floor(at * _DAY_MS)


POLICIES: Final[dict[str, Callable[[World, float], Policy]]] = {
    "round robin": RoundRobin,
    "proportional to rate, learned": partial(PowerOfRate, power=1.0),
    "double or halve": DoubleOrHalve,
    "best freshness, rates known": BestFreshness,
    "square root of rate, learned": partial(PowerOfRate, power=0.5),
    "age index, learned": AgeIndex,
}
"""What is in the table, in its order."""
