"""Records: their ids, keys and JSON, which Kafka and Elasticsearch live by."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck import records
from pricecheck.records import (
    KINDS,
    TOPICS,
    Alert,
    Bestsellers,
    Change,
    Deal,
    Metric,
    Price,
    percent_change,
    time_ordered_id,
)

ASIN = "B08N5WRWNW"
AT = "2025-06-15T15:06:40.007Z"
PRICE = Price(
    asin=ASIN,
    domain="DE",
    currency="EUR",
    title="Tastatur, geräuschlos",
    timestamp=AT,
    current_price=4999,
    previous_price=None,
    price_change_percent=None,
    target_price=4500,
    prices={"NEW": 4999},
    stats={"avg90": {"NEW": 5400}},
    sales_rank=17,
    rating=4.5,
    review_count=1200,
    last_update="2025-06-15T14:00:00Z",
    url=f"https://www.amazon.de/dp/{ASIN}",
)
CHANGE = Change(
    asin=ASIN,
    domain="DE",
    currency="EUR",
    title=None,
    price_type="BUY_BOX_SHIPPING",
    changed_at="2025-06-15T14:00:00Z",
    observed_at=AT,
    old_price=5000,
    new_price=None,
    old_shipping=299,
)
DEAL = Deal(
    asin=ASIN,
    domain="DE",
    currency="EUR",
    title="Tastatur",
    price_type="NEW",
    created_at="2025-06-15T13:00:00Z",
    timestamp=AT,
    current_price=4999,
    original_price=9999,
    discount_percent=50,
    rating=None,
    review_count=None,
    sales_rank=None,
    category=2**63 - 1,
    deal_score=61.5,
    source="keepa",
    url=f"https://www.amazon.de/dp/{ASIN}",
)
ALERT = Alert(
    asin=ASIN,
    domain="DE",
    currency="EUR",
    title="Tastatur",
    rule="bargain",
    what="drop",
    against="avg90",
    price_type="NEW",
    changed_at="2025-06-15T14:00:00Z",
    observed_at=AT,
    old_price=5500,
    new_price=4499,
    target_price=4500,
    reference_price=5400,
    change_percent=-16.69,
    url=f"https://www.amazon.de/dp/{ASIN}",
)
BEST = Bestsellers(
    domain="DE",
    category="340843031",
    observed_at=AT,
    last_update=None,
    total=2,
    asins=("B2", "B1"),
)
METRIC = Metric(
    timestamp=AT,
    operation="product",
    tokens_consumed=5,
    tokens_left=-3,
    refill_rate=20,
    refill_in=39_592,
    response_time_ms=120,
    processing_time_ms=7,
    asin_count=5,
    domain="DE",
    success=True,
    status=200,
    error=None,
)


@pytest.mark.parametrize(
    ("fact", "kind", "id_", "key"),
    [
        (PRICE, "price", f"DE:{ASIN}:{AT}", ASIN),
        (CHANGE, "change", f"DE:{ASIN}:BUY_BOX_SHIPPING:2025-06-15T14:00:00Z", ASIN),
        (DEAL, "deal", f"DE:{ASIN}:NEW:2025-06-15T13:00:00Z", ASIN),
        (ALERT, "alert", f"DE:{ASIN}:bargain:2025-06-15T14:00:00Z", ASIN),
        (BEST, "bestseller", f"DE:340843031:{AT}", "340843031"),
    ],
)
def test_a_fact_has_the_same_id_each_time(fact: Any, kind: str, id_: str, key: str) -> None:
    """Told again, it is the same document; its key keeps a product's facts in order."""
    record = fact.record()

    assert (record.kind, record.id, record.key) == (kind, id_, key)
    assert record == fact.record()


def test_each_metric_is_a_fact_of_its_own() -> None:
    """Two calls with the same figures are two calls."""
    one, other = METRIC.record(), METRIC.record()

    assert (one.kind, one.key, one.body) == ("metric", "product", other.body)
    assert one.id != other.id
    assert uuid.UUID(one.id).version == 7


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (
            PRICE,
            {
                "asin": ASIN,
                "domain": "DE",
                "currency": "EUR",
                "product_title": "Tastatur, geräuschlos",
                "timestamp": AT,
                "current_price": 4999,
                "previous_price": None,
                "price_change_percent": None,
                "target_price": 4500,
                "prices": {"NEW": 4999},
                "stats": {"avg90": {"NEW": 5400}},
                "sales_rank": 17,
                "rating": 4.5,
                "review_count": 1200,
                "last_update": "2025-06-15T14:00:00Z",
                "url": f"https://www.amazon.de/dp/{ASIN}",
                "event_type": "price_update",
            },
        ),
        (
            CHANGE,
            {
                "asin": ASIN,
                "domain": "DE",
                "currency": "EUR",
                "title": None,
                "price_type": "BUY_BOX_SHIPPING",
                "changed_at": "2025-06-15T14:00:00Z",
                "observed_at": AT,
                "old_price": 5000,
                "new_price": None,
                "old_shipping": 299,
                "new_shipping": None,
                "change_percent": None,
                "event_type": "price_change",
            },
        ),
        (
            DEAL,
            {
                "asin": ASIN,
                "domain": "DE",
                "currency": "EUR",
                "title": "Tastatur",
                "description": None,
                "prime_eligible": None,
                "price_type": "NEW",
                "created_at": "2025-06-15T13:00:00Z",
                "timestamp": AT,
                "current_price": 4999,
                "original_price": 9999,
                "discount_percent": 50,
                "rating": None,
                "review_count": None,
                "sales_rank": None,
                "category": 9223372036854775807,
                "deal_score": 61.5,
                "source": "keepa",
                "url": f"https://www.amazon.de/dp/{ASIN}",
                "event_type": "deal_update",
            },
        ),
        (
            ALERT,
            {
                "asin": ASIN,
                "domain": "DE",
                "currency": "EUR",
                "title": "Tastatur",
                "rule": "bargain",
                "what": "drop",
                "against": "avg90",
                "price_type": "NEW",
                "changed_at": "2025-06-15T14:00:00Z",
                "observed_at": AT,
                "old_price": 5500,
                "new_price": 4499,
                "target_price": 4500,
                "reference_price": 5400,
                "change_percent": -16.69,
                "deal_score": None,
                "url": f"https://www.amazon.de/dp/{ASIN}",
                "event_type": "price_alert",
            },
        ),
        (
            BEST,
            {
                "domain": "DE",
                "category": "340843031",
                "observed_at": AT,
                "last_update": None,
                "total": 2,
                "asins": ["B2", "B1"],
                "event_type": "bestsellers_update",
            },
        ),
        (
            METRIC,
            {
                "timestamp": AT,
                "operation": "product",
                "tokens_consumed": 5,
                "tokens_left": -3,
                "refill_rate": 20,
                "refill_in": 39592,
                "response_time_ms": 120,
                "processing_time_ms": 7,
                "asin_count": 5,
                "domain": "DE",
                "success": True,
                "status": 200,
                "error": None,
                "event_type": "api_call",
            },
        ),
    ],
    ids=["price", "change", "deal", "alert", "bestsellers", "metric"],
)
def test_the_json_of_a_fact_is_what_it_has_been(fact: Any, expected: dict[str, Any]) -> None:
    """Dashboards and consumers read these fields: whoever changes them raises the version."""
    assert json.loads(fact.record().body) == expected
    assert records.SCHEMA_VERSION == 1


@pytest.mark.parametrize("fact", [PRICE, CHANGE, DEAL, ALERT, BEST, METRIC])
def test_a_fact_cannot_be_changed(fact: Any) -> None:
    """What has been told stays as it was told."""
    with pytest.raises(AttributeError):
        fact.event_type = "other"


def test_every_kind_has_a_topic_of_its_own() -> None:
    """Kafka and Elasticsearch keep the kinds apart."""
    assert tuple(TOPICS) == KINDS
    assert len({*TOPICS.values()}) == len(KINDS)
    assert all(re.fullmatch("keeper-[a-z-]+", name) for name in TOPICS.values())


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        (1000, 900, -10.0),
        (900, 1000, 11.11),
        (300, 100, -66.67),
        (1000, 1000, 0.0),
        (1000, 0, -100.0),
        (0, 1000, None),
        (None, 1000, None),
        (1000, None, None),
        (None, None, None),
    ],
)
def test_a_change_is_told_in_per_cent(
    old: int | None, new: int | None, change: float | None
) -> None:
    """Of the old price, to two decimals; of nothing there is no share."""
    assert percent_change(old, new) == change


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_change_in_per_cent_leads_back_to_the_price(old: int, new: int) -> None:
    """As far as two decimals can."""
    change = percent_change(old, new)

    assert change is not None
    assert abs(old + old * change / 100 - new) <= old * 0.005 / 100 + 1e-6 * new


@given(st.lists(st.integers(0, 2**48 - 1), min_size=2, max_size=20))
def test_ids_are_in_the_order_of_their_time(milliseconds: list[int]) -> None:
    """As texts, in Kafka and in SQLite alike, and the time can be read from them."""
    with pytest.MonkeyPatch.context() as patch:
        ids = []
        for ms in milliseconds:
            patch.setattr(time, "time_ns", lambda ms=ms: ms * 1_000_000 + 999_999)
            ids.append(time_ordered_id())

    read = [uuid.UUID(id_) for id_ in ids]
    assert [id_.int >> 80 for id_ in read] == milliseconds
    assert {(id_.version, id_.variant) for id_ in read} == {(7, uuid.RFC_4122)}
    assert [str(id_) for id_ in read] == ids
    assert [id_.int >> 80 for id_ in map(uuid.UUID, sorted(ids))] == sorted(milliseconds)


def test_ids_of_one_moment_are_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many calls may end in the same millisecond."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_750_000_000_000_000_000)

    assert len({time_ordered_id() for _ in range(10_000)}) == 10_000


def test_a_record_survives_being_stored() -> None:
    """Its body is bytes of JSON, with all that Unicode holds."""
    title = '\u2028 \U0001f600 \x00 "quoted" \\'
    record = msgspec.structs.replace(PRICE, title=title).record()

    assert msgspec.json.decode(record.body)["product_title"] == title
    assert b"\n" not in record.body
