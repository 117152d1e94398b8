"""What the page is told of an outbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pricecheck.keepa.time import to_rfc3339
from pricecheck.outbox import Commit, Outbox, ProductState
from pricecheck.page.facts import Facts, Operation, Product, gather
from pricecheck.records import Change, Deal, Metric, Record
from pricecheck.watchlist import Watch
from tests.page.conftest import ASIN, DAY, NOW_MS, OTHER, price

WATCHES = (Watch(ASIN, "DE", 1.0, 4_000, 21_600), Watch(OTHER, "DE", 1.0, None, 21_600))


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An outbox without records."""
    opened = Outbox.open(tmp_path / "outbox.sqlite", now_ms=lambda: NOW_MS)
    yield opened
    opened.close()


def ago(days: float) -> str:
    return to_rfc3339(NOW_MS - round(days * 86_400_000))


def change(days: float, old: int | None, new: int | None, **fields: Any) -> Record:
    shape: dict[str, Any] = {"price_type": "NEW", "asin": ASIN} | fields
    return Change(
        domain="DE",
        currency="EUR",
        title=None,
        changed_at=ago(days),
        observed_at=ago(0),
        old_price=old,
        new_price=new,
        **shape,
    ).record()


def keep(outbox: Outbox, *records: Record, asins: tuple[str, ...] = (ASIN,)) -> None:
    states = tuple(ProductState("DE", asin, NOW_MS, b"{}") for asin in asins)
    outbox.commit(Commit(records=records, states=states))


def told(outbox: Outbox, **options: Any) -> Facts:
    shape = {"since_s": 30 * 86_400, "whole_s": 90 * 86_400, "limit": 10} | options
    return gather(outbox, WATCHES, now_ms=NOW_MS, **shape)


def only(outbox: Outbox, **options: Any) -> Product:
    [product] = told(outbox, **options).products
    return product


def test_a_price_type_is_a_step_line_with_gaps(outbox: Outbox) -> None:
    """It begins with what the first change changed from; no offer is no price."""
    keep(
        outbox,
        price(timestamp=ago(1), prices={"NEW": 4_500}).record(),
        change(20, 5_000, 4_000),
        change(10, 4_000, None),
        change(5, None, 4_500),
    )

    product = only(outbox)

    assert product.series == {
        "NEW": [(0, 5_000), (10 * DAY, 4_000), (20 * DAY, None), (25 * DAY, 4_500)]
    }
    assert product.checked == 29 * DAY
    assert product.target == 4_000


def test_a_price_that_never_changed_is_a_line_as_well(outbox: Outbox) -> None:
    """From the begin of the chart on."""
    keep(outbox, price(prices={"LISTPRICE": 9_900}).record())

    assert only(outbox).series == {"LISTPRICE": [(0, 9_900)]}


def test_what_was_before_our_knowledge_is_not_made_up(outbox: Outbox) -> None:
    """Where changes are known for ten days only, lines begin ten days ago, or at a change."""
    keep(
        outbox,
        price(prices={"NEW": 4_000, "AMAZON": 4_100, "USED": 900}).record(),
        change(15, 5_000, 4_000),
        change(5, 4_200, 4_100, price_type="AMAZON"),
    )

    product = only(outbox, whole_s=10 * 86_400)

    assert product.series == {
        "AMAZON": [(20 * DAY, 4_200), (25 * DAY, 4_100)],
        "NEW": [(15 * DAY, 4_000)],
        "USED": [(20 * DAY, 900)],
    }


def test_shipping_is_part_of_the_price(outbox: Outbox) -> None:
    """As it is in the price records; unknown shipping adds nothing."""
    keep(
        outbox,
        price(prices={}).record(),
        change(5, 4_000, 3_000, price_type="BUY_BOX_SHIPPING", old_shipping=None, new_shipping=299),
    )

    assert only(outbox).series["BUY_BOX_SHIPPING"] == [(0, 4_000), (25 * DAY, 3_299)]


def test_drops_are_against_the_price_a_week_ago(outbox: Outbox) -> None:
    """The deepest first; what rose is none."""
    keep(
        outbox,
        price(current_price=3_000).record(),
        change(3, 4_000, 3_000),
        price(asin=OTHER, current_price=8_000).record(),
        change(3, 5_000, 8_000, asin=OTHER),
        asins=(ASIN, OTHER),
    )

    facts = told(outbox)

    assert [(each.asin, each.week_ago, each.week_percent) for each in facts.drops] == [
        (ASIN, 4_000, -25.0)
    ]
    assert facts.products[1].week_percent == 60.0


def test_products_never_checked_and_beyond_the_limit_are_left_out(outbox: Outbox) -> None:
    """But they are counted."""
    keep(outbox, price().record())
    one = told(outbox)
    keep(outbox, price(asin=OTHER).record(), asins=(ASIN, OTHER))
    limited = told(outbox, limit=1)

    assert (len(one.products), one.watched) == (1, 2)
    assert (len(limited.products), limited.watched) == (1, 2)


def deal(asin: str, score: float, days: float, created: float = 5) -> Record:
    return Deal(
        asin=asin,
        domain="DE",
        currency="EUR",
        title=None,
        price_type="NEW",
        created_at=ago(created),
        timestamp=ago(days),
        current_price=1,
        original_price=2,
        discount_percent=50,
        rating=None,
        review_count=None,
        sales_rank=None,
        category=None,
        deal_score=score,
        source="keepa",
        url="",
    ).record()


def test_deals_are_those_of_the_last_day_of_collecting(outbox: Outbox) -> None:
    """The best first, each product once in its newest state, however long ago that day was."""
    keep(
        outbox,
        deal(ASIN, 90, 40),
        deal(OTHER, 99, 42),
        deal("B000000003", 95, 40.5),
        deal("B000000004", 10, 40, created=9),
    )
    keep(outbox, deal("B000000004", 50, 40))

    facts = told(outbox)

    assert [(each.asin, each.deal_score) for each in facts.deals] == [
        ("B000000003", 95),
        (ASIN, 90),
        ("B000000004", 50),
    ]
    assert facts.deals_in_all == 3


def metric(hours: float, operation: str, tokens: int | None, **fields: Any) -> Record:
    shape: dict[str, Any] = {"success": True, "tokens_left": 100, "response_time_ms": 50} | fields
    return Metric(
        timestamp=ago(hours / 24),
        operation=operation,
        tokens_consumed=tokens,
        refill_rate=20,
        refill_in=None,
        processing_time_ms=None,
        asin_count=1,
        domain=None,
        status=200,
        error=None,
        **shape,
    ).record()


def test_the_budget_is_that_of_the_last_day(outbox: Outbox) -> None:
    """By hour and by call; tokens left are the newest figure that was told."""
    keep(
        outbox,
        metric(30, "product", 1_000),
        metric(3, "product", 100, response_time_ms=70),
        metric(3, "product", 50),
        metric(0, "deal", 5, tokens_left=77),
        metric(0, "deal", None, success=False, tokens_left=None),
    )

    spending = told(outbox).spending

    assert spending.by_hour == [0] * 20 + [150, 0, 0, 5]
    assert spending.operations == [
        Operation("product", 2, 0, 150, 60),
        Operation("deal", 2, 1, 5, 50),
    ]
    assert (spending.tokens, spending.tokens_left, spending.refill_rate) == (155, 77, 20)


def test_an_empty_outbox_has_nothing_to_tell(outbox: Outbox) -> None:
    """And that is no error."""
    facts = told(outbox)

    assert (facts.products, facts.deals, facts.drops, facts.spending.operations) == ([], [], [], [])
