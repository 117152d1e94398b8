"""Product objects: histories, statistics and prices in tokens."""

from __future__ import annotations

import json
from bisect import bisect_right
from itertools import pairwise
from statistics import fmean
from typing import Any

import msgspec
import pytest

from pricecheck.keepa.tables import PRICE_TYPES, SERIES
from pricecheck.simulator.products import ProductQuery, not_found, price_of, product
from pricecheck.simulator.series import Series, histories
from pricecheck.simulator.stats import statistics
from pricecheck.simulator.world import DAY, ORIGIN, Listing, find

NOW = ORIGIN + 200 * DAY
NEW = SERIES["NEW"].index


def listing_of(asin: str) -> Listing:
    listing = find(1, 0.0, 3, asin, NOW)
    assert listing is not None
    return listing


def answer(asin: str = "B000000002", *, dense: bool = False, **query: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        product(listing_of(asin), ProductQuery(3, asin, **query), NOW, dense=dense)
    )
    return made


def test_histories_are_clipped_to_the_days_asked_for() -> None:
    """Only the window's points remain, after the one in force when it begins."""
    whole, clipped = answer()["csv"], answer(days=30)["csv"]
    begin = NOW - 30 * DAY

    for i, flat in enumerate(whole):
        if flat is None:
            assert clipped[i] is None
            continue
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        inside = [pair for pair in pairs if pair[0] > begin]
        before = [pair for pair in pairs if pair[0] <= begin]
        shown = list(zip(clipped[i][::2], clipped[i][1::2], strict=True))
        assert shown == before[-1:] + inside


def test_without_history_there_is_no_csv() -> None:
    """history=0 leaves the histories out and the statistics in."""
    made = answer(history=False, stats=90)

    assert made["csv"] is None
    assert made["stats"]["current"][NEW] > -2


@pytest.mark.parametrize("asin", [f"B0STAT{number:04d}" for number in range(20)])
def test_statistics_follow_from_the_histories(asin: str) -> None:
    """Current, extremes, lowest and start of the interval are what csv says."""
    made = answer(asin, stats=60, buybox=True)
    stats = made["stats"]
    for series in PRICE_TYPES:
        flat = made["csv"][series.index]
        if flat is None:
            assert stats["current"][series.index] == stats["avg30"][series.index] == -1
            continue
        width = 3 if series.with_shipping else 2
        minutes, values = flat[::width], flat[1::width]
        if series.with_shipping:
            values = [v + max(s, 0) for v, s in zip(values, flat[2::width], strict=True)]
        offered = [value for value in values if value >= 0]
        start = [v for m, v in zip(minutes, values, strict=True) if m <= NOW - 60 * DAY]
        assert stats["current"][series.index] == values[-1]
        assert stats["atIntervalStart"][series.index] == start[-1]
        if offered:
            assert stats["min"][series.index][1] == min(offered)
            assert stats["max"][series.index][1] == max(offered)
            assert stats["isLowest"][series.index] is (values[-1] == min(offered))
        else:
            assert stats["min"][series.index] is None


@pytest.mark.parametrize(
    ("values", "lowest", "highest"),
    [
        ((500, 300, 400), (NOW - 20 * DAY, 300), (NOW - 60 * DAY, 500)),
        ((500, -1, 400), (NOW - 10 * DAY, 400), (NOW - 60 * DAY, 500)),
        ((-1, -1, -1), (-1, -1), (-1, -1)),
    ],
)
def test_extremes_of_the_interval_begin_with_it(
    values: tuple[int, ...], lowest: tuple[int, int], highest: tuple[int, int]
) -> None:
    """What was in force before counts from the first day; (-1, -1) is an interval of no offer."""
    minutes = [NOW - days * DAY for days in (200, 90, 20, 10)]
    known = histories(listing_of("B000000001"), NOW) | {NEW: Series(minutes, (99, *values))}

    stats = statistics(known, 60, NOW)

    assert (stats.min_in_interval[NEW], stats.max_in_interval[NEW]) == (lowest, highest)
    assert stats.min[NEW] == (NOW - 200 * DAY, 99)


def test_what_was_never_offered_has_no_extremes_in_the_interval_either() -> None:
    """null, and not the (-1, -1) of an interval without an offer."""
    known = histories(listing_of("B000000001"), NOW) | {NEW: Series([NOW - 90 * DAY], [-1])}

    stats = statistics(known, 60, NOW)

    assert stats.min_in_interval[NEW] is stats.max_in_interval[NEW] is None


@pytest.mark.parametrize(
    ("extras", "filled"),
    [
        ({}, set()),
        ({"buybox": True}, {"BUY_BOX_SHIPPING"}),
        ({"offers": 20}, {"BUY_BOX_SHIPPING", "NEW_FBM_SHIPPING", "NEW_FBA", "WAREHOUSE"}),
    ],
)
def test_some_histories_are_filled_only_when_asked_for(
    extras: dict[str, Any], filled: set[str]
) -> None:
    """The buy box's with `buybox`, the sellers' with `offers`; all others always."""
    plain = {i for i, series in enumerate(answer()["csv"]) if series}

    asked = {i for i, series in enumerate(answer(**extras)["csv"]) if series}

    assert asked - plain == {SERIES[name].index for name in filled}
    assert plain <= asked


def test_a_history_with_shipping_repeats_points_and_agrees_with_new() -> None:
    """Triples: some equal to the one before, some without an offer, some of unknown shipping."""
    csv = answer("B0CHNGS001", offers=20)["csv"]
    flat = csv[SERIES["NEW_FBM_SHIPPING"].index]
    points = list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    new = dict(zip(csv[NEW][::2], csv[NEW][1::2], strict=True))

    assert any(a[1:] == b[1:] for a, b in pairwise(points))
    assert {price for _, price, _ in points} > {-1}
    assert all(price in (-1, new[minute]) for minute, price, _ in points)
    assert {shipping for _, price, shipping in points if price == -1} == {-1}
    assert {shipping for _, price, shipping in points if price > 0} >= {-1, 0}


@pytest.mark.parametrize(
    ("name", "days"), [("avg", 7), ("avg30", 30), ("avg90", 90), ("avg180", 180), ("avg365", 365)]
)
def test_averages_are_weighted_by_time(name: str, days: int) -> None:
    """Each hour of the window counts once; hours without an offer do not."""
    for asin in (f"B0MEAN{number:04d}" for number in range(10)):
        made = answer(asin, stats=7)
        flat = made["csv"][NEW]
        minutes, values = flat[::2], flat[1::2]
        hours = range(NOW - days * DAY, NOW, 60)
        seen = [values[bisect_right(minutes, minute) - 1] for minute in hours]
        offered = [value for value in seen if value >= 0]

        average = made["stats"][name][NEW]

        assert average == pytest.approx(fmean(offered), rel=0.01) if offered else average == -1


@pytest.mark.parametrize(
    ("extras", "tokens"),
    [
        ({}, 1),
        ({"stats": 90, "history": True, "days": 30}, 1),
        ({"buybox": True}, 3),
        ({"update": 0}, 2),
        ({"update": 48}, 1),
        ({"offers": 20}, 13),
        ({"offers": 20, "buybox": True}, 15),
        ({"stock": True}, 3),
        ({"rating": True}, 2),
    ],
)
def test_tokens_are_those_of_keepas_price_list(extras: dict[str, Any], tokens: int) -> None:
    """Statistics and histories are free; buy box, offers and live data cost."""
    assert price_of(ProductQuery(3, "B000000001", **extras), 1, "B000000001") == tokens


def test_more_offers_cost_what_was_found() -> None:
    """Of 100 offers asked for, each ten found cost six tokens."""
    costs = {
        price_of(ProductQuery(3, asin, offers=100), 1, asin)
        for asin in (f"B0OFFR{number:04d}" for number in range(100))
    }

    assert costs == {1 + 6 * pages for pages in range(2, 7)}


def test_what_is_not_found_comes_in_each_of_keepas_ways() -> None:
    """Nothing at all, nulls with product type 4, or nulls without a type."""
    bodies = [not_found(1, 3, f"B00MISS{number:03d}") for number in range(50)]
    ways = {None if body is None else json.loads(body).get("productType", 0) for body in bodies}

    assert ways == {None, 4, 0}
    assert all(json.loads(body)["title"] is None for body in bodies if body)


def test_bulk_brings_a_product_to_real_size_and_leaves_its_prices_alone() -> None:
    """About 208 kB, most of it csv, with the price series of the lean product."""
    asins = [f"B0BULK{number:04d}" for number in range(100)]

    made = [answer(asin, dense=True) for asin in asins]

    sizes = [len(msgspec.json.encode(each)) for each in made]
    csvs = [len(msgspec.json.encode(each["csv"])) for each in made]
    assert fmean(sizes) == pytest.approx(208_000, rel=0.05)
    assert fmean(csvs) / fmean(sizes) == pytest.approx(0.6, abs=0.05)
    assert [each["csv"][NEW] for each in made] == [answer(asin)["csv"][NEW] for asin in asins]
