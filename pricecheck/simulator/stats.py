"""The statistics of a product, computed from the histories that the answer shows.

Where Keepa's documentation is silent they follow a recorded answer, whose statistics were computed
again from its histories.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from pricecheck.keepa.tables import NO_OFFER, PRICE_TYPES, PRICES, SERIES
from pricecheck.simulator.series import Integral, Series
from pricecheck.simulator.world import DAY

_NOT_ASKED = -2  # Keepa's value for what the call did not ask for
_SERIES: Final = len(PRICE_TYPES)
_PRICES = {series.index for series in PRICES}
_YEAR_DAYS = 365

_NO_EXTREME: Final = (NO_OFFER, NO_OFFER)

Extreme: TypeAlias = tuple[int, int] | None
"""The minute and the value of a minimum or maximum; None where there is none."""


class Stats(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The statistics of a product, by csv index; -1 or null where there is none."""

    current: list[int]
    avg: list[int]
    avg30: list[int]
    avg90: list[int]
    avg180: list[int]
    avg365: list[int]
    min: list[Extreme]
    max: list[Extreme]
    min_in_interval: list[Extreme]
    max_in_interval: list[Extreme]
    at_interval_start: list[int]
    is_lowest: list[bool]
    is_lowest90: list[bool]
    out_of_stock_percentage30: list[int]
    out_of_stock_percentage90: list[int]
    buy_box_price: int
    buy_box_shipping: int
    total_offer_count: int
    last_offers_update: int


def statistics(known: dict[int, Series], days: int, now: int) -> Stats:
    """Compute the statistics of a product over the last `days` and Keepa's fixed windows."""

    def blank() -> list[int]:
        return [NO_OFFER] * _SERIES

    begin, days90 = now - days * DAY, now - 90 * DAY
    box = known.get(SERIES["BUY_BOX_SHIPPING"].index)
    price, shipping = _NOT_ASKED, _NOT_ASKED
    if box is not None and box.shippings is not None:
        price, shipping = box.values[-1], box.shippings[-1]
    stats = Stats(
        current=blank(),
        avg=blank(),
        avg30=blank(),
        avg90=blank(),
        avg180=blank(),
        avg365=blank(),
        min=[None] * _SERIES,
        max=[None] * _SERIES,
        min_in_interval=[None] * _SERIES,
        max_in_interval=[None] * _SERIES,
        at_interval_start=blank(),
        is_lowest=[False] * _SERIES,
        is_lowest90=[False] * _SERIES,
        out_of_stock_percentage30=blank(),
        out_of_stock_percentage90=blank(),
        buy_box_price=price,
        buy_box_shipping=shipping,
        total_offer_count=known[SERIES["COUNT_NEW"].index].values[-1],
        last_offers_update=now,
    )
    averages = (
        (stats.avg, days),
        (stats.avg30, 30),
        (stats.avg90, 90),
        (stats.avg180, 180),
        (stats.avg365, _YEAR_DAYS),
    )
    for i, series in known.items():
        whole = series.with_shipping()
        interval = whole.since(begin)
        integral = Integral(whole, now - max(days, _YEAR_DAYS) * DAY, now)
        for averaged, window in averages:
            averaged[i] = integral.average(now - window * DAY)
        stats.current[i] = whole.values[-1]
        stats.at_interval_start[i] = interval.values[0] if whole.minutes[0] <= begin else NO_OFFER
        stats.min[i], stats.max[i] = _extremes(whole)
        if stats.min[i] is not None:
            stats.min_in_interval[i], stats.max_in_interval[i] = _extremes(interval, begin)
        stats.is_lowest[i] = _is_at(stats.current[i], stats.min[i])
        stats.is_lowest90[i] = _is_at(stats.current[i], _extremes(whole.since(days90))[0])
        if i in _PRICES:
            stats.out_of_stock_percentage30[i] = integral.out_of_stock_percent(now - 30 * DAY)
            stats.out_of_stock_percentage90[i] = integral.out_of_stock_percent(days90)
    return stats


def _extremes(series: Series, begin: int | None = None) -> tuple[Extreme, Extreme]:
    """Return the lowest and the highest value with the time when it was first reached.

    In an interval, what was in force at its `begin` counts from there, and (-1, -1) says that
    nothing was offered in it: so it stands in a recorded answer.
    """
    offered = [value for value in series.values if value >= 0]
    if not offered:
        return (None, None) if begin is None else (_NO_EXTREME, _NO_EXTREME)

    def first(value: int) -> tuple[int, int]:
        minute = series.minutes[series.values.index(value)]
        return (minute if begin is None else max(minute, begin), value)

    return first(min(offered)), first(max(offered))


def _is_at(current: int, extreme: Extreme) -> bool:
    return extreme is not None and current == extreme[1]
