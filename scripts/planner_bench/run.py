"""One run: a policy checks the products of a world, and what it showed is scored."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from scripts.planner_bench.worlds import LENGTH, WARM_UP, World

WHOLE: Final = (WARM_UP, LENGTH)


class Policy(Protocol):
    """Decides which product is checked when; told at each check what has changed."""

    def checks(self, budget: float) -> Iterator[tuple[float, int]]:
        """Yield time and product of one check after another, `budget` of them a day."""
        ...

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        """Take over what the check of a product at a time brought."""
        ...


class Score(NamedTuple):
    """What came of a run, after its warm-up; times in hours."""

    right: float  # the share of the time for which what we showed was right
    age: float
    delay: float  # mean, from a change to the check that saw it or the end
    late: float  # the 95th percentile of it
    caught: float  # the share of drops seen before the next change
    checks: float  # a day
    group_age: float  # of the products of more than common weight


class Tally:
    """Follows every product through a run."""

    def __init__(self, world: World, last: list[float], window: tuple[float, float]) -> None:
        self._begin, self._end = window
        self._changes = world.changes
        self._next = [
            bisect_right(times, at) for times, at in zip(world.changes, last, strict=True)
        ]
        self._aged = [0.0] * len(last)  # day^2
        self._wrong = 0.0
        self._delays: list[float] = []
        self._drops = self._caught = self._checks = 0

    def check(self, i: int, at: float) -> list[float]:
        """Count a check of product i; return the changes that it sees."""
        times = self._changes[i]
        begin = self._next[i]
        end = begin
        while end < len(times) and times[end] <= at:
            end += 1
        self._checks += at >= self._begin
        if end == begin:
            return []
        self._next[i] = end
        self._count(i, begin, end, at)
        # Whether a change was a drop is as good as a coin: every other one of a product.
        if times[end - 1] >= self._begin and (i + end) % 2:
            self._caught += 1
        return list(times[begin:end])

    def score(self, weights: list[float]) -> Score:
        """Return the score of a run that has ended."""
        for i, times in enumerate(self._changes):
            end = bisect_right(times, self._end)
            if self._next[i] < end:
                self._count(i, self._next[i], end, self._end)
        product_days = len(self._changes) * (self._end - self._begin)
        delays = sorted(self._delays)
        heavy = [aged for aged, weight in zip(self._aged, weights, strict=True) if weight > 1]
        return Score(
            right=1 - self._wrong / product_days,
            age=24 * sum(self._aged) / product_days,
            delay=24 * sum(delays) / len(delays),
            late=24 * delays[int(0.95 * len(delays))],
            caught=self._caught / self._drops,
            checks=self._checks / (self._end - self._begin),
            group_age=24 * sum(heavy) / max(len(heavy), 1) / (self._end - self._begin),
        )

    def _count(self, i: int, begin: int, end: int, at: float) -> None:
        times = self._changes[i]
        first = times[begin]
        start = max(first, self._begin)
        if at > start:
            self._wrong += at - start
            self._aged[i] += ((at - first) ** 2 - (start - first) ** 2) / 2
        for k in range(begin, end):
            if times[k] >= self._begin:
                self._delays.append(at - times[k])
                self._drops += (i + k + 1) % 2


def staggered(count: int, budget: float) -> list[float]:
    """Return when each product was last checked before the run: in one round, evenly spread."""
    return [(i + 1 - count) / budget for i in range(count)]


def run(policy: Policy, world: World, budget: float, window: tuple[float, float] = WHOLE) -> Score:
    """Let a policy spend `budget` checks a day on a world; score what came of it in the window."""
    tally = Tally(world, staggered(len(world.rates), budget), window)
    check, seen = tally.check, policy.seen
    for at, i in policy.checks(budget):
        if at >= window[1]:
            break
        seen(i, at, check(i, at))
    return tally.score(list(world.weights))
