"""history, deals and bestsellers: what is in the outbox, without a daemon and without tokens."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from pricecheck.keepa.time import to_rfc3339
from pricecheck.records import Bestsellers, Change, Deal, Price, Record
from tests.cli.conftest import Keep, Run

DAY_MS = 86_400_000


def ago(days: float) -> str:
    return to_rfc3339(int(time.time() - days * 86_400) * 1000)


def change(days: float, old: int | None, new: int | None, **fields: Any) -> Record:
    shape = {"asin": "B000000001", "domain": "DE", "currency": "EUR", "price_type": "NEW"} | fields
    return Change(
        title="A keyboard",
        changed_at=ago(days),
        observed_at=ago(0),
        old_price=old,
        new_price=new,
        **shape,
    ).record()


def deal(asin: str, score: float, price: int, discount: int, **fields: Any) -> Record:
    shape = {
        "domain": "DE",
        "currency": "EUR",
        "timestamp": ago(0.1),
        "title": f"Deal {asin}",
    } | fields
    return Deal(
        asin=asin,
        price_type="NEW",
        created_at=ago(3),
        current_price=price,
        original_price=price * 2,
        discount_percent=discount,
        rating=4.5,
        review_count=100,
        sales_rank=10,
        category=1,
        deal_score=score,
        source="keepa",
        url="",
        **shape,
    ).record()


@pytest.fixture
def changes(keep: Keep) -> None:
    """Three changes of New, an old one, one of Amazon and one in yen."""
    keep(
        [
            change(200, 1000, 5000),
            change(20, 5000, 4000),
            change(10, 4000, None),
            change(5, None, 4500),
            change(5, 4600, 4700, price_type="AMAZON"),
            change(4, 4500, 3900, domain="JP", currency="JPY"),
        ]
    )


@pytest.mark.usefixtures("changes")
async def test_history_as_csv(run: Run) -> None:
    """Oldest first, prices in the smallest unit, no offer as an empty cell."""
    done = await run("history", "b000000001", "--csv", "--domain", "de", "--type", "new")

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.returncode == 0
    assert [(row["old_price"], row["new_price"]) for row in rows] == [
        ("5000", "4000"),
        ("4000", ""),
        ("", "4500"),
    ]
    assert "SIMULATED" in done.stderr


@pytest.mark.usefixtures("changes")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["history", "B000000001", "--csv", "--json"], 2, "not both"),
        (["history", "B000000001", "--type", "foo"], 65, "'foo' is no price type"),
        (["deals", "--report", "--json"], 2, "not both"),
        (["deals", "--format", "html"], 2, "add --report or --send"),
        (["deals", "--max-price", "nan"], 2, "nan is not a number"),
        (["deals", "--min-score", "nan"], 2, "nan is not a number"),
        (["compare", "NOPE"], 65, "NOPE"),
        (["plan", "--domain", "UK"], 2, "--domain goes with an ASIN"),
        (["plan", "--refill", "inf"], 2, "inf is not a number"),
        (["simulate", "--time-factor", "nan"], 2, "nan is not a number"),
        (["simulate", "--not-found", "nan"], 2, "nan is not a number"),
        (["watch", "remove", "B000000001", "--domain", "DE", "--everywhere"], 2, "not both"),
    ],
)
async def test_no_option_is_passed_over_in_silence(
    run: Run, arguments: list[str], code: int, said: str
) -> None:
    """What makes no sense, alone or together, is an error."""
    done = await run(*arguments)

    assert done.returncode == code
    assert said in done.stderr


@pytest.mark.usefixtures("changes")
async def test_history_as_json_goes_as_far_back_as_asked(run: Run) -> None:
    """All types and marketplaces, within --since."""
    done = await run("history", "B000000001", "--json", "--since", "300d")

    found = json.loads(done.stdout)
    assert len(found) == 6
    assert found[0]["old_price"] == 1000
    assert [each["domain"] for each in found] == ["DE"] * 5 + ["JP"]


async def test_what_a_terminal_can_not_show_is_replaced(run: Run, keep: Keep) -> None:
    """A title of any script is no reason to fail."""
    keep([deal("B000000001", 60, 4000, 40, title="\u952e\u76d8 keyboard")])

    done = await run("deals", env={"PYTHONIOENCODING": "latin-1"})

    assert done.returncode == 0, done.stderr
    assert "?? keyboard" in done.stdout


@pytest.mark.usefixtures("changes")
async def test_history_as_a_plot(run: Run) -> None:
    """One plot a marketplace, its dates and its prices in whole units, without colour codes."""
    done = await run("history", "B000000001", "--since", "30d")

    assert done.returncode == 0
    assert "B000000001 on amazon.de, EUR" in done.stdout
    assert "B000000001 on amazon.co.jp, JPY" in done.stdout
    assert "40.0" in done.stdout
    assert "3900" in done.stdout
    assert f"{time.gmtime().tm_year}-" in done.stdout
    assert "\x1b" not in done.stdout


async def test_history_of_an_unknown_product_says_how_to_get_it(run: Run, keep: Keep) -> None:
    """A sentence, a remedy and an exit code."""
    keep([])

    done = await run("history", "B0UNKNOWN1")

    assert done.returncode == 65
    assert "no price change of B0UNKNOWN1" in done.stderr
    assert "pricecheck check B0UNKNOWN1" in done.stderr


async def test_without_an_outbox_it_says_to_start_the_daemon(run: Run) -> None:
    """Nothing was collected yet."""
    done = await run("deals")

    assert done.returncode == 73
    assert "there is no outbox" in done.stderr


@pytest.fixture
def deals(keep: Keep) -> None:
    """Deals of two marketplaces, one seen long ago, one in two states."""
    keep(
        [
            deal("B000000001", 60, 4000, 40),
            deal("B000000002", 80, 9000, 50),
            deal("B000000003", 90, 9000, 60, timestamp=ago(3)),
            deal("B000000004", 70, 3000, 20, domain="UK", currency="GBP"),
        ]
    )
    keep([deal("B000000001", 61, 3900, 41)])


@pytest.mark.usefixtures("deals")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["B000000002", "B000000004", "B000000001"]),
        (("--within", "4d"), ["B000000003", "B000000002", "B000000004", "B000000001"]),
        (("--domain", "UK"), ["B000000004"]),
        (("--min-discount", "41"), ["B000000002", "B000000001"]),
        (("--max-price", "40"), ["B000000004", "B000000001"]),
        (("--min-score", "70"), ["B000000002", "B000000004"]),
        (("--limit", "1"), ["B000000002"]),
    ],
)
async def test_deals_are_filtered_and_the_best_come_first(
    run: Run, arguments: tuple[str, ...], expected: list[str]
) -> None:
    """Each filter does what its name says; a deal is shown once, in its newest state."""
    done = await run("deals", "--json", *arguments)

    assert [each["asin"] for each in json.loads(done.stdout)] == expected


@pytest.mark.usefixtures("deals")
async def test_deals_as_a_table(run: Run) -> None:
    """Prices in whole units, and how many there are in all."""
    done = await run("deals", "--limit", "2")

    lines = done.stdout.splitlines()
    assert re.split(r"  +", lines[1]) == [
        "DE",
        "B000000002",
        "Deal B000000002",
        "80",
        "50 %",
        "90.00",
        "180.00",
        "4.5",
        "100",
    ]
    assert lines[-1] == "2 of 3 deals"


async def test_best_sellers_show_what_is_known_of_them(run: Run, keep: Keep, home: Path) -> None:
    """The newest list, with titles and prices of watched products."""
    old, new = (
        Bestsellers(
            domain="DE",
            category="1",
            observed_at=ago(days),
            last_update=None,
            total=300,
            asins=asins,
        ).record()
        for days, asins in ((2, ("B000000009",)), (1, ("B000000001", "B000000002", "B000000003")))
    )
    price = Price(
        asin="B000000001",
        domain="DE",
        currency="EUR",
        title="A keyboard",
        timestamp=ago(1),
        current_price=4999,
        previous_price=None,
        price_change_percent=None,
        target_price=None,
        prices={"NEW": 4999},
        stats={},
        sales_rank=None,
        rating=None,
        review_count=None,
        last_update=None,
        url="",
    ).record()
    keep([old])
    keep([new, price])

    table = await run("bestsellers", "--top", "2")
    raw = await run("bestsellers", "--json", "--category", "1")
    none = await run("bestsellers", "--category", "2")

    assert "2 of 300" in table.stdout
    assert "1  B000000001  A keyboard  49.99" in table.stdout
    assert "B000000003" not in table.stdout
    assert [each["asins"] for each in json.loads(raw.stdout)] == [
        ["B000000001", "B000000002", "B000000003"]
    ]
    assert "No such list is stored" in none.stderr
