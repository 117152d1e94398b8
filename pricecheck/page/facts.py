"""What the page tells, read from the outbox; nothing is asked of Keepa and nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from statistics import median
from typing import Final

import msgspec

from pricecheck.keepa.tables import BY_CODE, PRICES, SERIES, Marketplace
from pricecheck.keepa.time import to_rfc3339
from pricecheck.outbox import Outbox, lookup
from pricecheck.page.steps import Point, even_cap, price_at, thin
from pricecheck.records import Deal, Metric, Price, percent_change, with_shipping
from pricecheck.watchlist import Watch

MOST_POINTS: Final = 250_000
"""How many points all charts have together: about 2 MB of the file."""

_LISTED: Final = 10
_DEALS_READ: Final = 10_000
_METRICS_READ: Final = 50_000
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_WEEK_MINUTES: Final = 7 * 24 * 60


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """One watched product: what its last check said, and its price types as step lines."""

    asin: str
    market: Marketplace
    price: Price
    target: int | None
    checked: int  # minutes since the page's time begins, as in `series`
    series: dict[str, list[Point]]  # by price type
    week_ago: int | None  # New, or Amazon where nothing else is offered new
    week_percent: float | None


class Operation(msgspec.Struct, frozen=True):
    """What one kind of call came to in the last day."""

    name: str
    calls: int
    failed: int
    tokens: int
    median_ms: float


class Spending(msgspec.Struct, frozen=True):
    """Where the tokens of the last day went; `by_hour` is oldest first."""

    by_hour: list[int]
    operations: list[Operation]
    tokens_left: int | None
    refill_rate: int | None  # tokens a minute

    @property
    def tokens(self) -> int:
        """All of them."""
        return sum(each.tokens for each in self.operations)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page tells, except what only a running daemon knows."""

    now_ms: int
    begin_ms: int  # where the charts begin
    watched: int
    products: list[Product]  # those checked, up to a limit
    deals: list[Deal]
    deals_in_all: int
    spending: Spending

    @property
    def drops(self) -> list[Product]:
        """The products whose price fell most in a week, the deepest first."""
        fallen = [each for each in self.products if (each.week_percent or 0) < 0]
        return sorted(fallen, key=lambda each: each.week_percent or 0)[:_LISTED]


class _Step(msgspec.Struct, frozen=True):
    """What a chart needs of a change record."""

    price_type: str
    changed_at: str
    old_price: int | None
    new_price: int | None
    old_shipping: int | None = None
    new_shipping: int | None = None


_step = msgspec.json.Decoder(_Step).decode
_price = msgspec.json.Decoder(Price).decode
_deal = msgspec.json.Decoder(Deal).decode
_metric = msgspec.json.Decoder(Metric).decode


def gather(
    outbox: Outbox, watches: Sequence[Watch], *, now_ms: int, since_s: int, whole_s: int, limit: int
) -> Facts:
    """Read what is known of the first `limit` watched products that were checked, and the rest.

    Charts begin `since_s` ago. Changes of the last `whole_s` are all there: only since then is a
    price known to have been the same before its first change.
    """
    begin_ms = (now_ms - since_s * 1000) // _MINUTE_MS * _MINUTE_MS
    known = max(0, (now_ms - whole_s * 1000 - begin_ms) // _MINUTE_MS)
    checked = {(domain, asin) for domain, asin, _ in outbox.checked_at()}
    products: list[Product] = []
    for watch in watches:
        if len(products) == limit:
            break
        if (watch.domain, watch.asin) in checked:
            products += _product(outbox, watch, begin_ms, now_ms, known)
    deals, deals_in_all = _best_deals(outbox)
    return Facts(
        now_ms=now_ms,
        begin_ms=begin_ms,
        watched=len(watches),
        products=_thinned(products),
        deals=deals,
        deals_in_all=deals_in_all,
        spending=_spending(outbox, now_ms),
    )


def _product(outbox: Outbox, watch: Watch, begin_ms: int, now_ms: int, known: int) -> list[Product]:
    """Return the product, or nothing when no price of it is stored."""
    bodies = lookup.latest_prices(outbox, watch.asin, domain=watch.domain)
    if not bodies:
        return []
    price = _price(bodies[0])
    checked = max(0, _minute(price.timestamp, begin_ms))
    changes = lookup.changes(outbox, watch.asin, domain=watch.domain, since_ms=begin_ms)
    series = _series([_step(body) for body in changes], price, begin_ms, min(known, checked))
    main = series.get("NEW") or series.get("AMAZON") or []
    week_ago = price_at(main, (now_ms - begin_ms) // _MINUTE_MS - _WEEK_MINUTES)
    return [
        Product(
            asin=watch.asin,
            market=BY_CODE[watch.domain],
            price=price,
            target=watch.target_price,
            checked=checked,
            series=series,
            week_ago=week_ago,
            week_percent=percent_change(week_ago, price.current_price),
        )
    ]


def _series(steps: list[_Step], price: Price, begin_ms: int, known: int) -> dict[str, list[Point]]:
    """Return the price types that have a price, in Keepa's order."""
    found: dict[str, list[Point]] = {}
    for step in steps:
        points = found.setdefault(step.price_type, [])
        at = _minute(step.changed_at, begin_ms)
        old = with_shipping(step.old_price, step.old_shipping)
        if not points and old is not None and at > known:
            points.append((known, old))
        points.append((at, with_shipping(step.new_price, step.new_shipping)))
    for name, value in price.prices.items():
        found.setdefault(name, [(known, value)])
    return {each.name: found[each.name] for each in PRICES if each.name in found}


def _minute(time: str, begin_ms: int) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000 - begin_ms) // _MINUTE_MS


def _thinned(products: list[Product]) -> list[Product]:
    """Cut the longest histories where all together are more than the page can carry."""
    cap = even_cap([len(p) for each in products for p in each.series.values()], MOST_POINTS)
    return [
        msgspec.structs.replace(
            each, series={name: thin(points, cap) for name, points in each.series.items()}
        )
        for each in products
    ]


def _best_deals(outbox: Outbox) -> tuple[list[Deal], int]:
    """Return the best deals seen in the day before the last one was, and how many there were."""
    newest: dict[tuple[str, str, str], Deal] = {}
    for body in lookup.latest(outbox, "deal", limit=_DEALS_READ):
        deal = _deal(body)
        newest.setdefault((deal.domain, deal.asin, deal.price_type), deal)
    last = max((datetime.fromisoformat(deal.timestamp) for deal in newest.values()), default=None)
    since = to_rfc3339(int(last.timestamp() * 1000) - _DAY_MS) if last else ""
    fresh = [
        deal
        for deal in newest.values()
        if deal.timestamp >= since and deal.domain in BY_CODE and deal.price_type in SERIES
    ]
    return sorted(fresh, key=attrgetter("deal_score"), reverse=True)[:_LISTED], len(fresh)


def _spending(outbox: Outbox, now_ms: int) -> Spending:
    begin_ms = now_ms // _HOUR_MS * _HOUR_MS - _DAY_MS + _HOUR_MS
    since = datetime.fromtimestamp(begin_ms / 1000, UTC)
    by_hour = [0] * 24
    by_name: dict[str, list[Metric]] = {}
    tokens_left = refill_rate = None
    for body in lookup.latest(outbox, "metric", limit=_METRICS_READ):
        metric = _metric(body)
        if tokens_left is None:  # of the newest that tells it
            tokens_left = metric.tokens_left
        refill_rate = refill_rate or metric.refill_rate
        age = datetime.fromisoformat(metric.timestamp) - since
        hour = int(age.total_seconds() // 3600)
        if 0 <= hour < len(by_hour):
            by_hour[hour] += metric.tokens_consumed or 0
            by_name.setdefault(metric.operation, []).append(metric)
    operations = [_operation(name, metrics) for name, metrics in by_name.items()]
    operations.sort(key=lambda each: (-each.tokens, each.name))
    return Spending(by_hour, operations, tokens_left, refill_rate)


def _operation(name: str, metrics: list[Metric]) -> Operation:
    outcomes = Counter(metric.success for metric in metrics)
    return Operation(
        name=name,
        calls=len(metrics),
        failed=outcomes[False],
        tokens=sum(metric.tokens_consumed or 0 for metric in metrics),
        median_ms=median(metric.response_time_ms for metric in metrics),
    )
