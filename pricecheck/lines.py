"""The queues of the adaptive planner: products of equal terms in lines, lines in heaps.

Nothing here knows what a check is worth; a line is told how long its products wait.
"""

from __future__ import annotations

import heapq
import math
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from pricecheck.age import Terms
from pricecheck.extras import Extras
from pricecheck.planner import AT_ONCE
from pricecheck.watchlist import Watch

_SHORT: Final = 32


class Line:
    """Products that wait equally long, in the order of their last checks."""

    __slots__ = (
        "_head",
        "_times",
        "_watches",
        "domain",
        "extras",
        "kind",
        "number",
        "rate",
        "size",
        "terms",
        "wait_ms",
    )

    def __init__(self, kind: Kind, number: int, domain: str, extras: Extras, terms: Terms) -> None:
        self.kind = kind
        self.number = number
        self.domain = domain
        self.extras = extras
        self.terms = terms
        self.rate = terms.rate  # the usual one, where that of the terms is of a rush
        self.size = 0  # with those that are out
        self.wait_ms = 0
        self._times = array("q")
        self._watches: list[Watch | None] = []
        self._head = 0  # what is before it has left

    def __bool__(self) -> bool:
        return self._head < len(self._times)

    @property
    def first_time(self) -> int:
        """When the first was checked; IndexError when nobody waits."""
        return self._times[self._head]

    @property
    def first_due(self) -> int:
        """When the first is due; IndexError when nobody waits."""
        return self._times[self._head] + self.wait_ms

    def append(self, watch: Watch, checked_at: int) -> None:
        """Let a product wait that was checked at a time; the kind learns of a new first one."""
        alone = not self
        # Out of order only by a small step of the clock, or where calls overtake each other.
        self._times.append(checked_at if alone else max(checked_at, self._times[-1]))
        self._watches.append(watch)
        if alone:
            self.kind.enter(self)

    def fill(self, watch: Watch, checked_at: int) -> None:
        """Let a product wait, in no order yet; `arrange` is to follow."""
        self._times.append(checked_at)
        self._watches.append(watch)

    def arrange(self) -> None:
        """Put what `fill` brought in order."""
        order = sorted(range(len(self._times)), key=self._times.__getitem__)
        self._times = array("q", (self._times[i] for i in order))
        self._watches = [self._watches[i] for i in order]
        if self:
            self.kind.enter(self)

    def pop(self) -> tuple[Watch, int]:
        """Remove the first; return it, and when it was checked."""
        head = self._head
        watch, checked_at = self._watches[head], self._times[head]
        self._watches[head] = None
        self._head = head = head + 1
        if head > _SHORT and head * 2 > len(self._times):
            del self._times[:head]
            del self._watches[:head]
            self._head = 0
        assert watch is not None  # only those before the head have left
        return watch, checked_at

    def due(self, now: int) -> int:
        """Return how many are due."""
        return bisect_right(self._times, now - self.wait_ms, self._head) - self._head

    def clamp(self, now: int) -> None:
        """Let nobody have been checked in the future."""
        self._times = array("q", (min(time, now) for time in self._times))


class Kind:
    """What may go into one batch: lines by due time, new products, and those to be retried."""

    __slots__ = ("_heap", "_later", "_lines", "_new", "_turns")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []  # due time and number of each line not empty
        self._lines: dict[int, Line] = {}
        self._new: deque[Watch] = deque()
        self._later: list[tuple[int, int, Watch, Line | None, int | None]] = []
        self._turns = 0

    @property
    def first_due(self) -> float:
        """When the next is due; infinity when nobody waits."""
        return AT_ONCE if self._new else self.first_planned

    @property
    def first_planned(self) -> float:
        """When the next is due of those planned for a time."""
        due: float = self._heap[0][0] if self._heap else math.inf
        return min(due, self._later[0][0]) if self._later else due

    def put_new(self, watch: Watch) -> None:
        """Let a product wait that was never checked."""
        self._new.append(watch)

    def put_back(
        self, watch: Watch, line: Line | None, checked_at: int | None, due_ms: int
    ) -> None:
        """Let a product wait until a certain time, outside of any line."""
        self._turns += 1
        heapq.heappush(self._later, (due_ms, self._turns, watch, line, checked_at))

    def enter(self, line: Line) -> None:
        """Take in a line that was empty."""
        self._lines[line.number] = line
        heapq.heappush(self._heap, (line.first_due, line.number))

    def order(self, lines: Iterable[Line]) -> None:
        """Put all lines in order anew: their waits are others."""
        self._heap = [(line.first_due, line.number) for line in lines if line]
        heapq.heapify(self._heap)

    def take(self, now: int, most: int) -> Iterator[tuple[Watch, Line | None, int | None]]:
        """Remove and yield up to `most` that are due, with their lines and last checks."""
        while most > 0:
            due = self._heap[0][0] if self._heap else math.inf
            if self._later and self._later[0][0] <= min(now, due):
                yield heapq.heappop(self._later)[2:]
            elif due <= now:
                line = self._lines[self._heap[0][1]]
                watch, checked_at = line.pop()
                if line:
                    heapq.heapreplace(self._heap, (line.first_due, line.number))
                else:
                    heapq.heappop(self._heap)
                yield watch, line, checked_at
            elif self._new:
                yield self._new.popleft(), None, None
            else:
                return
            most -= 1

    def due(self, now: int) -> int:
        """Return how many are due."""
        lines = sum(self._lines[number].due(now) for due_ms, number in self._heap if due_ms <= now)
        return lines + len(self._new) + sum(one[0] <= now for one in self._later)

    def clamp(self, now: int) -> None:
        """Let nobody wait for a time that a wrong clock has named, nor have been checked then."""
        self._later = [
            (min(due_ms, now), turn, watch, line, None if at is None else min(at, now))
            for due_ms, turn, watch, line, at in self._later
        ]
