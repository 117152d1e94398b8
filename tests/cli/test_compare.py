"""`pricecheck compare`: one product, several marketplaces."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pricecheck.outbox import FILE_NAME, Commit, Outbox, ProductState
from pricecheck.records import Price
from tests.cli.conftest import Run

RATES = "[exchange]\nrates = { GBP = 0.8, JPY = 160 }\n"


def price(asin: str, domain: str, currency: str, new: int | None) -> Price:
    return Price(
        asin=asin,
        domain=domain,
        currency=currency,
        title=f"Keyboard {asin[-1]}",
        timestamp="2026-11-24T12:00:00Z",
        current_price=new,
        previous_price=None,
        price_change_percent=None,
        target_price=None,
        prices={} if new is None else {"NEW": new},
        stats={},
        sales_rank=None,
        rating=None,
        review_count=None,
        last_update=None,
        url="",
    )


def store(home: Path, prices: Iterable[Price], config: str = RATES) -> None:
    """Keep the prices as checks would, and add to the config."""
    known = tuple(prices)
    states = tuple(ProductState(one.domain, one.asin, 1, b"{}") for one in known)
    with closing(Outbox.open(home / "state" / FILE_NAME)) as outbox:
        outbox.commit(Commit(records=tuple(one.record() for one in known), states=states))
    with (home / "pricecheck.toml").open("a") as file:
        file.write(config)


@pytest.fixture
def stored(home: Path) -> None:
    """Two products in several marketplaces, and one in Germany only."""
    store(
        home,
        [
            price("B000000001", "DE", "EUR", 9_000),
            price("B000000001", "UK", "GBP", 6_000),
            price("B000000001", "JP", "JPY", 9_600),
            price("B000000002", "DE", "EUR", 1_000),
            price("B000000002", "FR", "EUR", 1_100),
            price("B000000003", "DE", "EUR", 500),
        ],
    )


@pytest.mark.usefixtures("stored")
async def test_a_product_stands_side_by_side(run: Run) -> None:
    """The cheapest first, each in its own currency and in ours, and how far it is above."""
    done = await run("compare", "b000000001")

    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["B000000001", "Keyboard", "1"]
    assert [line[:4] for line in lines[2:]] == [
        ["JP", "9,600", "JPY", "60.00"],
        ["UK", "60.00", "GBP", "75.00"],
        ["DE", "90.00", "EUR", "90.00"],
    ]
    assert [line[4] for line in lines[2:]] == ["-", "+25.0", "+50.0"]


@pytest.mark.usefixtures("stored")
async def test_all_that_are_in_several_marketplaces_are_compared(run: Run) -> None:
    """The widest spread first."""
    done = await run("compare")
    found: list[dict[str, Any]] = json.loads((await run("compare", "--json")).stdout)

    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        "B000000001",
        "B000000002",
    ]
    assert [(row["asin"], row["spread_percent"]) for row in found] == [
        ("B000000001", 50.0),
        ("B000000002", 10.0),
    ]


async def test_without_a_rate_prices_stand_there_unconverted(run: Run, home: Path) -> None:
    """And it says what to do."""
    store(home, [price("B000000001", "DE", "EUR", 9), price("B000000001", "US", "USD", 8)], "")

    done = await run("compare", "B000000001")

    assert done.returncode == 0
    assert "0.08  USD" in done.stdout
    assert "exchange.rates" in done.stderr


@pytest.mark.parametrize("asin", ["B000000009", "B000000004"])
async def test_a_product_without_price_is_said_to_have_none(
    run: Run, home: Path, asin: str
) -> None:
    """Never seen, or seen without an offer."""
    store(home, [price("B000000004", "DE", "EUR", None)])

    done = await run("compare", asin)

    assert (done.returncode, done.stdout) == (os.EX_DATAERR, "")
    assert f"no price NEW of {asin} is stored\n  `pricecheck check {asin}`" in done.stderr


@pytest.mark.usefixtures("stored")
async def test_an_unknown_price_type_is_refused(run: Run) -> None:
    """With those that there are."""
    done = await run("compare", "--type", "NEWISH")

    assert done.returncode == 65
    assert "NEWISH" in done.stderr
    assert "AMAZON" in done.stderr
