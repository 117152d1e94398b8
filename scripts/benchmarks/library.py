"""The widely used `keepa` library against our simulator, and its prices against ours.

Nothing of the library is changed but the address that it asks. Whatever it can't read, or reads
differently from us, is a difference, and fails the run.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.digest import digest_products
from pricecheck.keepa import wire
from pricecheck.keepa.client import ProductsAnswer
from pricecheck.keepa.tables import BY_ID, PRICES, SERIES, Marketplace, PriceType
from pricecheck.watchlist import Watch
from scripts.benchmarks.figures import Row
from scripts.benchmarks.processes import simulator

KEEPA = "https://api.keepa.com"
SAMPLES = Path(os.environ.get("KEEPA_SAMPLES", "../shared/keepa-samples"))
"""Recorded real answers, which are not part of this repository."""

ASINS = [f"B0{number:08d}" for number in range(100)]
_KEY = "of-the-benchmarks-only"
_STATISTICS = ("current", "avg", "avg30", "avg90", "avg180", "avg365", "min", "max")
_ALL_TIME_S = 100 * 365 * 86_400
_DIFFERENCES_SHOWN, _LONGEST = 5, 300


class Library(NamedTuple):
    """The library's client, and what came over the wire for it."""

    api: Any
    bodies: list[bytes]
    statuses: list[int]


class Tally:
    """What was compared, and what differed."""

    def __init__(self) -> None:
        self.compared = 0
        self.differences: list[str] = []

    def expect(self, what: str, theirs: object, ours: object) -> None:
        """Note a difference if there is one."""
        self.compared += 1
        if theirs != ours:
            self.differences.append(f"{what}: the library has {theirs!r}, we have {ours!r}")


def measure() -> Iterator[Row]:
    """Let the library make each kind of call, and compare what it reads with what we read."""
    warnings.simplefilter("ignore")  # the library's own, about times without a zone
    # Started first: by the end of all else, its next refill is less than a minute away.
    with simulator("--refill-rate", "60", "--tokens", "1") as scarce:
        yield _row("keepa library: token status", _token_status())
        for figure, options, query in (
            ("100 products", ("--not-found", "0.05"), {}),
            ("100 products, offers and buy box", (), {"offers": 20, "buybox": True}),
            ("100 products, 30 days", (), {"days": 30}),
            ("100 products of real size", ("--bulk",), {}),
        ):
            yield _row(f"keepa library: {figure}", _products(options, query))
        yield _row("keepa library: deals", _deals())
        yield _row("keepa library: best sellers", _bestsellers())
        if SAMPLES.is_dir():
            yield _row("keepa library: recorded products", _recorded())
        else:
            yield Row("keepa library: recorded products", "none", f"no {SAMPLES}")
        yield _row("keepa library: waits for tokens", _wait_for_tokens(scarce))


def library_at(base: str) -> Library:
    """Return the library, its calls led to another address."""
    requests, module = import_module("requests"), import_module("keepa.keepa_sync")
    library = Library(module.Keepa(_KEY, logging_level="CRITICAL", timeout=60), [], [])

    def get(url: str, *args: Any, **kwargs: Any) -> Any:
        response = requests.get(url.replace(KEEPA, base, 1), *args, **kwargs)
        library.bodies.append(response.content)
        library.statuses.append(response.status_code)
        return response

    vars(module)["requests"] = SimpleNamespace(get=get)
    return library


def compare_products(theirs: list[dict[str, Any]], body: bytes, tally: Tally) -> None:
    """Compare all that both read of the products in one answer."""
    answer = wire.decode(body)
    ours, misfits = wire.products(answer)
    tally.expect("products set aside", [], [misfit.reason for misfit in misfits])
    by_asin = {product.asin: product for product in ours}
    recorded = recorded_prices(ProductsAnswer(answer.envelope, ours, misfits))
    tally.expect("products", [product["asin"] for product in theirs], list(by_asin))
    for their in theirs:
        our = by_asin[their["asin"]]
        data, parsed = their.get("data", {}), their.get("stats_parsed", {})
        for series in PRICES:
            what = f"{our.asin} {series.name}"
            history = their_history(data, series)
            tally.expect(what, history, our_history(our, series))
            if history:
                now = recorded.get(our.asin, {}).get(series.name)
                last = wire.points(our, series)[-1]
                their_now = None if now is None else now + surcharge(last, series)
                tally.expect(f"{what} in the record", history[-1][1], their_now)
        for name in _STATISTICS if our.stats else ():
            row = getattr(our.stats, name)
            for series in PRICES:
                what = f"{our.asin} {name} {series.name}"
                tally.expect(what, cents(parsed.get(name, {}).get(series.name)), cell(row, series))
        current = parsed.get("current", {})
        for name in ("SALES", "COUNT_REVIEWS", "RATING") if our.stats else ():
            value = current.get(name)
            their_value = round(value * 10) if name == "RATING" and value else value
            tally.expect(f"{our.asin} {name}", their_value, wire.last_value(our, SERIES[name]))


def their_history(data: dict[str, Any], series: PriceType) -> list[tuple[int, int | None]]:
    """Return minutes and prices of a history as the library has read it."""
    times, prices = data.get(f"{series.name}_time", ()), data.get(series.name, ())
    minutes = [int(time.astype("int64")) for time in times]
    return [(m, cents(price)) for m, price in zip(minutes, prices, strict=True)]


def our_history(product: wire.Product, series: PriceType) -> list[tuple[int, int | None]]:
    """Return minutes since 1970 and prices of a history as we read it, shipping added."""
    return [
        (
            point.minute + 21_564_000,
            None
            if point.price is None
            else point.price + (point.shipping or 0) + surcharge(point, series),
        )
        for point in wire.points(product, series)
    ]


def surcharge(point: wire.Point, series: PriceType) -> int:
    """Return what the library adds for unknown shipping: the -1 that stands for it."""
    return -1 if series.with_shipping and point.shipping is None else 0


def recorded_prices(answer: ProductsAnswer) -> dict[str, dict[str, int]]:
    """Return the prices in the record that a first check of each product makes."""
    found: dict[str, dict[str, int]] = {}
    for domain_id in {product.domain_id for product in answer.products}:
        watches = [watch(product.asin, BY_ID[domain_id or 0]) for product in answer.products]
        digest = digest_products(
            answer, watches, {}, now_ms=0, lookback_s=_ALL_TIME_S, derived=DerivedDeals()
        )
        found |= {x.price.asin: x.price.prices for x in digest.lessons if x.price is not None}
    return found


def watch(asin: str, market: Marketplace) -> Watch:
    """Return a product as a watchlist would have it."""
    return Watch(asin, market.code, 1.0, None, 21_600)


def cents(price: Any) -> int | None:
    """Return a price of the library's, which may come with its time, in the smallest unit."""
    value = price[1] if isinstance(price, tuple) else price
    return None if value is None or math.isnan(value) else round(float(value) * 100)


def cell(row: list[Any] | None, series: PriceType) -> int | None:
    """Return our value of a statistic, which may come with its time."""
    value = row[series.index] if row and series.index < len(row) else None
    return wire.value(value[1] if isinstance(value, list) else value)


def _row(figure: str, tally: Tally) -> Row:
    for difference in tally.differences[:_DIFFERENCES_SHOWN]:
        print(f"  DIFFERENT  {difference[:_LONGEST]}")
    differ = len(tally.differences)
    return Row(figure, f"{tally.compared:,} compared", f"{differ} differ", "", "0", differ == 0)


def _token_status() -> Tally:
    tally = Tally()
    with simulator("--refill-rate", "20", "--tokens", "77") as url:
        api = library_at(url).api
        api.update_status()
        tally.expect("tokens left", api.tokens_left, 77)
        tally.expect("refill rate", api.status.refillRate, 20)
        tally.expect("seconds to the refill", 0 < api.time_to_refill <= 61, True)
    return tally


def _products(options: tuple[str, ...], query: dict[str, Any]) -> Tally:
    tally = Tally()
    with simulator("--refill-rate", "0", *options) as url:
        for domain in ("DE", "JP"):
            library = library_at(url)
            ask = {"stats": 90, "domain": domain, "progress_bar": False, "to_datetime": False}
            found = library.api.query(ASINS, history=True, **ask, **query)
            compare_products(found, library.bodies[-1], tally)
        # Its models of Keepa's answers: that ours pass them is worth as much as the figures.
        typed = library.api.query(ASINS[:20], history=True, typed=True, **ask, **query)
        tally.expect("typed products", [x.asin for x in typed], [x["asin"] for x in found[:20]])
    return tally


def _deals() -> Tally:
    tally = Tally()
    with simulator("--refill-rate", "0") as url:
        library = library_at(url)
        asked = {"page": 0, "domainId": 3, "priceTypes": [1], "dateRange": 2, "sortType": 4}
        theirs = library.api.deals(asked, domain="DE")["dr"]
        ours, misfits = wire.deals(wire.decode(library.bodies[-1]))
        tally.expect("deals set aside", [], [misfit.reason for misfit in misfits])
        tally.expect("some deals", len(theirs) > 0, True)
        for their, our in zip(theirs, ours, strict=True):
            tally.expect("deal", their["asin"], our.asin)
            tally.expect(f"{our.asin} current", their["current"], our.current)
            tally.expect(f"{our.asin} average", their["avg"], our.avg)
        typed = library.api.deals(asked, domain="DE", typed=True).dr
        tally.expect("typed deals", [deal.asin for deal in typed], [deal.asin for deal in ours])
    return tally


def _bestsellers() -> Tally:
    tally = Tally()
    with simulator("--refill-rate", "0") as url:
        library = library_at(url)
        theirs = library.api.best_sellers_query("340843031", domain="DE")
        ours = wire.bestsellers(wire.decode(library.bodies[-1]))
        tally.expect("best sellers", theirs, ours and ours.asin_list)
        typed = library.api.best_sellers_query("340843031", domain="DE", typed=True)
        tally.expect("typed best sellers", typed.asinList, theirs)
    return tally


def _recorded() -> Tally:
    tally = Tally()
    by_domain = defaultdict(set)
    for file in SAMPLES.glob("*.json"):
        for product in wire.products(wire.decode(file.read_bytes()))[0]:
            by_domain[product.domain_id or 0].add(product.asin)
    with simulator("--refill-rate", "0", "--replay", str(SAMPLES)) as url:
        library = library_at(url)
        names = import_module("keepa.constants").DCODES
        for domain_id, asins in by_domain.items():
            for asin in sorted(asins):
                found = library.api.query(
                    asin,
                    stats=90,
                    domain=names[domain_id],
                    progress_bar=False,
                    to_datetime=False,
                )
                compare_products(found, library.bodies[-1], tally)
    tally.expect("some products", tally.compared > 0, True)
    return tally


def _wait_for_tokens(url: str) -> Tally:
    tally = Tally()
    library = library_at(url)
    api, ask = library.api, {"domain": "DE", "progress_bar": False}
    api.update_status()
    while api.tokens_left > 0:
        api.query(ASINS[: api.tokens_left], **ask)
    library.statuses.clear()
    found = api.query(ASINS[0], **ask)
    tally.expect("products after the wait", [product["asin"] for product in found], ASINS[:1])
    tally.expect("answers", library.statuses, [429, 200])
    api.wait_for_tokens()
    tally.expect("tokens left", api.tokens_left > 0, True)
    return tally
