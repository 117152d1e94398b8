"""A 100-product answer of real size, from JSON to records, against the `keepa` library."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.digest import Digest, digest_products
from pricecheck.collect.products import Known
from pricecheck.config import Config
from pricecheck.keepa import wire
from pricecheck.keepa.client import ProductsAnswer, _unpack
from pricecheck.keepa.tables import BY_CODE
from pricecheck.simulator.api import Api, Request
from pricecheck.simulator.settings import Settings
from scripts.benchmarks.figures import Row, at_least, median_seconds, milliseconds
from scripts.benchmarks.library import ASINS, SAMPLES, watch

_ROUNDS = 7
_LEAST = 20
_RULES = Config().alert_rules
_NOW_MS = time.time_ns() // 1_000_000
_HOUR_MS = 3_600_000
_LOOKBACK_S = 90 * 86_400


def measure() -> Iterator[Row]:
    """Measure the usual check, six hours after the one before, and the very first.

    Of a recorded answer there is no earlier state: its usual check finds nothing changed.
    """
    now, before = simulated(_NOW_MS), simulated(_NOW_MS - 6 * _HOUR_MS)
    yield from _against_library("100 products", "usual check", "DE", now, before)
    for file in sorted(SAMPLES.glob("*.json")):
        body, domain = a_hundred_times(json.loads(file.read_bytes()))
        yield from _against_library("1 recorded x100", "unchanged", domain, body, body)


def simulated(at_ms: int) -> bytes:
    """Return the answer of a simulator to a call for 100 products of real size."""
    api = Api(Settings(refill_rate=0, bulk=True), lambda: at_ms)
    asked = {"key": "any", "domain": "3", "asin": ",".join(ASINS), "stats": "90", "history": "1"}
    return api.answer(Request("GET", "product", asked)).body


def a_hundred_times(recorded: dict[str, Any]) -> tuple[bytes, str]:
    """Return a recorded answer with its first product under 100 ASINs, and its marketplace."""
    product = recorded["products"][0]
    answer = recorded | {"products": [product | {"asin": asin} for asin in ASINS]}
    domains = [code for code, market in BY_CODE.items() if market.id == product["domainId"]]
    return json.dumps(answer, separators=(",", ":")).encode(), domains[0]


def into_records(body: bytes, domain: str, known: dict[str, Known | None]) -> Digest:
    """Do what the daemon does with an unpacked answer: read it, compare it, make its commit.

    With the alert rules of an empty config. The histories are whole, as a first check asks for
    them; a later one asks for the last days only.
    """
    answer = wire.decode(body)
    products, misfits = wire.products(answer)
    return digest_products(
        ProductsAnswer(answer.envelope, products, misfits),
        [watch(asin, BY_CODE[domain]) for asin in ASINS],
        known,
        now_ms=_NOW_MS,
        lookback_s=_LOOKBACK_S,
        derived=DerivedDeals(),
        rules=_RULES,
    )


def by_library(body: bytes) -> list[dict[str, Any]]:
    """Let the library do what it does with an unpacked answer, handed to it without a socket."""
    requests, module = import_module("requests"), import_module("keepa.keepa_sync")
    response = requests.Response()
    response.status_code, response.encoding, response._content = 200, "UTF-8", body
    vars(module)["requests"] = SimpleNamespace(get=lambda *args, **kwargs: response)
    api = module.Keepa("of-the-benchmarks-only", logging_level="CRITICAL")
    api.status.refillRate, api.status.refillIn = 20, 0
    products: list[dict[str, Any]] = api.query(
        ASINS, stats=90, history=True, domain="DE", progress_bar=False
    )
    return products


def _against_library(
    what: str, later: str, domain: str, body: bytes, before: bytes
) -> Iterator[Row]:
    first = into_records(before, domain, {})
    known: dict[str, Known | None] = {
        lesson.price.asin: lesson.known for lesson in first.lessons if lesson.price
    }
    usual = partial(into_records, body, domain, known)
    at_first = partial(into_records, body, domain, {})
    # Neither waits for anything, so their processor time is the time that they take when alone.
    library, ours, ours_at_first = median_seconds(
        (partial(by_library, body), usual, at_first), _ROUNDS, time.process_time
    )
    against = f"keepa library {milliseconds(library)}"
    yield at_least(
        f"parse {what} unpacked, {later}",
        f"{milliseconds(ours)}, {len(usual().commit.records):,} rec.",
        against,
        library / ours,
        _LEAST,
    )
    yield _with_gunzip(body, domain, known)
    # Each change of the last 90 days is a record to be written: there is no peer for that.
    yield Row(
        f"parse {what} unpacked, first check",
        f"{milliseconds(ours_at_first)}, {len(at_first().commit.records):,} rec.",
        against,
        f"{library / ours_at_first:.2f}",
    )


def _with_gunzip(body: bytes, domain: str, known: dict[str, Known | None]) -> Row:
    """Compare once more with gunzip before it: that takes both as long, and is zlib's time."""
    packed = gzip.compress(body, compresslevel=1, mtime=0)  # as the simulator does

    def usual() -> Digest:
        return into_records(_unpack(bytearray(packed), "gzip"), domain, known)

    def by_library_too() -> list[dict[str, Any]]:
        return by_library(gzip.decompress(packed))

    library, ours = median_seconds((by_library_too, usual), _ROUNDS, time.process_time)
    return Row(
        f"  the same, {len(packed) / 1e6:.1f} MB of gzip unpacked too",
        milliseconds(ours),
        f"keepa library {milliseconds(library)}",
        f"{library / ours:.2f}",
    )
