"""The one client of the Keepa API.

It sends a request, reads the answer, and reports each call's figures to `on_call`; when to call
and whether there are tokens for it is the bucket's business, and what to keep the collectors'.
The API key travels in the query, as Keepa wants it: no URL may reach a log or an exception, so
errors are raised without their cause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec
import trio

from pricecheck.keepa import errors, wire
from pricecheck.keepa.tables import DEALS_PER_PAGE, MAX_ASINS, Marketplace


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one call, successful or not."""

    operation: str
    domain: str | None
    asin_count: int
    response_time_ms: int
    envelope: wire.Envelope | None
    status: int | None
    error: str | None


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds to connect, to wait for the next byte, and for a call as a whole."""

    connect_s: float = 30.0  # Keepa's own client waits as long
    read_s: float = 120.0
    call_s: float = 180.0


class ProductQuery(msgspec.Struct, frozen=True):
    """What to ask of each product beside its present state. Costs: see the cost table."""

    stats_days: int = 90
    days: int | None = None  # how far back the histories go; None is all of them
    buybox: bool = False
    offers: int = 0  # 20 to 100
    update: int | None = None  # hours after which Keepa refreshes a product; 0 is live


class ProductsAnswer(msgspec.Struct, frozen=True):
    """The products of one call, and those that could not be read."""

    envelope: wire.Envelope | None
    products: list[wire.Product]
    misfits: list[wire.Misfit]


class DealsAnswer(msgspec.Struct, frozen=True):
    """One page of deals, and those that could not be read."""

    envelope: wire.Envelope | None
    deals: list[wire.Deal]
    misfits: list[wire.Misfit]

    @property
    def is_last_page(self) -> bool:
        """Whether there is no further page to ask for."""
        return len(self.deals) + len(self.misfits) < DEALS_PER_PAGE


class BestsellersAnswer(msgspec.Struct, frozen=True):
    """A category's best sellers; None when Keepa has no list for it."""

    envelope: wire.Envelope | None
    bestsellers: wire.BestsellersList | None


class DealQuery(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a /deal call (DealRequest of Keepa's Java client)."""

    page: int
    domain_id: int
    price_types: list[int]  # exactly one csv index
    date_range: int  # 0 day, 1 week, 2 month, 3 90 days
    include_categories: list[int]
    delta_percent_range: tuple[int, int]
    current_range: tuple[int, int]  # smallest unit
    min_rating: int  # 0 to 50, -1 any
    sort_type: int
    is_range_enabled: bool
    is_filter_enabled: bool
    filter_erotic: bool = True


class KeepaClient:
    """A connection to the Keepa API with one key.

    Every method raises a KeepaError, and nothing else, when it brings no result; cancelled in
    the middle of a call, the call has probably been paid for. `on_call` is called once for every
    request that was sent, after its answer or its failure, and must not raise.
    """

    def __init__(
        self,
        key: str,
        *,
        url: str,
        timeouts: Timeouts,
        on_call: Callable[[Call], None] = lambda call: None,
    ) -> None:
        self._key = key
        self._timeouts = timeouts
        self._on_call = on_call
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Accept-Encoding": "gzip"},
            timeout=httpx.Timeout(timeouts.read_s, connect=timeouts.connect_s),
        )

    async def __aenter__(self) -> KeepaClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def token(self) -> wire.Envelope:
        """Ask for the bucket's state; free of tokens."""
        answer = await self._call("token", {})
        if answer.envelope is None:
            raise errors.BadAnswerError("Keepa's answer to /token holds no token figures")
        return answer.envelope

    async def products(
        self, market: Marketplace, asins: Sequence[str], query: ProductQuery
    ) -> ProductsAnswer:
        """Ask for up to 100 products of one marketplace, each with its whole price history."""
        if not 0 < len(asins) <= MAX_ASINS:
            raise ValueError(f"a /product call takes 1 to {MAX_ASINS} ASINs, not {len(asins)}")
        params: dict[str, Any] = {
            "domain": market.id,
            "asin": ",".join(asins),
            "stats": query.stats_days,
            "history": 1,
        }
        if query.days is not None:
            params["days"] = query.days
        if query.buybox:
            params["buybox"] = 1
        if query.offers:
            params["offers"] = query.offers
        if query.update is not None:
            params["update"] = query.update
        answer = await self._call("product", params, market=market, asin_count=len(asins))
        # Tens of milliseconds for a large answer: too long for the event loop.
        products, misfits = await trio.to_thread.run_sync(wire.products, answer)
        return ProductsAnswer(answer.envelope, products, misfits)

    async def deals(self, market: Marketplace, query: DealQuery) -> DealsAnswer:
        """Ask for one page of up to 150 deals."""
        answer = await self._call("deal", {}, market=market, body=msgspec.json.encode(query))
        try:
            deals, misfits = wire.deals(answer)
        except wire.WireError as error:
            raise _unreadable(error, answer.envelope) from None
        return DealsAnswer(answer.envelope, deals, misfits)

    async def bestsellers(self, market: Marketplace, category: str) -> BestsellersAnswer:
        """Ask for a category's best sellers: a browse node's number, or a product group."""
        answer = await self._call(
            "bestsellers", {"domain": market.id, "category": category}, market=market
        )
        try:
            return BestsellersAnswer(answer.envelope, wire.bestsellers(answer))
        except wire.WireError as error:
            raise _unreadable(error, answer.envelope) from None

    async def _call(
        self,
        operation: str,
        params: Mapping[str, Any],
        *,
        market: Marketplace | None = None,
        asin_count: int = 0,
        body: bytes | None = None,
    ) -> wire.Answer:
        began = trio.current_time()
        answer: wire.Answer | None = None
        status: int | None = None
        failure: errors.KeepaError | None = None
        try:
            with trio.fail_after(self._timeouts.call_s):
                response = await self._send(operation, params, body)
            status = response.status_code
            answer = await _read(response)
        except trio.TooSlowError:
            failure = errors.TimedOutError(f"no answer within {self._timeouts.call_s:g} s")
            raise failure from None
        except errors.KeepaError as error:
            failure = error
            raise
        except trio.Cancelled:
            failure = errors.TimedOutError("given up before an answer came")
            raise
        finally:
            told = answer or failure
            self._on_call(
                Call(
                    operation=operation,
                    domain=market.code if market else None,
                    asin_count=asin_count,
                    response_time_ms=round((trio.current_time() - began) * 1000),
                    envelope=told.envelope if told else None,
                    status=status,
                    error=failure.message if failure else None,
                )
            )
        return answer

    async def _send(
        self, operation: str, params: Mapping[str, Any], body: bytes | None
    ) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if body is not None else None
        try:
            return await self._http.request(
                "GET" if body is None else "POST",
                operation,
                params={"key": self._key, **params},
                content=body,
                headers=headers,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise errors.UnreachableError(
                f"no connection to {self._http.base_url.host}: {_cause(error)}",
                remedy="check network, name resolution and proxy; tried again by itself",
            ) from None
        except httpx.DecodingError as error:
            raise errors.BadAnswerError(f"the answer can't be unpacked: {_cause(error)}") from None
        except httpx.TransportError as error:
            raise errors.TimedOutError(f"no whole answer came: {_cause(error)}") from None


async def _read(response: httpx.Response) -> wire.Answer:
    """Decode an answer's body; raise the error that it amounts to."""
    try:
        answer = await trio.to_thread.run_sync(wire.decode, response.content)
    except wire.WireError as error:
        # An error page of a proxy or of Keepa's front end: the status says more than its HTML.
        failure = errors.of_answer(response.status_code, None, None)
        raise failure or _unreadable(error, None) from None
    failure = errors.of_answer(response.status_code, answer.fault, answer.envelope)
    if failure is not None:
        raise failure
    return answer


def _unreadable(error: wire.WireError, envelope: wire.Envelope | None) -> errors.BadAnswerError:
    return errors.BadAnswerError(
        f"the answer does not have Keepa's form: {error}",
        remedy="tried again by itself; if it lasts, update pricecheck",
        envelope=envelope,
    )


def _cause(error: httpx.TransportError | httpx.DecodingError) -> str:
    """Name what happened; httpx's own text, which never holds the URL for these errors."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
