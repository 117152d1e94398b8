"""Keepa's answers, written as the wire has them and read by the reader of the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pricecheck.keepa import wire
from pricecheck.keepa.client import ProductsAnswer
from pricecheck.keepa.tables import BY_CODE, PRICE_TYPES, SERIES
from pricecheck.keepa.time import to_unix_ms
from pricecheck.watchlist import Watch

NOON = 8_000_000
"""A Keepa minute that the tests count from: 2026-03-18T13:20Z."""

DAY = 24 * 60
DE = BY_CODE["DE"]


RARELY_S = 3650 * 86_400
"""An interval in which nothing falls due a second time while a test looks on."""


def watch(asin: str = "B000000001", domain: str = "DE", every_s: int = RARELY_S) -> Watch:
    return Watch(asin, domain, 1.0, 4_999, every_s)


def product(
    csv: Mapping[str, Sequence[Any]] | None = None, asin: str = "B000000001", **fields: Any
) -> dict[str, Any]:
    """A product object with the series named, each a flat list as in csv; None is no csv."""
    rows: list[Any] | None = None
    if csv is not None:
        rows = [None] * len(PRICE_TYPES)
        for name, flat in csv.items():
            rows[SERIES[name].index] = flat
    plain = {"asin": asin, "domainId": 3, "title": "A keyboard", "productType": 0, "csv": rows}
    return plain | {"lastUpdate": NOON} | fields


def stats(**rows: Mapping[str, Any]) -> dict[str, list[Any]]:
    """A stats object: statistic -> price type -> value, with Keepa's blanks for the others."""
    return {
        name: [
            row.get(series.name, None if name in ("min", "max") else -1) for series in PRICE_TYPES
        ]
        for name, row in rows.items()
    }


def answer(*products: Any, minute: int = NOON, **envelope: Any) -> ProductsAnswer:
    """What the client makes of an answer that holds these product objects."""
    figures = {
        "timestamp": to_unix_ms(minute),
        "tokensLeft": 100,
        "refillIn": 60_000,
        "refillRate": 20,
        "tokensConsumed": len(products),
    }
    body = json.dumps(figures | envelope | {"products": products}).encode()
    read = wire.decode(body)
    return ProductsAnswer(read.envelope, *wire.products(read))


def only(answered: ProductsAnswer) -> wire.Product:
    """The one product of an answer, which fits."""
    assert answered.misfits == []
    [found] = answered.products
    return found
