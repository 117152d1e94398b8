"""The dashboards themselves: the one place to change them.

`pricecheck kibana export --output packaging/kibana/pricecheck.ndjson` brings the file in the
repository up to date. Fields are those of records.py, data views are called like the kinds.
"""

from __future__ import annotations

from typing import Final

from pricecheck.kibana.expressions import (
    Aggregation,
    Now,
    amount,
    average,
    count,
    either,
    highest,
    later,
    lowest,
    newest,
    percentile,
    total,
)
from pricecheck.kibana.panels import (
    EVERYTHING,
    Cases,
    Control,
    Dashboard,
    Layer,
    Panel,
    Time,
    Top,
    Value,
)

_MINUTES_A_DAY: Final = 1440
_MS_A_MINUTE: Final = 60_000
_SPENT: Final = total("tokens_consumed")


TOKENS: Final = Dashboard(
    name="tokens",
    title="Token budget",
    about="What Keepa's tokens are spent on, and how many are left.",
    last="24h",
    panels=(
        Panel(
            name="left",
            title="Tokens left",
            look="area",
            layers=(
                Layer(
                    "metric",
                    (Time("timestamp"),),
                    (Value("Tokens left, at the least", lowest("tokens_left")),),
                ),
            ),
        ),
        Panel(
            name="consumed",
            title="Tokens consumed per hour",
            look="bars",
            layers=(
                Layer(
                    "metric",
                    (Top("operation", 10, "Operation"), Time("timestamp", "1h")),
                    (Value("Tokens consumed", _SPENT),),
                ),
            ),
        ),
        Panel(
            name="operations",
            title="Cost by operation",
            look="pie",
            width=16,
            layers=(
                Layer(
                    "metric",
                    (Top("operation", 10, "Operation"),),
                    (Value("Tokens consumed", _SPENT),),
                ),
            ),
        ),
        Panel(
            name="daily",
            title="Daily budget used",
            look="bars",
            width=16,
            where="refill_rate > 0",
            layers=(
                Layer(
                    "metric",
                    (Time("timestamp", "1d"),),
                    (
                        Value(
                            "Of the tokens that a whole day brings",
                            _SPENT / (highest("refill_rate") * _MINUTES_A_DAY),
                            decimals=1,
                            percent=True,
                        ),
                    ),
                ),
            ),
        ),
        Panel(
            name="per-product",
            title="Tokens for one product's check",
            look="lines",
            width=16,
            where="operation: product and asin_count > 0 and success: true",
            layers=(
                Layer(
                    "metric",
                    (Time("timestamp"),),
                    (Value("Tokens a product", _SPENT / total("asin_count"), decimals=1),),
                ),
            ),
        ),
        Panel(
            name="response-time",
            title="Response time",
            look="lines",
            width=48,
            layers=(
                Layer(
                    "metric",
                    (Time("timestamp"),),
                    (
                        Value("Average, ms", average("response_time_ms")),
                        Value("95 of 100 are quicker, ms", percentile("response_time_ms", 95)),
                    ),
                ),
            ),
        ),
    ),
)


_DROP: Final = lowest("change_percent")
_FELL: Final = lowest("price_change_percent")


PRICES: Final = Dashboard(
    name="prices",
    title="Prices",
    about="Histories, the biggest drops and all-time lows. Choose products above the panels.",
    last="30d",
    controls=(
        Control("Marketplace", "change", "domain"),
        Control("Product", "change", "title.keyword"),
        Control("ASIN", "change", "asin"),
    ),
    panels=(
        Panel(
            name="by-product",
            title="Price history by ASIN (New)",
            look="steps",
            where="price_type: NEW and new_price: *",
            layers=(
                Layer(
                    "change",
                    (Top("asin", 12, "ASIN", by=count()), Time("changed_at")),
                    (Value("Lowest price", amount(lowest("new_price")), decimals=2),),
                ),
            ),
        ),
        Panel(
            name="by-type",
            title="Price history by price type",
            look="steps",
            where="new_price: *",
            layers=(
                Layer(
                    "change",
                    (Top("price_type", 12, "Price type", by=count()), Time("changed_at")),
                    (Value("Lowest price", amount(lowest("new_price")), decimals=2),),
                ),
            ),
        ),
        Panel(
            name="drops",
            title="Biggest drops",
            look="table",
            where="change_percent < 0 and new_price: *",
            sort=("Drop, %", "asc"),
            height=16,
            layers=(
                Layer(
                    "change",
                    (
                        Top("asin", 25, "ASIN", by=_DROP, ascending=True),
                        Top("domain", 3, "Marketplace", by=_DROP, ascending=True),
                        Top("price_type", 3, "Price type", by=_DROP, ascending=True),
                    ),
                    (
                        Value("Product", newest("title.keyword", "changed_at")),
                        Value("Drop, %", _DROP, decimals=1),
                        Value("From", amount(highest("old_price")), decimals=2),
                        Value("Down to", amount(lowest("new_price")), decimals=2),
                    ),
                ),
            ),
        ),
        Panel(
            name="lows",
            title="All-time lows (New)",
            look="table",
            where="prices.NEW: * and stats.min.NEW: *",
            sort=("Above its all-time low", "asc"),
            height=16,
            layers=(
                Layer(
                    "price",
                    (
                        Top("asin", 100, "ASIN", by=_FELL, ascending=True),
                        Top("domain", 5, "Marketplace", by=_FELL, ascending=True),
                    ),
                    (
                        Value("Product", newest("product_title.keyword", "timestamp")),
                        Value("Lowest seen", amount(lowest("prices.NEW")), decimals=2),
                        Value("All-time low", amount(lowest("stats.min.NEW")), decimals=2),
                        Value(
                            "Above its all-time low",
                            lowest("prices.NEW") / lowest("stats.min.NEW") - 1,
                            decimals=1,
                            percent=True,
                        ),
                        Value("Last change, %", _FELL, decimals=1),
                    ),
                ),
            ),
        ),
        Panel(
            name="changes",
            title="Price changes per day",
            look="bars",
            width=48,
            layers=(
                Layer(
                    "change",
                    (Top("price_type", 12, "Price type"), Time("changed_at", "1d")),
                    (Value("Changes", count()),),
                ),
            ),
        ),
    ),
)


_SCORE: Final = highest("deal_score")
_DISCOUNT: Final = highest("discount_percent")


def _best_deals(name: str, title: str, best_by: Aggregation, sort: str) -> Panel:
    return Panel(
        name=name,
        title=title,
        look="table",
        where="current_price: * and original_price: *",
        sort=(sort, "desc"),
        height=16,
        layers=(
            Layer(
                "deal",
                (
                    Top("asin", 25, "ASIN", by=best_by),
                    Top("domain", 3, "Marketplace", by=best_by),
                ),
                (
                    Value("Product", newest("title.keyword", "timestamp")),
                    Value("Score", _SCORE, decimals=1),
                    Value("Discount, %", _DISCOUNT),
                    Value("Price", amount(lowest("current_price")), decimals=2),
                    Value("Instead of", amount(highest("original_price")), decimals=2),
                ),
            ),
        ),
    )


DEALS: Final = Dashboard(
    name="deals",
    title="Deals",
    about="The best deals by score and by discount, where they are and when they began.",
    last="7d",
    controls=(
        Control("Marketplace", "deal", "domain"),
        Control("Price type", "deal", "price_type"),
        Control("Source", "deal", "source"),
    ),
    panels=(
        _best_deals("by-score", "Top deals by score", _SCORE, "Score"),
        _best_deals("by-discount", "Top deals by discount", _DISCOUNT, "Discount, %"),
        Panel(
            name="by-marketplace",
            title="Deals by marketplace",
            look="rows",
            width=16,
            layers=(
                Layer(
                    "deal",
                    (Top("source", 2, "Source"), Top("domain", 12, "Marketplace")),
                    (Value("Deals", count()),),
                ),
            ),
        ),
        Panel(
            name="over-time",
            title="Deals by the day on which they began",
            look="bars",
            width=32,
            layers=(
                Layer(
                    "deal",
                    (Top("domain", 12, "Marketplace"), Time("created_at", "1d")),
                    (Value("Deals", count()),),
                ),
            ),
        ),
    ),
)


_LATEST: Final = later(
    either(highest("timestamp"), 0),
    either(highest("observed_at"), 0),
)
"""When the newest document was learned; each kind has one of the two times."""


def _records(kind: str, time: str, label: str) -> Layer:
    return Layer(kind, (Time(time),), (Value(label, count()),))


HEALTH: Final = Dashboard(
    name="health",
    title="Pipeline health",
    about="Whether Keepa answers, and whether records of every kind keep coming.",
    last="24h",
    panels=(
        Panel(
            name="calls",
            title="Calls to Keepa",
            look="bars",
            width=36,
            layers=(
                Layer(
                    "metric",
                    (
                        Cases(
                            "Outcome",
                            (("answered", "success: true"), ("failed", "success: false")),
                        ),
                        Time("timestamp"),
                    ),
                    (Value("Calls", count()),),
                ),
            ),
        ),
        Panel(
            name="failures",
            title="Failed calls",
            look="figure",
            width=12,
            layers=(
                Layer(
                    "metric",
                    (),
                    (
                        Value(
                            "Failed calls",
                            count("success: false") / count(),
                            decimals=1,
                            percent=True,
                        ),
                    ),
                ),
            ),
        ),
        Panel(
            name="errors",
            title="Errors",
            look="table",
            where="success: false",
            sort=("Calls", "desc"),
            layers=(
                Layer(
                    "metric",
                    (Top("error.keyword", 20, "Error"), Top("operation", 5, "Operation")),
                    (Value("Calls", count()), Value("Last", highest("timestamp"))),
                ),
            ),
        ),
        Panel(
            name="ages",
            title="Newest document of each kind, whatever the time above",
            look="table",
            sort=("Age in minutes", "desc"),
            layers=(
                Layer(
                    EVERYTHING,
                    (Top("event_type", 10, "Kind"),),
                    (
                        Value("Documents", count()),
                        Value("Age in minutes", (Now() - _LATEST) / _MS_A_MINUTE),
                    ),
                ),
            ),
        ),
        Panel(
            name="records",
            title="Records by the time that they tell of",
            look="bars",
            width=48,
            layers=(
                _records("price", "timestamp", "prices"),
                _records("change", "changed_at", "price changes"),
                _records("deal", "timestamp", "deals"),
                _records("bestseller", "observed_at", "best-seller lists"),
                _records("metric", "timestamp", "calls"),
            ),
        ),
    ),
)


DASHBOARDS: Final = (TOKENS, PRICES, DEALS, HEALTH)
"""All of them, in the order in which they are exported."""
