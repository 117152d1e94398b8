"""Tests of pricecheck/outbox/lookup.py, on real SQLite files."""

from __future__ import annotations

from pricecheck.outbox import (
    Outbox,
    lookup,
)
from pricecheck.records import Record
from tests.outbox.conftest import price, put


def test_changes_come_in_order_of_their_time(outbox: Outbox) -> None:
    """Changes of all price types and marketplaces of one product, oldest first."""
    ids = [
        "DE:B1:NEW:2026-01-03T00:00:00Z",
        "DE:B1:AMAZON:2026-01-02T00:00:00Z",
        "UK:B1:NEW:2026-01-01T00:00:00Z",
        "DE:B12:NEW:2026-01-01T00:00:00Z",
        "DE:B0:NEW:2026-01-01T00:00:00Z",
    ]
    put(outbox, *(Record("change", id_, "B1", id_[:8].encode()) for id_ in ids))
    put(outbox, price("FR:B1:2026-01-01T00:00:00Z"))

    assert lookup.changes(outbox, "B1") == [b"UK:B1:NE", b"DE:B1:AM", b"DE:B1:NE"]
    assert lookup.changes(outbox, "B1", domain="DE") == [b"DE:B1:AM", b"DE:B1:NE"]
    third_ms = 1_767_398_400_000
    assert lookup.changes(outbox, "B1", since_ms=third_ms) == [b"DE:B1:NE"]
    assert lookup.changes(outbox, "B1", since_ms=third_ms + 1) == []


def test_the_last_change_is_that_of_one_price(outbox: Outbox) -> None:
    """Whatever else of the product, or of one whose name begins alike, changed later."""
    for id_ in (
        "DE:B1:NEW:2026-01-02T",
        "DE:B1:NEW:2026-01-01T",
        "DE:B1:NEW_FBA:2027",
        "DE:B12:NEW:2027",
    ):
        put(outbox, Record("change", id_, "B1", id_.encode()))

    assert lookup.last_change(outbox, "DE", "B1", "NEW") == b"DE:B1:NEW:2026-01-02T"
    assert lookup.last_change(outbox, "UK", "B1", "NEW") is None


def test_latest_prices_are_one_per_marketplace(outbox: Outbox) -> None:
    """The newest check of the product counts, in each marketplace."""
    for id_ in ("DE:B1:2026-01-01T", "DE:B1:2026-01-02T", "UK:B1:2026-01-01T", "DE:B2:2027"):
        put(outbox, price(id_, id_.encode()))

    assert lookup.latest_prices(outbox, "B1") == [b"DE:B1:2026-01-02T", b"UK:B1:2026-01-01T"]
    assert lookup.latest_prices(outbox, "B1", domain="UK") == [b"UK:B1:2026-01-01T"]
    assert lookup.latest_prices(outbox, "B9") == []


def test_latest_of_a_kind_are_newest_first(outbox: Outbox) -> None:
    """A deal that was seen again in another state counts as new."""
    for id_, body in (("DE:a", b"1"), ("DE:b", b"2"), ("DEX:c", b"3"), ("DE:a", b"4")):
        put(outbox, Record("deal", id_, "B1", body))

    assert lookup.latest(outbox, "deal", limit=2) == [b"4", b"3"]
    assert lookup.latest(outbox, "deal", limit=9, domain="DE") == [b"4", b"2"]
    assert lookup.latest(outbox, "bestseller", limit=9) == []


def test_latest_list_is_the_newest_of_its_category(outbox: Outbox) -> None:
    """Of that marketplace; None where no list was ever stored."""
    for id_ in (
        "DE:12:2026-01-02",
        "DE:12:2026-01-01",
        "DE:123:2026-02",
        "DE:2:2026-02",
        "UK:12:2026-03",
    ):
        put(outbox, Record("bestseller", id_, "12", id_.encode()))
    put(outbox, Record("price", "FR:12:2026-01-01", "12", b"no list"))

    assert lookup.latest_list(outbox, "DE", "12") == b"DE:12:2026-01-02"
    assert lookup.latest_list(outbox, "UK", "12") == b"UK:12:2026-03"
    assert lookup.latest_list(outbox, "FR", "12") is None
