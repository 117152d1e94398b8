"""The index templates: an exact mapping for every kind of record.

`dynamic` is false: a field that is not here is kept in the document and simply not indexed, so
that a newer daemon's documents are never refused by an older mapping.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from pricecheck.keepa.tables import PRICES

TEMPLATE_VERSION: Final = 2
"""Raised with every change below, so that the templates made before are brought up to date."""

OWNER: Final = "pricecheck"
PRIORITY: Final = 300  # above Elasticsearch's own, which end at 200

Layout: TypeAlias = Literal["index", "data_stream"]
Mapping: TypeAlias = dict[str, Any]

STREAMED: Final = ("price", "change", "metric")
"""The kinds that never change once they are written, so they can go to a data stream."""

_KEYWORD: Final[Mapping] = {"type": "keyword"}
_LONG: Final[Mapping] = {"type": "long"}
_INTEGER: Final[Mapping] = {"type": "integer"}
_FLOAT: Final[Mapping] = {"type": "double"}
_DATE: Final[Mapping] = {"type": "date"}
_BOOLEAN: Final[Mapping] = {"type": "boolean"}
_TITLE: Final[Mapping] = {
    "type": "text",
    "fields": {
        "keyword": {"type": "keyword", "ignore_above": 1024},
        "german": {"type": "text", "analyzer": "german"},
        "english": {"type": "text", "analyzer": "english"},
    },
}
# An address is shown, not searched.
_URL: Final[Mapping] = {"type": "keyword", "index": False, "doc_values": False}
_BY_PRICE_TYPE: Final[Mapping] = {"properties": {series.name: _LONG for series in PRICES}}
_STATISTICS: Final = ("avg", "avg30", "avg90", "avg180", "avg365", "min", "max")

_PRODUCT: Final[Mapping] = {
    "asin": _KEYWORD,
    "domain": _KEYWORD,
    "currency": _KEYWORD,
    "event_type": _KEYWORD,
}

FIELDS: Final[dict[str, Mapping]] = {
    "price": {
        **_PRODUCT,
        "product_title": _TITLE,
        "timestamp": _DATE,
        "current_price": _LONG,
        "previous_price": _LONG,
        "price_change_percent": _FLOAT,
        "target_price": _LONG,
        "prices": _BY_PRICE_TYPE,
        "stats": {"properties": dict.fromkeys(_STATISTICS, _BY_PRICE_TYPE)},
        "sales_rank": _LONG,
        "rating": _FLOAT,
        "review_count": _LONG,
        "last_update": _DATE,
        "url": _URL,
    },
    "change": {
        **_PRODUCT,
        "title": _TITLE,
        "price_type": _KEYWORD,
        "changed_at": _DATE,
        "observed_at": _DATE,
        "old_price": _LONG,
        "new_price": _LONG,
        "old_shipping": _LONG,
        "new_shipping": _LONG,
        "change_percent": _FLOAT,
    },
    "deal": {
        **_PRODUCT,
        "title": _TITLE,
        "description": _TITLE,
        "prime_eligible": _BOOLEAN,
        "price_type": _KEYWORD,
        "created_at": _DATE,
        "timestamp": _DATE,
        "current_price": _LONG,
        "original_price": _LONG,
        "discount_percent": _INTEGER,
        "rating": _FLOAT,
        "review_count": _LONG,
        "sales_rank": _LONG,
        "category": _LONG,
        "deal_score": _FLOAT,
        "source": _KEYWORD,
        "url": _URL,
    },
    "bestseller": {
        "domain": _KEYWORD,
        "category": _KEYWORD,
        "observed_at": _DATE,
        "last_update": _DATE,
        "total": _INTEGER,
        "asins": _KEYWORD,
        "event_type": _KEYWORD,
    },
    "metric": {
        "timestamp": _DATE,
        "operation": _KEYWORD,
        "tokens_consumed": _INTEGER,
        "tokens_left": _INTEGER,
        "refill_rate": _INTEGER,
        "refill_in": _INTEGER,
        "response_time_ms": _INTEGER,
        "processing_time_ms": _INTEGER,
        "asin_count": _INTEGER,
        "domain": _KEYWORD,
        "success": _BOOLEAN,
        "status": _INTEGER,
        "error": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 1024}}},
        "event_type": _KEYWORD,
    },
    "alert": {
        **_PRODUCT,
        "title": _TITLE,
        "rule": _KEYWORD,
        "what": _KEYWORD,
        "against": _KEYWORD,
        "price_type": _KEYWORD,
        "changed_at": _DATE,
        "observed_at": _DATE,
        "old_price": _LONG,
        "new_price": _LONG,
        "target_price": _LONG,
        "reference_price": _LONG,
        "change_percent": _FLOAT,
        "deal_score": _FLOAT,
        "url": _URL,
    },
}
"""The fields of each kind, as records.py makes them."""

TIME_FIELD: Final = {
    "price": "timestamp",
    "change": "changed_at",
    "deal": "timestamp",
    "bestseller": "observed_at",
    "metric": "timestamp",
    "alert": "changed_at",
}
"""When a record of each kind happened; in a data stream also under the name @timestamp."""


def is_streamed(kind: str, layout: Layout) -> bool:
    """Tell whether a kind goes to a data stream."""
    return layout == "data_stream" and kind in STREAMED


def mappings(kind: str, layout: Layout) -> Mapping:
    """Return the mappings of a kind's documents."""
    stream = {"@timestamp": _DATE} if is_streamed(kind, layout) else {}
    return {
        "dynamic": False,
        "_meta": {"managed_by": OWNER, "version": TEMPLATE_VERSION},
        "properties": {**stream, **FIELDS[kind]},
    }


def template(kind: str, name: str, layout: Layout) -> Mapping:
    """Return the index template of a kind whose index or data stream has this name."""
    stream: Mapping = {"data_stream": {}} if is_streamed(kind, layout) else {}
    return {
        "index_patterns": [name],
        "priority": PRIORITY,
        "version": TEMPLATE_VERSION,
        "_meta": {"managed_by": OWNER, "description": f"{kind} records of pricecheck"},
        **stream,
        "template": {
            # On a single node a replica could never be placed, and the index stay yellow.
            "settings": {"index": {"auto_expand_replicas": "0-1"}},
            "mappings": mappings(kind, layout),
        },
    }
