"""The simulated API itself: a request in, an answer out, the bucket charged.

It knows nothing of sockets; what a fault does to a connection is the server's part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from pricecheck.keepa.tables import (
    ASIN,
    BY_ID,
    MAX_ASINS,
    MOST_FOUND,
    PRICE_TYPES,
    finder_price,
)
from pricecheck.keepa.time import from_unix_ms
from pricecheck.simulator import deals, finder, products, replay
from pricecheck.simulator.bucket import ServerBucket
from pricecheck.simulator.faults import HTML, REFUSALS, UNANSWERED, Dice, RefusedError, spoil
from pricecheck.simulator.ledger import Entry
from pricecheck.simulator.settings import PATHS, Settings
from pricecheck.simulator.world import draw, find

T = TypeVar("T")

_RETIRED_DOMAIN = 7  # amazon.cn
_LEAST_OFFERS = 20


class Request(msgspec.Struct, frozen=True):
    """What came over the wire."""

    method: str
    path: str  # without the slashes around it
    params: Mapping[str, str]
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True):
    """What goes back, before any compression, and what the ledger will say of it."""

    entry: Entry
    body: bytes


class _Envelope(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    timestamp: int
    tokens_left: int = 0
    refill_in: int = 0
    refill_rate: int = 0
    token_flow_reduction: float = 0.0
    tokens_consumed: int = 0
    processing_time_in_ms: int = 0


class _Content(msgspec.Struct, frozen=True):
    """What a call brings beside the envelope, by the names of the wire, and its cost in tokens."""

    cost: int = 0
    domain: int | None = None
    fields: dict[str, Any] = {}


class _BestsellersQuery(msgspec.Struct, frozen=True):
    domain: int
    category: str


class Api:
    """One simulated Keepa: a world, a bucket and a plan. `now_ms` tells the simulated time.

    Raises InputError when there is nothing to replay where there should be.
    """

    def __init__(self, settings: Settings, now_ms: Callable[[], int]) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self._bucket = ServerBucket(
            rate=settings.refill_rate, tokens=settings.tokens, now_ms=now_ms()
        )
        self._dice = Dice(settings)
        self._recording = replay.load(settings.replay) if settings.replay else None
        self._repeated = lru_cache(maxsize=settings.distinct)(self._made)

    def answer(self, request: Request) -> Reply:
        """Answer a request: refuse it or charge it, and spoil the answer if a fault strikes."""
        began = time.perf_counter()
        now_ms = self._now_ms()
        refill_in_ms = self._bucket.advance(now_ms)
        strike = self._dice.throw(request.path)
        fault = strike.name if strike else None
        asins = request.params.get("asin")
        entry = Entry(
            at_ms=now_ms,
            path=request.path,
            domain=_number(request.params.get("domain")),
            asins=tuple(asins.split(",")) if asins else (),
            tokens_left=self._bucket.left,
            fault=fault,
        )
        if fault in UNANSWERED:
            status = 200 if fault == "notjson" else None
            return Reply(msgspec.structs.replace(entry, status=status), HTML)

        try:
            self._check_key(request)
            if fault in REFUSALS:
                raise RefusedError(*REFUSALS[fault])
            content = self._content(request, from_unix_ms(now_ms))
        except RefusedError as refused:
            return self._refusal(refused, entry, refill_in_ms)
        self._bucket.charge(content.cost)
        if fault == "negative":
            self._bucket.sink()
        envelope = _Envelope(
            timestamp=now_ms,
            tokens_left=self._bucket.left,
            refill_in=refill_in_ms,
            refill_rate=self._bucket.rate,
            tokens_consumed=content.cost,
            processing_time_in_ms=round((time.perf_counter() - began) * 1000),
        )
        body = msgspec.json.encode(msgspec.to_builtins(envelope) | content.fields)
        entry = msgspec.structs.replace(
            entry,
            domain=content.domain,
            status=None if fault == "timeout" else 200,
            tokens_consumed=content.cost,
            tokens_left=self._bucket.left,
        )
        return Reply(entry, spoil(strike, body) if strike else body)

    def _refusal(self, refused: RefusedError, entry: Entry, refill_in_ms: int) -> Reply:
        left = self._bucket.left
        envelope = _Envelope(
            timestamp=entry.at_ms,
            # Nobody is refused for want of tokens while some are left.
            tokens_left=min(left, 0) if refused.status == 429 else left,
            refill_in=refill_in_ms,
            refill_rate=self._bucket.rate,
        )
        if refused.unknown_key:
            envelope = _Envelope(timestamp=entry.at_ms)
        error = {"type": refused.type, "message": refused.message, "details": ""}
        # A fault that a real refusal forestalled did not happen.
        fault = entry.fault if entry.fault in REFUSALS and not refused.unknown_key else None
        return Reply(
            msgspec.structs.replace(entry, status=refused.status, fault=fault),
            msgspec.json.encode(msgspec.to_builtins(envelope) | {"error": error}),
        )

    def _check_key(self, request: Request) -> None:
        key = request.params.get("key")
        if not key or self._settings.key not in (None, key):
            raise RefusedError(
                400, "invalidParameter", "The API key is not known.", unknown_key=True
            )

    def _content(self, request: Request, now: int) -> _Content:
        if request.path not in PATHS or (request.path == "deal" and self._settings.no_deals):
            raise RefusedError(*REFUSALS["404"])
        if request.method != "GET" and (request.method, request.path) != ("POST", "deal"):
            raise RefusedError(*REFUSALS["405"])
        match request.path:
            case "product":
                return self._products(request, now)
            case "deal":
                return self._deals(request, now)
            case "bestsellers":
                return self._bestsellers(request, now)
            case "query":
                return self._found(request, now)
            case _:
                return _Content()

    def _products(self, request: Request, now: int) -> _Content:
        query = _converted(request.params, products.ProductQuery)
        _check_domain(query.domain)
        asins = query.asin.split(",")
        if len(asins) > MAX_ASINS:
            raise _invalid(f"asin: {len(asins)} are more than {MAX_ASINS}")
        for asin in asins:
            if not ASIN.fullmatch(asin):
                raise _invalid(f"asin: {asin!r} is none")
        if 0 < query.offers < _LEAST_OFFERS:
            raise _invalid(f"offers: {query.offers} are fewer than {_LEAST_OFFERS}")
        self._admit()
        cost = 0
        found: list[msgspec.Raw] = []
        for asin in dict.fromkeys(asins):
            body = self._product(query, asin, now)
            if body is not None:
                cost += products.price_of(query, self._settings.seed, asin)
            else:
                body = products.not_found(self._settings.seed, query.domain, asin)
            if body is not None:
                found.append(msgspec.Raw(body))
        return _Content(cost, query.domain, {"products": found})

    def _product(self, query: products.ProductQuery, asin: str, now: int) -> bytes | None:
        if self._recording is not None:
            return self._recording.get((query.domain, asin))
        # The answer to any one of a batch is that to a query for it alone, so it can be kept.
        query = msgspec.structs.replace(query, asin=asin)
        if self._settings.distinct is None:
            return self._made(query, now)
        repeated = f"B{draw(asin) % self._settings.distinct:09d}"
        body = self._repeated(msgspec.structs.replace(query, asin=repeated), now)
        # Its own ASIN is the first thing that a product says.
        return body and body.replace(repeated.encode(), asin.encode(), 1)

    def _made(self, query: products.ProductQuery, now: int) -> bytes | None:
        world = self._settings
        listing = find(world.seed, world.not_found, query.domain, query.asin, now)
        return products.product(listing, query, now, dense=world.bulk) if listing else None

    def _deals(self, request: Request, now: int) -> _Content:
        text = request.body or request.params.get("selection", "{}").encode()
        try:
            selection = msgspec.json.decode(text, type=deals.Selection, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _invalid(f"selection: {error}") from None
        domain = selection.domain_id or _number(request.params.get("domain")) or 0
        _check_domain(domain)
        price_type = selection.price_type
        if price_type is None or not 0 <= price_type < len(PRICE_TYPES):
            raise _invalid("priceTypes: exactly one csv index is allowed")
        self._admit()
        page = (
            deals.Deals()
            if self._recording is not None
            else deals.page(self._settings, selection, price_type, domain, now)
        )
        return _Content(deals.COST, domain, {"deals": page})

    def _bestsellers(self, request: Request, now: int) -> _Content:
        query = _converted(request.params, _BestsellersQuery)
        _check_domain(query.domain)
        self._admit()
        found = (
            None
            if self._recording is not None
            else deals.bestsellers(self._settings, query.domain, query.category, now)
        )
        return _Content(deals.BESTSELLERS_COST, query.domain, {"bestSellersList": found})

    def _found(self, request: Request, now: int) -> _Content:
        text = request.params.get("selection", "{}").encode()
        domain = _number(request.params.get("domain")) or 0
        _check_domain(domain)
        try:
            selection = msgspec.json.decode(text, type=finder.Selection)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _invalid(f"selection: {error}") from None
        if selection.last > MOST_FOUND:
            raise _invalid(f"page: no more than {MOST_FOUND} products are told")
        self._admit()
        found = [] if self._recording else finder.search(self._settings, selection, domain, now)
        asins = found[selection.last - selection.per_page : selection.last]
        fields = {"asinList": asins, "totalResults": len(found)}
        return _Content(finder_price(len(asins)), domain, fields)

    def _admit(self) -> None:
        if not self._bucket.admits():
            raise RefusedError(*REFUSALS["429"])


def _check_domain(domain: int) -> None:
    if domain not in BY_ID or domain == _RETIRED_DOMAIN:
        raise _invalid(f"domain: there is no {domain}")


def _converted(params: Mapping[str, str], type_: type[T]) -> T:
    try:
        return msgspec.convert(params, type_, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def _invalid(message: str) -> RefusedError:
    return RefusedError(400, "invalidParameter", message)


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None
