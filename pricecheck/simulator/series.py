"""The histories of a product, as Keepa keeps them: a step function for each csv type."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, compress, pairwise
from operator import add, ne
from typing import NamedTuple

from pricecheck.keepa.tables import NO_OFFER, SERIES
from pricecheck.simulator.world import DAY, Listing

_WEEK = 7 * DAY
_MONTH = 30 * DAY
_HALF_YEAR = 182 * DAY


class Series(NamedTuple):
    """One history, oldest first: from `minutes[i]` on the value was `values[i]`."""

    minutes: Sequence[int]
    values: Sequence[int]
    shippings: Sequence[int] | None = None

    def since(self, begin: int) -> Series:
        """Return the points after `begin`, and the one that was in force then."""
        first = max(0, bisect_right(self.minutes, begin) - 1)
        shippings = None if self.shippings is None else self.shippings[first:]
        return Series(self.minutes[first:], self.values[first:], shippings)

    def flat(self) -> list[int]:
        """Return Keepa's form: time, value, time, value, with shipping as a third."""
        columns = [self.minutes, self.values]
        if self.shippings is not None:
            columns.append(self.shippings)
        flat = [0] * (len(columns) * len(self.minutes))
        for offset, column in enumerate(columns):
            flat[offset :: len(columns)] = column
        return flat

    def with_shipping(self) -> Series:
        """Return the history of the price including shipping, which statistics are made of."""
        if self.shippings is None:
            return self
        unknown_is_free = (max(shipping, 0) for shipping in self.shippings)
        return Series(self.minutes, list(map(add, self.values, unknown_is_free)))


def histories(
    listing: Listing, now: int, *, buy_box: bool = False, offers: bool = False
) -> dict[int, Series]:
    """Return a product's histories until now by csv index; a type it has not is not in it.

    Keepa fills some types only when a call asks for the buy box or for offers.
    """
    known = bisect_right(listing.minutes, now)
    minutes, levels = listing.minutes[:known].tolist(), listing.levels[:known]

    def by_level(table: Sequence[int]) -> list[int]:
        return [table[level] for level in levels]

    new = by_level(listing.new)
    found = {
        "NEW": Series(minutes, new),
        "AMAZON": _changes(minutes, by_level(listing.amazon)),
        "USED": _changes(minutes, by_level(listing.used)),
        "SALES": _ranks(listing, now),
        "LISTPRICE": Series([listing.tracked_since], [listing.list_price]),
        "COUNT_NEW": _changes(minutes, by_level(listing.sellers)),
        "RATING": _ratings(listing, now),
        "COUNT_REVIEWS": _reviews(listing, now),
    }
    if buy_box or offers:
        found["BUY_BOX_SHIPPING"] = _shipped(minutes, new, by_level(listing.shipping))
    if offers:
        # The lowest new offer is sent by Amazon at some levels, by its merchant at the others.
        fba = [price if i % 3 else NO_OFFER for i, price in enumerate(listing.new)]
        fbm = [NO_OFFER if i % 3 else price for i, price in enumerate(listing.new)]
        found["NEW_FBA"] = _changes(minutes, by_level(fba))
        found["NEW_FBM_SHIPPING"] = _shipped(minutes, by_level(fbm), by_level(listing.shipping))
        found["WAREHOUSE"] = found["USED"]
    return {SERIES[name].index: series for name, series in found.items()}


def rank_at(listing: Listing, now: int) -> int:
    """Return a product's sales rank, which moves once a week around its place."""
    week = (now - listing.tracked_since) // _WEEK
    return 1 + int(listing.rank * (0.5 + listing.noise(week)))


class Integral:
    """Sums over a history, from which the average of any window ending now is two look-ups.

    Windows that begin before `begin` are not covered.
    """

    def __init__(self, series: Series, begin: int, now: int) -> None:
        self._minutes, self._values, _ = series.since(begin)
        self._now = now
        spans = [end - start for start, end in pairwise((*self._minutes, now))]
        worth = [v * span if v > 0 else 0 for v, span in zip(self._values, spans, strict=True)]
        stocked = [span if v >= 0 else 0 for v, span in zip(self._values, spans, strict=True)]
        self._worth = list(accumulate(worth, initial=0))
        self._stocked = list(accumulate(stocked, initial=0))

    def average(self, begin: int) -> int:
        """Return the time-weighted average since `begin`, without the times of no offer; or -1.

        Its fraction is cut off, as Keepa does.
        """
        worth, stocked = self._until(begin)
        in_stock = self._stocked[-1] - stocked
        return (self._worth[-1] - worth) // in_stock if in_stock else NO_OFFER

    def out_of_stock_percent(self, begin: int) -> int:
        """Return the share of the time since `begin` that was without an offer."""
        length = self._now - max(begin, self._minutes[0])
        in_stock = self._stocked[-1] - self._until(begin)[1]
        return round(100 * (length - in_stock) / length) if length else 0

    def _until(self, minute: int) -> tuple[int, int]:
        i = bisect_right(self._minutes, minute) - 1
        if i < 0:
            return 0, 0
        span, value = minute - self._minutes[i], self._values[i]
        stocked = self._stocked[i] + (span if value >= 0 else 0)
        return self._worth[i] + max(value, 0) * span, stocked


def _changes(minutes: Sequence[int], values: Sequence[int]) -> Series:
    """Keep the first point and those that brought another value."""
    changed = [True, *map(ne, values[1:], values)]
    return Series(list(compress(minutes, changed)), list(compress(values, changed)))


def _shipped(minutes: Sequence[int], prices: Sequence[int], shippings: Sequence[int]) -> Series:
    """Let every point have its shipping; a recorded series of this kind repeats equal points.

    Here and there the shipping is unknown.
    """
    points = zip(minutes, prices, shippings, strict=True)
    known = [NO_OFFER if p < 0 or m % 16 == 0 else s for m, p, s in points]
    return Series(minutes, prices, known)


def _ranks(listing: Listing, now: int) -> Series:
    weeks = range(listing.tracked_since, now + 1, _WEEK)
    return Series(weeks, [rank_at(listing, minute) for minute in weeks])


def _ratings(listing: Listing, now: int) -> Series:
    times = range(listing.tracked_since, now + 1, _HALF_YEAR)
    ratings = [listing.rating + int(3 * listing.noise(-1 - i)) - 1 for i in range(len(times))]
    return _changes(times, ratings)


def _reviews(listing: Listing, now: int) -> Series:
    times = range(listing.tracked_since, now + 1, _MONTH)
    return Series(times, [listing.reviews + listing.reviews_a_month * i for i in range(len(times))])
