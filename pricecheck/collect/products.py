"""What one product's answer teaches: its price now, and every change since we last looked.

Pure functions, no waiting and no storage. Keepa hands over the whole history with every answer,
so nothing is missed between two checks; what was seen before is told by the last point known
of each price type, not by the time of the check, because Keepa may add points late.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pricecheck.keepa import wire
from pricecheck.keepa.tables import PRICES, SERIES, Marketplace, PriceType
from pricecheck.keepa.time import from_unix_ms, to_rfc3339, to_unix_ms
from pricecheck.records import Change, Price, percent_change
from pricecheck.watchlist import Watch

_SALES = SERIES["SALES"]
_RATING = SERIES["RATING"]
_REVIEWS = SERIES["COUNT_REVIEWS"]
_STATISTICS = ("avg", "avg30", "avg90", "avg180", "avg365", "min", "max")


class Known(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of a product between checks."""

    last_update: int | None = None  # Keepa minutes
    current_price: int | None = None
    absent: str | None = None  # why Keepa has nothing on it
    prices: dict[str, wire.Point] = {}  # the last point of each price type


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Known).decode


def remember(known: Known) -> bytes:
    """Write what is known of a product as the body of its stored state."""
    return _encode(known)


def recall(body: bytes | None) -> Known | None:
    """Read a product's stored state; None for one never checked."""
    return _decode(body) if body is not None else None


class Lesson(msgspec.Struct, frozen=True):
    """What one answer teaches of one product."""

    asin: str
    price: Price | None  # None when Keepa has no data on it
    changes: list[Change]
    known: Known
    categories: frozenset[int] = frozenset()


def learn(
    product: wire.Product,
    watch: Watch,
    market: Marketplace,
    known: Known | None,
    *,
    observed_ms: int,
    lookback_s: int,
) -> Lesson:
    """Compare an answer with what was known.

    On the first check changes of the last `lookback_s` seconds are told, later all since the
    check before. Raises WireError when a history of the product can't be read.
    """
    if product.no_data is not None:
        before = known or Known()
        return Lesson(
            product.asin, None, [], msgspec.structs.replace(before, absent=product.no_data)
        )
    since = from_unix_ms(observed_ms - lookback_s * 1000)
    observed_at = to_rfc3339(observed_ms)
    last = dict(known.prices) if known else {}
    changes: list[Change] = []
    for series in PRICES:
        seen = last.get(series.name)
        history = wire.points(product, series, seen.minute if seen else since)
        for old, new in _steps(history, seen, since):
            changes.append(_change(product, market, series, old, new, observed_at))
        if history and (seen is None or history[-1].minute >= seen.minute):
            last[series.name] = history[-1]
    price = _price(product, watch, market, last, known, observed_at)
    learned = Known(last_update=product.last_update, current_price=price.current_price, prices=last)
    categories = frozenset(product.categories or ()) | {product.root_category or 0}
    return Lesson(product.asin, price, changes, learned, categories)


def product_url(market: Marketplace, asin: str) -> str:
    """Return the address of a product's page."""
    return f"https://www.amazon.{market.tld}/dp/{asin}"


def _steps(
    history: Iterable[wire.Point], seen: wire.Point | None, since: int
) -> Iterable[tuple[wire.Point | None, wire.Point]]:
    """Yield each real change after what was seen (or from `since` on) as (before, after)."""
    before = seen
    # Of several points in one minute only the last was in force after it.
    for point in {point.minute: point for point in history}.values():
        if seen is not None and point.minute < seen.minute:
            continue
        same = (before is None and point.price is None) or (
            before is not None and before[1:] == point[1:]
        )
        if not same and (seen is not None or point.minute >= since):
            yield before, point
        before = point


def _change(
    product: wire.Product,
    market: Marketplace,
    series: PriceType,
    old: wire.Point | None,
    new: wire.Point,
    observed_at: str,
) -> Change:
    old_price = old.price if old else None
    return Change(
        asin=product.asin,
        domain=market.code,
        currency=market.currency,
        title=product.title,
        price_type=series.name,
        changed_at=to_rfc3339(to_unix_ms(new.minute)),
        observed_at=observed_at,
        old_price=old_price,
        new_price=new.price,
        old_shipping=old.shipping if old else None,
        new_shipping=new.shipping,
        change_percent=percent_change(old_price, new.price),
    )


def _price(
    product: wire.Product,
    watch: Watch,
    market: Marketplace,
    last: dict[str, wire.Point],
    known: Known | None,
    observed_at: str,
) -> Price:
    prices: dict[str, int] = {}
    for series in PRICES:
        point = last.get(series.name)
        now = point.price if point else wire.last_value(product, series)
        if now is not None:
            prices[series.name] = now + ((point.shipping or 0) if point else 0)
    current = prices.get("NEW", prices.get("AMAZON"))
    previous = known.current_price if known else None
    rating = wire.last_value(product, _RATING)
    updated = product.last_update
    return Price(
        asin=product.asin,
        domain=market.code,
        currency=market.currency,
        title=product.title,
        timestamp=observed_at,
        current_price=current,
        previous_price=previous,
        price_change_percent=percent_change(previous, current),
        target_price=watch.target_price,
        prices=prices,
        stats=_statistics(product.stats),
        sales_rank=wire.last_value(product, _SALES),
        rating=rating / 10 if rating is not None else None,
        review_count=wire.last_value(product, _REVIEWS),
        last_update=to_rfc3339(to_unix_ms(updated)) if updated is not None else None,
        url=product_url(market, product.asin),
    )


def _statistics(stats: wire.Stats | None) -> dict[str, dict[str, int]]:
    """Return the statistics of each price type, those without a value left out."""
    found: dict[str, dict[str, int]] = {}
    for name in _STATISTICS if stats else ():
        row = getattr(stats, name) or ()
        values = {}
        for series in PRICES:
            cell = row[series.index] if series.index < len(row) else None
            if isinstance(cell, list):  # min and max are pairs of time and value
                cell = cell[-1] if cell else None
            number = wire.value(cell)
            if number is not None:
                values[series.name] = number
        if values:
            found[name] = values
    return found
