"""Which products to check next, so that what we show is wrong for as short as tokens allow.

Each product is due when the worth of its check (age.worth) has come to the price of the tokens
it costs. The price is steered so that planned spending meets what the other tasks leave of the
refill: solved for from time to time, and bent by how full the bucket is in between.

Products of the same terms (rate and weight in steps, the same cost, floor and ceiling) wait in
one line, in the order of their last checks: whatever the price, the first of a line is due
first. So only lines are kept in heaps, a new price takes a look at each line and not at each
product, and a product takes two dozen bytes. The planner knows no clock: every time is a
parameter, in Unix milliseconds, and the same calls make the same plan.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Final

import msgspec

from pricecheck.age import Terms, due_wait, worth
from pricecheck.economy import Settlement, nearness, settle
from pricecheck.extras import Extras
from pricecheck.lines import Kind, Line
from pricecheck.planner import CLOCK_SLACK_MS, Batch, Purse, Statistics, fitting
from pricecheck.rhythm import TYPICAL_RATE, Rhythm
from pricecheck.rush import Rush
from pricecheck.watchlist import Watch

_DAY_S: Final = 86_400
_DAY_MS: Final = _DAY_S * 1000
_MINUTE_MS: Final = 60_000

_STEPS: Final = 4
"""Steps of rate and weight to a doubling: within one, waits differ by 3 % from what is best."""

_SOLVE_EVERY_MS: Final = 10 * _MINUTE_MS
_MOVED: Final = 0.02
"""The price is solved for so often, or when the budget or a cost has moved by such a share."""

_RUSH_STEP: Final = 0.2
"""A marketplace's rush is followed when it has moved by such a share."""

_BEND: Final = 1.4
_BEND_STEPS: Final = 8
"""A full bucket makes a check cheaper, and one down to the reserve dearer, by at most this much
in the logarithm of the price; less where products are many, for then a little of it brings
forward a bucketful of checks. The lines are put in order anew after an eighth of it."""

_TRIM: Final = 0.1
_TRIM_MOST: Final = 0.7
"""The share of the bend that stays at each solving of the price: slowly, what the price was
wrong by is learned. The most that may come of it, in the logarithm."""

_BRIM_MINUTES: Final = 2
"""A bucket that would overflow in so many minutes is spent from, whatever the price."""

_ASIN: Final = attrgetter("asin")
_NOTHING: Final = Rhythm(0)
_LONGEST_MS: Final = 3650 * _DAY_MS


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What the last check of a product has left behind."""

    domain: str
    asin: str
    checked_at: int  # Unix ms
    rhythm: Rhythm | None = None
    price: int | None = None  # in the smallest unit


class AdaptivePlanner:
    """All products of a watchlist: those waiting in lines, and those picked and not yet back.

    `seen` is what is known of products, in any order; one of the watchlist that it lacks is due
    at once. `min_every_s` is the least wait between two checks of a product, and `reserve` the
    share of the bucket that is left to others.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        seen: Iterable[Seen] = (),
        *,
        min_every_s: int = 0,
        reserve: float = 0.1,
    ) -> None:
        self._min_every_s = min_every_s
        self._reserve = reserve
        self._kinds: dict[tuple[str, Extras, bool], Kind] = {}
        self._lines: list[Line] = []
        self._lines_by_terms: dict[tuple[str, Extras, int, int, int], Line] = {}
        self._out: dict[Watch, _Out] = {}
        self._size = 0
        self._picked_first = False
        self._latest = 0
        self._purse: Purse | None = None
        self._spendable = math.inf
        self._settled = Settlement(math.inf, 0.0, 0.0)
        self._solved_ms = 0
        self._price = math.inf
        self._reach = _BEND
        self._trim = 0.0
        self._changes = self._days = 0.0
        self._rushes: defaultdict[str, Rush] = defaultdict(Rush)
        self._factors: dict[str, float] = {}
        self._settle_in(watches, seen)

    @property
    def settlement(self) -> Settlement:
        """The price that the plan is made of, its budget, and whether ceilings hold."""
        return self._settled

    @property
    def rushes(self) -> dict[str, float]:
        """How many times as often as usual prices change, of the marketplaces where they do."""
        return {domain: factor for domain, factor in self._factors.items() if factor != 1}

    def classes(self) -> list[tuple[Terms, int]]:
        """Return the terms of all products that were ever checked, and how many have them."""
        sizes: defaultdict[Terms, int] = defaultdict(int)
        for line in self._lines:
            if line.size:
                sizes[line.terms] += line.size
        return list(sizes.items())

    def steer(self, now: int, purse: Purse) -> None:
        """Take over what there is to spend now; to be called before each `pick`."""
        before, self._purse = self._purse, purse
        self._spendable = math.inf
        if purse.refill > 0:
            self._spendable = purse.tokens - self._reserve * purse.capacity
        if before is None or purse.costs != before.costs:
            self._take_costs(purse.costs)
        stale = self._take_rushes() or not 0 <= now - self._solved_ms < _SOLVE_EVERY_MS
        stale = stale or _moved(purse.budget, self._settled.budget)
        if stale:
            for line in self._lines if self._factors else ():
                self._hurry(line)
            self._reach = self._bend()
        bend = self._reach * (1 - 2 * self._fullness())
        if stale:
            self._settled = settle(self.classes(), purse.budget, self._settled.price)
            self._trim = min(max(self._trim + _TRIM * bend, -_TRIM_MOST), _TRIM_MOST)
            self._solved_ms = now
        price = self._settled.price * math.exp(self._trim + bend)
        if stale or _moved(price, self._price, self._reach / _BEND_STEPS):
            self._reprice(price)

    def pick(
        self, now: int, most: int, tokens: float = math.inf, *, ahead_ms: int = 0
    ) -> Batch | None:
        """Take out the product whose check is worth most, and up to `most` that go with it.

        Those are due `ahead_ms` after `now` at the latest, of the same marketplace, ask for the
        same, are like it checked before or not, and cost no more than `tokens` together. They are
        out until `done` or `retry`. None when nothing is due by `now`, or there are no tokens for
        it. `most` is at least 1.
        """
        if now < self._latest - CLOCK_SLACK_MS:
            self._clock_set_back(now)
        self._latest = max(self._latest, now)
        chosen = self._due(now)
        if self._brimming():
            if chosen is None and self._cheapen(now):
                chosen = self._due(now)
            if chosen is not None:
                most = min(most, self._brim(chosen))
        elif chosen is not None:
            most = min(most, self._affordable(chosen))
        if chosen is None or most < 1:
            return None
        domain, extras, self._picked_first = chosen
        most = min(most, fitting(tokens, self._cost(extras)))
        kind = self._kinds[chosen]
        watches = []
        for watch, line, checked_at in kind.take(now + ahead_ms, most):
            self._out[watch] = _Out(line, checked_at)
            watches.append(watch)
        self._spendable -= len(watches) * self._cost(extras)
        return Batch(domain, tuple(watches), self._picked_first, extras)

    def learn(self, watch: Watch, rhythm: Rhythm | None, price: int | None) -> None:
        """Take over what the check of a picked product has taught. KeyError for one not out."""
        out = self._out[watch]
        if rhythm is not None:
            self._observe(rhythm)
            if out.line is not None:
                self._rushes[watch.domain].observe(rhythm, out.line.rate)
        line = self._line_for(watch, rhythm, nearness(price, watch.target_price))
        line.size += 1
        if out.line is not None:
            out.line.size -= 1
        out.line = line

    def done(self, watches: Iterable[Watch], now: int) -> None:
        """Plan picked products again that were checked at `now`. KeyError for one not out."""
        for watch in watches:
            line = self._out.pop(watch).line
            if line is None:
                line = self._line_for(watch, None, 1.0)
                line.size += 1
            line.append(watch, now)

    def retry(self, watches: Iterable[Watch], at: int) -> None:
        """Plan picked products for `at` that could not be checked. KeyError for one not out."""
        for watch in watches:
            out = self._out.pop(watch)
            first = out.checked_at is None
            kind = self._kind(watch.domain, watch.extras, first)
            kind.put_back(watch, out.line, out.checked_at, at)

    def due_in(self, now: int) -> int | None:
        """Return the milliseconds until it is worth while to pick; None without any product.

        At most a minute: the price moves with the bucket.
        """
        if not self._size:
            return None
        due = min((kind.first_due for kind in self._kinds.values()), default=math.inf)
        wait = max(0.0, due - now)
        chosen = self._due(now)
        if chosen is not None and self._affordable(chosen) < 1 and self._purse is not None:
            missing = self._cost(chosen[1]) - self._spendable
            wait = max(wait, missing / self._purse.refill * _MINUTE_MS)
        return int(min(wait, _MINUTE_MS))

    def statistics(self, now: int) -> Statistics:
        """Return the state of the plan, at the cost of one look at each line."""
        kinds = self._kinds.values()
        first_due = min((kind.first_due for kind in kinds), default=math.inf)
        overdue = min((kind.first_planned for kind in kinds), default=math.inf)
        return Statistics(
            size=self._size,
            due=sum(kind.due(now) for kind in kinds),
            next_due_ms=max(now, int(first_due)) if first_due < math.inf else None,
            longest_overdue_ms=int(max(0, now - overdue)) if overdue < math.inf else 0,
        )

    # How the plan is filled.

    def _settle_in(self, watches: Sequence[Watch], seen: Iterable[Seen]) -> None:
        # Rows in order and columns of few bytes: a million objects more, or a table of them,
        # would weigh more than all the rest.
        rows: defaultdict[str, list[Watch]] = defaultdict(list)
        for watch in watches:
            rows[watch.domain].append(watch)
            self._size += 1
        for row in rows.values():
            row.sort(key=_ASIN)
        found = {domain: bytearray(len(row)) for domain, row in rows.items()}
        known: list[Watch] = []
        checked, near, rhythms = array("q"), array("f"), array("f")
        for one in seen:
            row = rows[one.domain]
            at = bisect_left(row, one.asin, key=_ASIN)
            if at < len(row) and row[at].asin == one.asin and not found[one.domain][at]:
                found[one.domain][at] = True
                _, changes, days, _, *recent = msgspec.structs.astuple(one.rhythm or _NOTHING)
                known.append(row[at])
                checked.append(one.checked_at)
                near.append(nearness(one.price, row[at].target_price))
                rhythms.extend((changes, days, *recent))
        if len(known) < self._size:
            for watch in watches:
                if not found[watch.domain][bisect_left(rows[watch.domain], watch.asin, key=_ASIN)]:
                    self._kind(watch.domain, watch.extras, first=True).put_new(watch)
        rows.clear()
        self._latest = max(checked, default=0)
        self._changes, self._days = math.fsum(rhythms[::5]), math.fsum(rhythms[1::5])
        for i, watch in enumerate(known):
            changes, days, *recent = rhythms[5 * i : 5 * i + 5]
            rhythm = Rhythm(0, changes, days, 0, *recent)
            line = self._line_for(watch, rhythm, near[i])
            line.size += 1
            line.fill(watch, checked[i])
        for line in self._lines:
            line.arrange()

    def _kind(self, domain: str, extras: Extras, first: bool) -> Kind:
        kind = self._kinds.get((domain, extras, first))
        if kind is None:
            kind = self._kinds[domain, extras, first] = Kind()
        return kind

    def _line_for(self, watch: Watch, rhythm: Rhythm | None, near: float) -> Line:
        rate = (rhythm or _NOTHING).rate(self.prior)
        weight = watch.weight * near
        rate_step = round(math.log2(rate) * _STEPS)
        weight_step = round(math.log2(weight) * _STEPS)
        key = (watch.domain, watch.extras, rate_step, weight_step, watch.every_s)
        line = self._lines_by_terms.get(key)
        if line is None:
            terms = Terms(
                rate=2 ** (rate_step / _STEPS),
                weight=2 ** (weight_step / _STEPS),
                cost=self._cost(watch.extras),
                floor=min(self._min_every_s, watch.every_s) / _DAY_S,
                ceiling=watch.every_s / _DAY_S,
            )
            kind = self._kind(watch.domain, watch.extras, first=False)
            line = Line(kind, len(self._lines), watch.domain, watch.extras, terms)
            line.wait_ms = self._wait_ms(terms)
            if self._factors.get(watch.domain, 1.0) > 1:
                self._hurry(line)
                line.wait_ms = self._wait_ms(line.terms)
            self._lines.append(line)
            self._lines_by_terms[key] = line
        return line

    @property
    def prior(self) -> float:
        """The changes a day of a product of which nothing is known: the mean of all others."""
        return (0.5 + self._changes) / (0.5 / TYPICAL_RATE + self._days)

    def _observe(self, rhythm: Rhythm) -> None:
        """Let one product's newest figures replace one product's share of the sums."""
        kept = 1 - 1 / self._size
        self._changes = self._changes * kept + rhythm.changes
        self._days = self._days * kept + rhythm.days

    # What is due.

    def _due(self, now: int) -> tuple[str, Extras, bool] | None:
        """Return the kind to pick from: the most overdue, new products and old ones in turn."""
        due = [(kind.first_due, key) for key, kind in self._kinds.items() if kind.first_due <= now]
        if not due:
            return None
        in_turn = [one for one in due if one[1][2] != self._picked_first] or due
        return min(in_turn, key=itemgetter(0))[1]

    def _cost(self, extras: Extras) -> float:
        return self._purse.costs.get(extras, 1.0) if self._purse else 1.0

    def _affordable(self, chosen: tuple[str, Extras, bool]) -> int:
        return int(min(self._spendable / self._cost(chosen[1]), 1e9))

    # What a check is worth, and what it costs.

    def _fullness(self) -> float:
        """Return how full the bucket is above its reserve, from 0 to 1."""
        purse = self._purse
        if purse is None or purse.refill <= 0:
            return 0.5
        room = purse.capacity * (1 - self._reserve)
        return min(max(self._spendable / room, 0.0), 1.0) if room > 0 else 0.5

    def _bend(self) -> float:
        """Return how far the price gives way to the bucket: so that it moves about a bucketful."""
        assert self._purse is not None
        round_trip = sum(line.size * line.terms.cost for line in self._lines)
        bucketful = self._purse.budget / 24
        return min(_BEND, bucketful / round_trip) if round_trip else _BEND

    def _brim(self, chosen: tuple[str, Extras, bool]) -> int:
        """Return how many checks a brimming bucket calls for."""
        assert self._purse is not None
        return max(1, math.ceil(2 * _BRIM_MINUTES * self._purse.refill / self._cost(chosen[1])))

    def _brimming(self) -> bool:
        """Tell whether tokens are about to expire."""
        purse = self._purse
        if purse is None or purse.refill <= 0:
            return False
        left = self._spendable + self._reserve * purse.capacity
        return left > 0 and left >= purse.capacity - _BRIM_MINUTES * purse.refill

    def _cheapen(self, now: int) -> bool:
        """Lower the price to just under the worth of the best check; False if all are too soon."""
        best = 0.0
        for line in self._lines:
            if line:
                wait = (now - line.first_time) / _DAY_MS
                terms = line.terms
                if wait > 0 and wait >= terms.floor:
                    best = max(best, worth(wait, terms.rate, terms.weight) / terms.cost)
        if not 0 < best < self._price:
            return False
        self._reprice(best * (1 - _MOVED))
        return True

    def _take_costs(self, costs: Mapping[Extras, float]) -> None:
        for line in self._lines:
            cost = costs.get(line.extras, 1.0)
            if _moved(cost, line.terms.cost):
                line.terms = msgspec.structs.replace(line.terms, cost=cost)
                self._solved_ms = -_SOLVE_EVERY_MS

    def _take_rushes(self) -> bool:
        """Tell whether a marketplace has begun, changed or ended a rush since this was asked."""
        moved = False
        for domain, rush in self._rushes.items():
            if _moved(rush.factor, self._factors.get(domain, 1.0), _RUSH_STEP):
                self._factors[domain] = rush.factor
                moved = True
        return moved

    def _hurry(self, line: Line) -> None:
        """Plan a line with as many times its usual rate as its marketplace has seen in its wait."""
        rate = line.rate * self._rushes[line.domain].speed(line.wait_ms / _DAY_MS)
        if rate != line.terms.rate:
            line.terms = msgspec.structs.replace(line.terms, rate=rate)

    def _wait_ms(self, terms: Terms) -> int:
        wait = due_wait(self._settled.bounded(terms), self._price)
        return int(min(max(1.0, wait * _DAY_MS), _LONGEST_MS))

    def _reprice(self, price: float) -> None:
        self._price = price
        for line in self._lines:
            line.wait_ms = self._wait_ms(line.terms)
        for kind in self._kinds.values():
            kind.order(line for line in self._lines if line.kind is kind)

    def _clock_set_back(self, now: int) -> None:
        """Plan anew what a clock that ran ahead has put off."""
        self._latest = now
        for line in self._lines:
            line.clamp(now)
        for kind in self._kinds.values():
            kind.clamp(now)
        for out in self._out.values():
            out.checked_at = None if out.checked_at is None else min(out.checked_at, now)
        self._reprice(self._price)


class _Out:
    """A product that was picked and is not back."""

    __slots__ = ("checked_at", "line")

    def __init__(self, line: Line | None, checked_at: int | None) -> None:
        self.line = line
        self.checked_at = checked_at


def _moved(value: float, before: float, share: float = _MOVED) -> bool:
    """Tell whether a figure is another one by more than a share."""
    if not 0 < before < math.inf or not 0 < value < math.inf:
        return value != before
    return abs(math.log(value / before)) > share
