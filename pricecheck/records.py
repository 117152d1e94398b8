"""The records: every fact the daemon learns, in the shape in which it leaves the house.

A record is immutable JSON with an id that makes its redelivery harmless. Prices are integers in
the marketplace's smallest unit (cents, yen) with a currency, null where there is no offer; times
are RFC 3339 UTC. Nothing here knows where records are kept or sent.
"""

from __future__ import annotations

import os
import time
from typing import Final

import msgspec

KINDS: Final = ("price", "change", "deal", "bestseller", "metric", "alert")

TOPICS: Final = {
    "price": "keeper-prices",
    "change": "keeper-price-changes",
    "deal": "keeper-deals",
    "bestseller": "keeper-bestsellers",
    "metric": "keeper-metrics",
    "alert": "keeper-alerts",
}
"""The Kafka topic and Elasticsearch index of each kind."""

SCHEMA_VERSION: Final = 1
"""The version of the fields below; it travels with every record."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One fact as it is stored and delivered: what kind, which id, whose, and its JSON."""

    kind: str
    id: str
    key: str  # what Kafka partitions by: the ASIN, or the category of a bestseller list
    body: bytes


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a product at one check. Id: domain:asin:observed_at."""

    asin: str
    domain: str
    currency: str
    title: str | None = msgspec.field(name="product_title")  # as consumers of old know it
    timestamp: str  # when the server answered
    current_price: int | None  # NEW, or AMAZON where nothing else is offered new
    previous_price: int | None  # the same price at the check before
    price_change_percent: float | None
    target_price: int | None
    prices: dict[str, int]  # every price type that has a value, shipping included where known
    stats: dict[str, dict[str, int]]  # statistic -> price type -> value: avg90, min, max, ...
    sales_rank: int | None
    rating: float | None  # stars, 0 to 5
    review_count: int | None
    last_update: str | None  # when Keepa last looked at the product
    url: str
    event_type: str = "price_update"

    def record(self) -> Record:
        """Return this price as a record."""
        return _record("price", f"{self.domain}:{self.asin}:{self.timestamp}", self.asin, self)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one price, from Keepa's own history. Id: domain:asin:price_type:changed_at.

    `old_price` and `new_price` are without shipping, which stands apart and is null where it is
    unknown or the price type has none. A null price means: no offer.
    """

    asin: str
    domain: str
    currency: str
    title: str | None
    price_type: str
    changed_at: str
    observed_at: str
    old_price: int | None
    new_price: int | None
    old_shipping: int | None = None
    new_shipping: int | None = None
    change_percent: float | None = None
    event_type: str = "price_change"

    def record(self) -> Record:
        """Return this change as a record."""
        id_ = f"{self.domain}:{self.asin}:{self.price_type}:{self.changed_at}"
        return _record("change", id_, self.asin, self)


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """A deal; its newest state wins. Id: domain:asin:price_type:created_at."""

    asin: str
    domain: str
    currency: str
    title: str | None
    price_type: str
    created_at: str  # when the deal began
    timestamp: str  # when the server answered
    current_price: int | None
    original_price: int | None
    discount_percent: int | None
    rating: float | None
    review_count: int | None
    sales_rank: int | None
    category: int | None  # Amazon's browse node
    deal_score: float
    source: str  # "keepa" from /deal, "derived" from our own product checks
    url: str
    # What consumers of old expect; Keepa's deals do not tell.
    description: str | None = None
    prime_eligible: bool | None = None
    event_type: str = "deal_update"

    def record(self) -> Record:
        """Return this deal as a record."""
        id_ = f"{self.domain}:{self.asin}:{self.price_type}:{self.created_at}"
        return _record("deal", id_, self.asin, self)


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that rang for a product or a deal. Id: domain:asin:rule:changed_at.

    Prices are with shipping where it is known. The first alert of an id stands: it may have been
    told already.
    """

    asin: str
    domain: str
    currency: str
    title: str | None
    rule: str
    what: str  # target, drop, rise, low, high, stock, spread or score
    against: str | None = None  # of a drop or rise: last, avg30 or avg90; of a spread: where
    price_type: str
    changed_at: str  # when the price became this, or the deal began
    observed_at: str
    old_price: int | None = None
    new_price: int | None
    target_price: int | None = None  # the watchlist's
    reference_price: int | None  # what the rule held the new price against
    change_percent: float | None  # from there, or from the old price where there is none
    deal_score: float | None = None
    url: str
    event_type: str = "price_alert"

    def record(self) -> Record:
        """Return this alert as a record."""
        id_ = f"{self.domain}:{self.asin}:{self.rule}:{self.changed_at}"
        return _record("alert", id_, self.asin, self)


class Bestsellers(msgspec.Struct, frozen=True, kw_only=True):
    """The best sellers of a category, best first. Id: domain:category:observed_at."""

    domain: str
    category: str
    observed_at: str
    last_update: str | None
    total: int  # how many the list held before it was cut to `asins`
    asins: tuple[str, ...]
    event_type: str = "bestsellers_update"

    def record(self) -> Record:
        """Return this list as a record."""
        id_ = f"{self.domain}:{self.category}:{self.observed_at}"
        return _record("bestseller", id_, self.category, self)


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One call to Keepa: what it was, what it cost and how it went."""

    timestamp: str
    operation: str  # the path: token, product, deal, bestsellers, query
    tokens_consumed: int | None
    tokens_left: int | None
    refill_rate: int | None  # tokens a minute
    refill_in: int | None  # milliseconds
    response_time_ms: int
    processing_time_ms: int | None  # the server's own figure
    asin_count: int
    domain: str | None
    success: bool
    status: int | None
    error: str | None
    event_type: str = "api_call"

    def record(self) -> Record:
        """Return this metric as a record under a new time-ordered id."""
        return _record("metric", time_ordered_id(), self.operation, self)


def time_ordered_id() -> str:
    """Return a UUID version 7 (RFC 9562): unique, and ordered by its millisecond."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def with_shipping(price: int | None, shipping: int | None) -> int | None:
    """Return what a buyer pays, as far as it is known; None where there is no offer."""
    return None if price is None else price + (shipping or 0)


def percent_change(old: int | None, new: int | None) -> float | None:
    """Return the change from old to new in per cent, or None where either is missing or zero."""
    if not old or new is None:
        return None
    return round((new - old) * 100 / old, 2)


_encode = msgspec.json.Encoder().encode


def _record(kind: str, id_: str, key: str, body: msgspec.Struct) -> Record:
    return Record(kind, id_, key, _encode(body))
