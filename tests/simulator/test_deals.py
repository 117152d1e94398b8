"""Deals and best sellers: the same world as the products'."""

from __future__ import annotations

import html
from typing import Any

import pytest

from pricecheck.keepa.tables import SERIES
from pricecheck.simulator import titles
from pricecheck.simulator.deals import Deal, Selection, bestsellers, page
from pricecheck.simulator.series import histories
from pricecheck.simulator.settings import Settings
from pricecheck.simulator.world import DAY, KEYBOARDS_DE, ORIGIN, find, pool

NOW = ORIGIN + 150 * DAY
NEW = SERIES["NEW"].index
WORLD = Settings()
MONTH = 2


def deals(now: int = NOW, **fields: Any) -> list[Deal]:
    selection = Selection(**({"date_range": MONTH} | fields))
    return page(WORLD, selection, NEW, 3, now).dr


def test_deals_agree_with_their_products() -> None:
    """Each deal's ASIN exists, and its price, title and time are the product's."""
    for deal in deals():
        listing = find(WORLD.seed, WORLD.not_found, 3, deal.asin, NOW)
        assert listing is not None
        new = histories(listing, NOW)[NEW]

        assert deal.current[NEW] == new.values[-1] > 0
        assert deal.creation_date == new.minutes[-1]
        assert html.unescape(deal.title) == titles.title(listing)


def test_deals_stand_well_under_their_average_and_are_recent() -> None:
    """At least 10 % under the average of the range, changed within it."""
    found = deals()

    assert len(found) > 40
    for deal in found:
        assert deal.delta_percent[MONTH][NEW] >= 10
        assert deal.delta[MONTH][NEW] == deal.avg[MONTH][NEW] - deal.current[NEW] > 0
        assert deal.creation_date > NOW - 31 * DAY


def test_deals_come_and_go() -> None:
    """A week later some are gone, some are new and some stay."""
    before, after = {d.asin for d in deals()}, {d.asin for d in deals(NOW + 7 * DAY)}

    assert before - after
    assert after - before
    assert after & before


def test_ranges_and_filters_bound_what_is_found() -> None:
    """Discount, price, rank, rating and title limits hold, and only when switched on."""
    limits: dict[str, Any] = {
        "delta_range": (500, 4_000),
        "delta_percent_range": (15, 35),
        "current_range": (2_000, 9_000),
        "sales_rank_range": (1, 100_000),
        "min_rating": 40,
        "title_search": "tastatur TASTWERK",
    }

    narrowed = deals(is_range_enabled=True, is_filter_enabled=True, **limits)

    assert narrowed
    assert all(500 <= deal.delta[MONTH][NEW] <= 4_000 for deal in narrowed)
    assert all(15 <= deal.delta_percent[MONTH][NEW] <= 35 for deal in narrowed)
    assert all(2_000 <= deal.current[NEW] <= 9_000 for deal in narrowed)
    assert all(deal.current[SERIES["SALES"].index] <= 100_000 for deal in narrowed)
    assert all(deal.current[SERIES["RATING"].index] >= 40 for deal in narrowed)
    assert all(deal.title.startswith("Tastwerk") for deal in narrowed)
    assert len(narrowed) < len(deals()) == len(deals(**limits))


@pytest.mark.parametrize(
    ("sort_type", "falls"),
    [(1, "creation_date"), (2, "delta"), (4, "delta_percent")],
)
def test_order_is_the_one_asked_for(sort_type: int, falls: str) -> None:
    """Newest, largest drop or largest percentage first; a negative type turns it round."""

    def figures(sort: int) -> list[int]:
        values = [getattr(deal, falls) for deal in deals(sort_type=sort)]
        return [value if falls == "creation_date" else value[MONTH][NEW] for value in values]

    assert figures(sort_type) == sorted(figures(sort_type), reverse=True)
    assert figures(-sort_type) == sorted(figures(sort_type))


def test_pages_follow_one_another_without_overlap() -> None:
    """Several categories fill more than a page; the pages together hold each deal once."""
    categories = [KEYBOARDS_DE, 11, 12]
    pages = [deals(include_categories=categories, page=number) for number in range(3)]
    asins = [deal.asin for each in pages for deal in each]

    assert len(pages[0]) == 150
    assert 0 < len(pages[1]) < 150
    assert len(pages[2]) == 0
    assert len(asins) == len(set(asins))


def test_best_sellers_are_the_pool_in_an_order_that_drifts() -> None:
    """All of the category's products by rank; a month later in another order."""
    now, later = (bestsellers(WORLD, 3, str(KEYBOARDS_DE), t) for t in (NOW, NOW + 30 * DAY))

    assert now is not None
    assert later is not None
    assert set(now.asin_list) == set(later.asin_list) == set(pool(1, 0.0, 3, str(KEYBOARDS_DE)))
    assert now.asin_list != later.asin_list
    ranks = []
    for asin in now.asin_list:
        listing = find(1, 0.0, 3, asin, NOW)
        assert listing is not None
        ranks.append(histories(listing, now.last_update)[SERIES["SALES"].index].values[-1])
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("category", ["0", "-5", "--5"])
def test_no_such_category_has_no_list(category: str) -> None:
    """Category 0 and negative ones have none."""
    assert bestsellers(WORLD, 3, category, NOW) is None
