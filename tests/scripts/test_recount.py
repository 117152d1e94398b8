"""The recount of price changes: it finds what is missing, surplus, wrong or lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pricecheck.outbox import Commit, DeadLetter, Outbox
from pricecheck.records import Change, Price, Record

RECOUNT = Path(__file__).parents[2] / "scripts/recount"
CHECKED_AT = "2026-05-10T04:19:28.884Z"
MINUTE = 8_075_779  # of the check, in Keepa's count
DAY = 1440

NEW = [
    *(MINUTE - 100 * DAY, 2499),  # before the look-back
    *(MINUTE - 90 * DAY, 1999),  # in its first minute
    *(MINUTE - 50 * DAY, 1999),  # no change
    *(MINUTE - 40 * DAY, -1),
    *(MINUTE - 30 * DAY, 1500),  # not the last of its minute
    *(MINUTE - 30 * DAY, 1700),
    *(MINUTE, 1799),
    *(MINUTE + 1, 1899),  # after the last check
]
BUY_BOX = [
    *(MINUTE - 20 * DAY, 1799, -1),
    *(MINUTE - 10 * DAY, 1799, 300),
    *(MINUTE - 5 * DAY, -1, -1),
    *(MINUTE - 4 * DAY, -1, -1),
]
RANKS = [MINUTE - 3 * DAY, 5, MINUTE - 2 * DAY, 9]
PRODUCT: dict[str, Any] = {
    "asin": "B000000001",
    "domainId": 3,
    "title": "a keyboard",
    "productType": 0,
    "csv": [[MINUTE - 10 * DAY, -1], NEW, None, RANKS, *[None] * 14, BUY_BOX],
}


def price() -> Record:
    return Price(
        asin="B000000001",
        domain="DE",
        currency="EUR",
        title="a keyboard",
        timestamp=CHECKED_AT,
        current_price=1799,
        previous_price=None,
        price_change_percent=None,
        target_price=None,
        prices={"NEW": 1799},
        stats={},
        sales_rank=None,
        rating=None,
        review_count=None,
        last_update=None,
        url="",
    ).record()


def change(name: str, changed_at: str, old: int | None, new: int | None, **more: Any) -> Record:
    return Change(
        asin="B000000001",
        domain="DE",
        currency="EUR",
        title="a keyboard",
        price_type=name,
        changed_at=changed_at,
        observed_at=CHECKED_AT,
        old_price=old,
        new_price=new,
        **more,
    ).record()


CHANGES = (
    change("NEW", "2026-02-09T04:19:00Z", 2499, 1999, change_percent=-20.01),
    change("NEW", "2026-03-31T04:19:00Z", 1999, None),
    change("NEW", "2026-04-10T04:19:00Z", None, 1700),
    change("NEW", "2026-05-10T04:19:00Z", 1700, 1799, change_percent=5.82),
    change("BUY_BOX_SHIPPING", "2026-04-20T04:19:00Z", None, 1799),
    change(
        "BUY_BOX_SHIPPING", "2026-04-30T04:19:00Z", 1799, 1799, new_shipping=300, change_percent=0.0
    ),
    change("BUY_BOX_SHIPPING", "2026-05-05T04:19:00Z", 1799, None, old_shipping=300),
)


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """An outbox that holds just what it must of the product."""
    file = tmp_path / "outbox.sqlite"
    with closing(Outbox.open(file)) as made:
        made.commit(Commit(records=(price(), *CHANGES)))
    return file


def recount(outbox: Path, *products: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    answers = outbox.parent / "answers"
    answers.mkdir(exist_ok=True)
    (answers / "one.json").write_text(json.dumps({"products": products}))
    return subprocess.run(
        [sys.executable, RECOUNT, answers, outbox], capture_output=True, text=True, check=False
    )


def tamper(outbox: Path, sql: str) -> None:
    with closing(sqlite3.connect(outbox)) as db, db:
        assert db.execute(sql).rowcount == 1


def test_what_must_be_there_and_nothing_else_is_no_difference(outbox: Path) -> None:
    """Look-back, repeated points, several in a minute, shipping and ranks: by hand and by rule."""
    counted = recount(outbox, PRODUCT)

    assert counted.returncode == 0, counted.stdout + counted.stderr
    assert "changes that must be there           7\n" in counted.stdout


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "DELETE FROM records WHERE id LIKE '%NEW:2026-03-31%'",
            "missing: DE:B000000001:NEW:2026-03-31T04:19:00Z",
        ),
        (
            "INSERT INTO records (kind, id, key, created_ms, body)"
            " VALUES ('change', 'DE:B000000001:USED:2026-05-01T00:00:00Z', 'x', 0, '{}')",
            "surplus: DE:B000000001:USED:2026-05-01T00:00:00Z",
        ),
        (
            "UPDATE records SET body = replace(body, '1700', '1701') WHERE id LIKE '%04-10T%'",
            "wrong: DE:B000000001:NEW:2026-04-10T04:19:00Z: new_price 1701, not 1700",
        ),
        (
            "DELETE FROM records WHERE kind = 'price'",
            "DE:B000000001: was never checked",
        ),
    ],
)
def test_each_kind_of_difference_is_found(outbox: Path, sql: str, said: str) -> None:
    """A change that is missing, surplus or wrong, a product that was lost: named, and exit 1."""
    tamper(outbox, sql)

    counted = recount(outbox, PRODUCT)

    assert counted.returncode == 1
    assert said in counted.stdout


@pytest.mark.parametrize(
    "fields",
    [
        {"csv": [None, [MINUTE, 1, MINUTE + 1]]},
        {"csv": [None, [MINUTE, 1, MINUTE - 1, 2]]},
        {"csv": [None, [MINUTE, "cheap"]]},
        {"csv": {"NEW": "cheap"}},
        {"title": 17},
    ],
)
def test_a_product_that_cannot_be_read_must_be_set_aside(
    outbox: Path, fields: dict[str, Any]
) -> None:
    """Without its dead letter it was lost; with it all is well."""
    broken = PRODUCT | {"asin": "B000000002"} | fields
    lost = recount(outbox, PRODUCT, broken)
    set_aside(outbox, "DE:B000000002")

    kept = recount(outbox, PRODUCT, broken)

    assert "DE:B000000002" in lost.stdout
    assert (lost.returncode, kept.returncode) == (1, 0)


def test_a_product_that_can_be_read_must_not_be_set_aside(outbox: Path) -> None:
    """The reason given is shown, for a person to judge."""
    set_aside(outbox, "DE:B000000001")

    counted = recount(outbox, PRODUCT)

    assert counted.returncode == 1
    assert "set aside without need: no reason" in counted.stdout


@pytest.mark.parametrize("nothing", [{"productType": 4}, {"title": None, "csv": None}])
def test_a_product_without_data_needs_no_record(outbox: Path, nothing: dict[str, Any]) -> None:
    """Gone or never found: neither price nor change is expected of it."""
    counted = recount(outbox, PRODUCT, PRODUCT | {"asin": "B000000003"} | nothing)

    assert counted.returncode == 0, counted.stdout


def set_aside(outbox: Path, name: str) -> None:
    letter = DeadLetter(
        source="keepa", kind="product", id=name, key="x", reason="no reason", body=b"", at_ms=0
    )
    with closing(Outbox.open(outbox)) as opened:
        opened.commit(Commit(dead_letters=(letter,)))
