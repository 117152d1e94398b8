"""What one product's answer teaches: its price now, and every change since we last looked.

Pure functions, no waiting and no storage. Keepa hands over the whole history with every answer,
so nothing is missed between two checks; what was seen before is told by the last point known
of each price type, not by the time of the check, because Keepa may add points late.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from pricecheck.extras import Extras
from pricecheck.keepa import wire
from pricecheck.keepa.client import ProductQuery
from pricecheck.keepa.tables import PRICE_TYPES, PRICES, SERIES, Marketplace, PriceType
from pricecheck.keepa.time import from_unix_ms, to_rfc3339, to_unix_ms
from pricecheck.records import Change, Price, percent_change, with_shipping
from pricecheck.rhythm import Rhythm, follow
from pricecheck.watchlist import Watch

_DAY_MINUTES: Final = 24 * 60

_SALES = SERIES["SALES"]
_RATING = SERIES["RATING"]
_REVIEWS = SERIES["COUNT_REVIEWS"]
# By csv index; None for what is no price.
_PRICE_NAMES = [series.name if series in PRICES else None for series in PRICE_TYPES]
_STATISTICS = ("avg", "avg30", "avg90", "avg180", "avg365", "min", "max")


class Known(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of a product between checks; times are Keepa minutes."""

    since: int | None = None  # from when on every change is told: the look-back's begin
    last_update: int | None = None  # until when every change was told
    current_price: int | None = None
    absent: str | None = None  # why Keepa has nothing on it
    extras: tuple[str, ...] = ()  # what was bought beside the plain histories
    prices: dict[str, wire.Point] = {}  # the point in force of each price type
    rhythm: Rhythm | None = None  # how often its prices change
    told: dict[str, int] = {}  # what alert rules remember of it (alerts.py)

    def offer(self, price_type: str) -> int | None:
        """Return the price in force, with shipping where it is known; None for no offer."""
        point = None if self.absent else self.prices.get(price_type)
        return None if point is None else with_shipping(point.price, point.shipping)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Known).decode


def remember(known: Known) -> bytes:
    """Write what is known of a product as the body of its stored state."""
    return _encode(known)


def recall(body: bytes | None) -> Known | None:
    """Read a product's stored state; None for one never checked, or that another version wrote."""
    try:
        return _decode(body) if body is not None else None
    except msgspec.DecodeError:
        return None


class Lesson(msgspec.Struct, frozen=True):
    """What one answer teaches of one product."""

    asin: str
    price: Price | None  # None when Keepa has no data on it
    changes: list[Change]
    known: Known
    categories: frozenset[int] = frozenset()


def product_query(
    stats_days: int, extras: Extras, known: Iterable[Known | None], now_ms: int
) -> ProductQuery:
    """Return what to ask of products with the same extras, of which that much is known.

    All history at the first check of one of them, later what is new since the oldest answer.
    What Keepa has nothing on does not count: it would have all its neighbours answered whole.
    """
    query = ProductQuery(stats_days, None, extras.buybox, extras.offers, extras.update)
    now = oldest = from_unix_ms(now_ms)
    for state in known:
        if state is None:
            return query
        if state.absent is None:
            if state.last_update is None or state.extras != _extras(query):
                return query
            oldest = min(oldest, state.last_update)
    # One day more because a part of a day is none, and one because Keepa may add points late.
    return msgspec.structs.replace(query, days=(now - oldest) // _DAY_MINUTES + 2)


def _extras(query: ProductQuery) -> tuple[str, ...]:
    """Return what a query buys beside the plain histories: each brings price types of its own."""
    return tuple(name for name in ("buybox", "offers") if getattr(query, name))


def learn(
    product: wire.Product,
    watch: Watch,
    market: Marketplace,
    known: Known | None,
    *,
    query: ProductQuery,
    observed_ms: int,
    lookback_s: int,
) -> Lesson:
    """Compare an answer with what was known.

    On the first check changes of the last `lookback_s` seconds are told, later all since the
    check before. An answer whose histories do not reach back that far teaches only the price;
    the changes are told with the next that does. Raises WireError when the product is of another
    marketplace, or a history of it can't be read.
    """
    if product.domain_id not in (None, market.id):
        raise wire.WireError(f"it is of domain {product.domain_id}, not of {market.id}")
    before = known or Known()
    if product.no_data is not None:
        gone = msgspec.structs.replace(before, absent=product.no_data)
        return Lesson(product.asin, None, [], gone)
    minute = from_unix_ms(observed_ms)
    since = before.since
    if since is None:
        since = from_unix_ms(observed_ms - lookback_s * 1000)
    observed_at = to_rfc3339(observed_ms)
    now: dict[str, wire.Point] = {}
    last = dict(before.prices)
    changes: list[Change] = []
    changed: list[int] = []
    begin = minute
    for series in PRICES:
        seen = last.get(series.name)
        # What lies before the point that was seen was read when it was.
        history = wire.points(
            product, series, seen.minute if seen else since, only_tail=seen is not None
        )
        if history:
            now[series.name] = history[-1]
            begin = min(begin, history[0].minute)
            steps, last[series.name] = _steps(history, seen, since)
            changes += [_change(product, market, series, *step, observed_at) for step in steps]
            changed += [new.minute for _, new in steps]
    price = _price(product, watch, market, now, before, observed_at)
    if _reaches(product, query, before, minute):
        learned = Known(
            since=since,
            last_update=product.last_update,
            current_price=price.current_price,
            extras=_extras(query),
            prices=last,
            rhythm=follow(
                before.rhythm or Rhythm(max(begin, before.last_update or since)),
                sorted(changed),
                minute,
            ),
            told=before.told,
        )
    else:
        changes = []
        learned = msgspec.structs.replace(before, absent=None, current_price=price.current_price)
    categories = frozenset(product.categories or ()) | {product.root_category or 0}
    return Lesson(product.asin, price, changes, learned, categories)


def product_url(market: Marketplace, asin: str) -> str:
    """Return the address of a product's page."""
    return f"https://www.amazon.{market.tld}/dp/{asin}"


def _reaches(product: wire.Product, query: ProductQuery, before: Known, minute: int) -> bool:
    """Tell whether an answer's histories reach back to what was told before."""
    if product.csv is None:
        return False
    if query.days is None:
        return True
    begin = minute - query.days * _DAY_MINUTES
    # By a day more, for points may have come late, after what was told.
    return before.last_update is not None and before.last_update - _DAY_MINUTES >= begin


def _steps(
    history: list[wire.Point], seen: wire.Point | None, since: int
) -> tuple[list[tuple[wire.Point | None, wire.Point]], wire.Point]:
    """Return each real change after what was seen (or from `since` on) as (before, after).

    And the point that is in force now: where a value was repeated, the first that had it.
    """
    steps: list[tuple[wire.Point | None, wire.Point]] = []
    force, earlier = seen, None
    # Of several points in one minute only the last was in force after it.
    for point in {point.minute: point for point in history}.values():
        if seen is not None and point.minute < seen.minute:
            earlier = point
            continue
        if force is not None and point[1:] == force[1:]:
            continue
        old = force
        if seen is not None and point.minute == seen.minute and earlier is not None:
            old = earlier if earlier[1:] != point[1:] else seen  # its record is told anew
        begins = old is None and point.price is None  # without an offer: nothing changes
        if not begins and point.minute >= since:
            steps.append((old, point))
        force = point
    assert force is not None  # a history has a point, and what was seen is one
    return steps, force


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
    now: dict[str, wire.Point],
    before: Known,
    observed_at: str,
) -> Price:
    prices: dict[str, int] = {}
    for series in PRICES:
        point = now.get(series.name)
        value = point.price if point else wire.last_value(product, series)
        if value is not None:
            prices[series.name] = value + ((point.shipping or 0) if point else 0)
    current = prices.get("NEW", prices.get("AMAZON"))
    previous = before.current_price
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
        if name in ("min", "max"):  # pairs of time and value
            row = [cell[-1] if cell else None for cell in row]
        values = {
            price: cell
            for price, cell in zip(_PRICE_NAMES, row, strict=False)
            if price and cell is not None and cell >= 0
        }
        if values:
            found[name] = values
    return found
