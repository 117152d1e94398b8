"""/deal and /bestsellers: views of the same world that /product shows.

A deal is a product of a category's pool whose price stands at least 10 % under its average, and
changed within the date range; so deals come and go as prices move.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from pricecheck.keepa.tables import DEALS_PER_PAGE, NO_OFFER, PRICE_TYPES, SERIES
from pricecheck.simulator import titles
from pricecheck.simulator.series import Integral, Series, histories, rank_at
from pricecheck.simulator.settings import Settings
from pricecheck.simulator.world import DAY, Listing, find, keyboards, pool

COST: Final = 5
"""Tokens for a page of deals."""

BESTSELLERS_COST: Final = 50
"""Tokens for a list of best sellers."""

_LEAST_PERCENT = 10
# The windows of the averages; Keepa's 'day' is in fact the last 48 hours (its Java client).
_AVERAGED_DAYS = (2, 7, 31, 90)
_CHANGED_WITHIN_DAYS = (1, 7, 31, 90)
_HOUR = 60


class Selection(msgspec.Struct, frozen=True, rename="camel"):
    """What a /deal call asks for (DealRequest of Keepa's Java client), as far as it is heeded."""

    domain_id: int | None = None
    page: Annotated[int, msgspec.Meta(ge=0)] = 0
    price_types: int | list[int] = 0
    date_range: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    include_categories: list[int] = []
    exclude_categories: list[int] = []
    title_search: str = ""  # every word of it stands in the title
    delta_range: tuple[int, int] | None = None
    delta_percent_range: tuple[int, int] | None = None
    delta_last_range: tuple[int, int] | None = None
    current_range: tuple[int, int] | None = None
    sales_rank_range: tuple[int, int] | None = None
    min_rating: int = -1  # 0 to 50
    has_reviews: bool = False
    sort_type: int = 1  # 1 age, 2 absolute, 3 rank, 4 per cent; negative: the other way round
    is_range_enabled: bool = False
    is_filter_enabled: bool = False

    @property
    def price_type(self) -> int | None:
        """The one csv index asked for, or None where it is not one."""
        if isinstance(self.price_types, int):
            return self.price_types
        return self.price_types[0] if len(self.price_types) == 1 else None


class Deal(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A deal as /deal answers it: by csv index, or by interval and then by csv index."""

    asin: str
    parent_asin: str | None = None
    title: str  # holds HTML's entities
    current: list[int]
    avg: list[list[int]]
    delta: list[list[int]]
    delta_percent: list[list[int]]
    delta_last: list[int]
    current_since: list[int]
    creation_date: int
    last_update: int
    lightning_end: int = 0
    root_cat: int
    categories: list[int]
    image: list[int]  # ASCII codes
    min_rating: int = -1
    warehouse_condition: int = 0


class Deals(msgspec.Struct, frozen=True, rename="camel"):
    """One page of deals, and the categories they stand in."""

    dr: list[Deal] = []
    category_ids: list[int] = []
    category_names: list[str] = []
    category_count: list[int] = []


class BestsellersList(msgspec.Struct, frozen=True, rename="camel"):
    """The best sellers of a category, best first."""

    domain_id: int
    last_update: int
    category_id: int | str
    asin_list: list[str]


def page(settings: Settings, selection: Selection, price_type: int, domain: int, now: int) -> Deals:
    """Return the page of deals that a selection asks for."""
    wanted = selection.include_categories or [keyboards(domain)]
    categories = [c for c in wanted if c not in selection.exclude_categories]
    found: dict[str, Deal] = {}
    counts = dict.fromkeys(categories, 0)
    for category in categories:
        for asin in pool(settings.seed, settings.not_found, domain, str(category)):
            listing = find(settings.seed, settings.not_found, domain, asin, now)
            if listing is None:
                continue
            deal = _deal(listing, category, price_type, selection.date_range, now)
            if deal is not None and _is_wanted(deal, selection, price_type):
                found[asin] = deal
                counts[category] += 1
    key = _order(selection, price_type)
    ordered = sorted(found.values(), key=key, reverse=selection.sort_type < 0)
    first = selection.page * DEALS_PER_PAGE
    return Deals(
        dr=ordered[first : first + DEALS_PER_PAGE],
        category_ids=list(counts),
        category_names=[titles.category(domain) for _ in counts],
        category_count=list(counts.values()),
    )


def bestsellers(settings: Settings, domain: int, category: str, now: int) -> BestsellersList | None:
    """Return a category's products by sales rank as of the last hour; None where there is none."""
    try:
        category_id: int | str = int(category)
    except ValueError:
        category_id = category  # a product group goes by its name
    if category_id in ("", 0) or category.startswith("-"):
        return None
    hour = now // _HOUR * _HOUR
    asins = pool(settings.seed, settings.not_found, domain, category)
    found = (find(settings.seed, settings.not_found, domain, asin, hour) for asin in asins)
    by_rank = sorted((rank_at(x, hour), x.asin) for x in found if x is not None)
    return BestsellersList(domain, hour, category_id, [asin for _, asin in by_rank])


def _deal(
    listing: Listing, category: int, price_type: int, date_range: int, now: int
) -> Deal | None:
    known = histories(listing, now)
    series = known.get(price_type)
    if series is None or series.values[-1] < 0:
        return None
    if series.minutes[-1] <= now - _CHANGED_WITHIN_DAYS[date_range] * DAY:
        return None
    average = _average(series, _AVERAGED_DAYS[date_range], now)
    if _percent(average, series.values[-1]) < _LEAST_PERCENT:
        return None
    current, since = _row(), _row()
    avg = [_row() for _ in _AVERAGED_DAYS]
    delta, percent = [[_row(0) for _ in _AVERAGED_DAYS] for _ in range(2)]
    last = _row(0)
    for i, each in known.items():
        current[i], since[i] = each.values[-1], each.minutes[-1]
        if len(each.values) > 1 and min(each.values[-2:]) >= 0:
            last[i] = each.values[-2] - each.values[-1]
        for interval, days in enumerate(_AVERAGED_DAYS):
            avg[interval][i] = mean = _average(each, days, now)
            if current[i] >= 0 and mean >= 0:
                delta[interval][i] = mean - current[i]
                percent[interval][i] = _percent(mean, current[i])
    return Deal(
        asin=listing.asin,
        title=html.escape(titles.title(listing)),
        current=current,
        avg=avg,
        delta=delta,
        delta_percent=percent,
        delta_last=last,
        current_since=since,
        creation_date=series.minutes[-1],
        last_update=now,
        root_cat=keyboards(listing.domain),
        categories=[category],
        image=list(titles.image(listing).encode("ascii")),
    )


def _is_wanted(deal: Deal, selection: Selection, price_type: int) -> bool:
    row = selection.date_range
    in_ranges = (
        _is_within(deal.delta[row][price_type], selection.delta_range)
        and _is_within(deal.delta_percent[row][price_type], selection.delta_percent_range)
        and _is_within(deal.delta_last[price_type], selection.delta_last_range)
        and _is_within(deal.current[price_type], selection.current_range)
        and _is_within(deal.current[SERIES["SALES"].index], selection.sales_rank_range)
    )
    title = html.unescape(deal.title).lower()
    passes = (
        deal.current[SERIES["RATING"].index] >= selection.min_rating
        and (not selection.has_reviews or deal.current[SERIES["COUNT_REVIEWS"].index] > 0)
        and all(word in title for word in selection.title_search.lower().split())
    )
    return (in_ranges or not selection.is_range_enabled) and (
        passes or not selection.is_filter_enabled
    )


def _order(selection: Selection, price_type: int) -> Callable[[Deal], tuple[int, str]]:
    """Return the sort key of a selection: newest, largest drop, best rank or highest per cent."""
    row, rank = selection.date_range, SERIES["SALES"].index

    def key(deal: Deal) -> tuple[int, str]:
        match abs(selection.sort_type):
            case 2:
                number = -deal.delta[row][price_type]
            case 3:
                number = deal.current[rank]
            case 4:
                number = -deal.delta_percent[row][price_type]
            case _:
                number = -deal.creation_date
        return number, deal.asin

    return key


def _is_within(number: int, limits: tuple[int, int] | None) -> bool:
    return limits is None or limits[0] <= number <= limits[1]


def _average(series: Series, days: int, now: int) -> int:
    begin = now - days * DAY
    return Integral(series, begin, now).average(begin)


def _percent(average: int, current: int) -> int:
    return round((average - current) * 100 / average) if average > 0 else 0


def _row(value: int = NO_OFFER) -> list[int]:
    return [value] * len(PRICE_TYPES)
