"""The one client of the Keepa API.

It sends a request, reads the answer, and reports each call's figures to `on_call`; when to call
and whether there are tokens for it is the bucket's business, and what to keep the collectors'.
The API key travels in the query, as Keepa wants it: no URL may reach a log or an exception, so
errors are raised without their cause, and redirections are not followed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import httpx
import msgspec
import trio

from pricecheck import logs
from pricecheck.errors import ConfigError
from pricecheck.keepa import errors, wire
from pricecheck.keepa.tables import DEALS_PER_PAGE, MAX_ASINS, Marketplace

T = TypeVar("T")

MAX_BODY_BYTES: Final = 256 * 2**20
"""The largest answer that is read, unpacked; a hundred products of real size are 20 MB."""


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


class FinderAnswer(msgspec.Struct, frozen=True):
    """One page of what the product finder found."""

    envelope: wire.Envelope | None
    asins: list[str]


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


class FinderQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The selection of a /query call (ProductFinderRequest of Keepa's Java client).

    Prices are in the smallest unit, and from 0 on leave out what nobody offers, which is -1.
    """

    categories_include: tuple[int, ...]
    title: str = ""  # every word of it stands in the title
    brand: tuple[str, ...] = ()  # one of these
    least_price: int | None = msgspec.field(name="current_NEW_gte", default=None)
    most_price: int | None = msgspec.field(name="current_NEW_lte", default=None)
    least_rating: int | None = msgspec.field(name="current_RATING_gte", default=None)  # 0 to 50
    least_reviews: int | None = msgspec.field(name="current_COUNT_REVIEWS_gte", default=None)
    best_rank: int | None = msgspec.field(name="current_SALES_gte", default=None)
    product_types: tuple[int, ...] = msgspec.field(name="productType", default=())
    sort: tuple[tuple[str, str], ...] = ()  # field, "asc" or "desc"
    page: int | None = None
    per_page: int | None = msgspec.field(name="perPage", default=None)


class _Progress:
    """How far a call has come, whatever becomes of it."""

    def __init__(self) -> None:
        self.sent = False  # whether a byte of the request may have reached Keepa
        self.status: int | None = None
        self.answered: float | None = None  # when the answer was whole

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear from httpcore what it does; a proxy's CONNECT is no request to Keepa yet."""
        if event.endswith("send_request_headers.started"):
            self.sent |= info["request"].method != b"CONNECT"


class KeepaClient:
    """A connection to the Keepa API with one key.

    Every method raises a KeepaError, and nothing else, when it brings no result. Cancelled
    before its answer is whole, a call has probably been paid for; from then on it is brought
    to its end. `on_call` is called once for each call, after its answer or its failure, and must
    not raise. Raises ConfigError for an address, or a proxy in the environment, that can't be used.
    """

    def __init__(
        self,
        key: str,
        *,
        url: str,
        timeouts: Timeouts,
        on_call: Callable[[Call], None] = lambda call: None,
    ) -> None:
        logs.redact(key)
        self._key = key
        self.timeouts: Final = timeouts
        self._on_call = on_call
        try:
            self._http = httpx.AsyncClient(
                base_url=url,
                headers={"Accept-Encoding": "gzip"},
                timeout=httpx.Timeout(timeouts.read_s, connect=timeouts.connect_s),
                # Without TLS the key would be open to a proxy; it is meant for this machine only.
                trust_env=url.startswith("https:"),
            )
        except (httpx.InvalidURL, ImportError, ValueError):  # whose words may hold a password
            raise ConfigError(
                "keepa.url, or a proxy that the environment names, can't be used",
                remedy="check keepa.url, and HTTPS_PROXY and ALL_PROXY: http://host:port",
            ) from None

    async def __aenter__(self) -> KeepaClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def token(self) -> wire.Envelope:
        """Ask for the bucket's state; free of tokens."""
        _, envelope = await self._call("token", {}, _figures)
        if envelope.is_blank:
            raise errors.KeyRejectedError(
                "Keepa tells no tokens and no refill for this key",
                remedy="check key and plan at keepa.com/#!api",
            )
        return envelope

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
        envelope, (products, misfits) = await self._call(
            "product", params, wire.products, market=market, asin_count=len(asins)
        )
        return ProductsAnswer(envelope, products, misfits)

    async def deals(self, market: Marketplace, query: DealQuery) -> DealsAnswer:
        """Ask for one page of up to 150 deals."""
        envelope, (deals, misfits) = await self._call(
            "deal", {}, wire.deals, market=market, body=msgspec.json.encode(query)
        )
        return DealsAnswer(envelope, deals, misfits)

    async def bestsellers(self, market: Marketplace, category: str) -> BestsellersAnswer:
        """Ask for a category's best sellers: a browse node's number, or a product group."""
        params = {"domain": market.id, "category": category}
        envelope, found = await self._call("bestsellers", params, wire.bestsellers, market=market)
        return BestsellersAnswer(envelope, found)

    async def find(self, market: Marketplace, query: FinderQuery) -> FinderAnswer:
        """Ask the product finder for one page of ASINs (Request of Keepa's Java client)."""
        params = {"domain": market.id, "selection": msgspec.json.encode(query).decode()}
        envelope, asins = await self._call("query", params, wire.found, market=market)
        return FinderAnswer(envelope, asins)

    async def _call(
        self,
        operation: str,
        params: Mapping[str, Any],
        read: Callable[[wire.Answer], T],
        *,
        market: Marketplace | None = None,
        asin_count: int = 0,
        body: bytes | None = None,
    ) -> tuple[wire.Envelope | None, T]:
        """Send a request and `read` its answer's content; return that with the figures."""
        began = trio.current_time()
        progress = _Progress()
        envelope: wire.Envelope | None = None
        failure: str | None = "given up before an answer came"
        try:
            response, content = await self._exchange(operation, params, body, progress)
            progress.answered = trio.current_time()
            with trio.CancelScope(shield=True):
                # Tens of milliseconds for a large answer: too long for the event loop.
                envelope, found = await trio.to_thread.run_sync(_read, response, content, read)
            failure = None
        except errors.KeepaError as error:
            envelope, failure = error.envelope, error.message
            raise
        finally:
            ended = progress.answered or trio.current_time()
            self._on_call(
                Call(
                    operation=operation,
                    domain=market.code if market else None,
                    asin_count=asin_count,
                    response_time_ms=round((ended - began) * 1000),
                    envelope=envelope,
                    status=progress.status,
                    error=failure,
                )
            )
        return envelope, found

    async def _exchange(
        self, operation: str, params: Mapping[str, Any], body: bytes | None, progress: _Progress
    ) -> tuple[httpx.Response, bytearray]:
        """Send a request; return its response, and the body as it came, still packed."""
        try:
            with trio.fail_after(self.timeouts.call_s):
                async with self._http.stream(
                    "GET" if body is None else "POST",
                    operation,
                    params={"key": self._key, **params},
                    content=body,
                    headers={"Content-Type": "application/json"} if body is not None else None,
                    extensions={"trace": progress.trace},
                ) as response:
                    progress.status = response.status_code
                    return response, await _body(response)
        except trio.TooSlowError:
            reason = f"not within {self.timeouts.call_s:g} s"
        except httpx.TimeoutException:
            limit = self.timeouts.read_s if progress.sent else self.timeouts.connect_s
            reason = f"nothing for {limit:g} s"
        except httpx.TransportError as error:
            reason = _cause(error)
        # Out here it has no context, which would hold the request with its URL.
        raise _broken(progress, reason)


async def _body(response: httpx.Response) -> bytearray:
    """Read a body as it comes, up to the size that is read."""
    content = bytearray()
    with trio.CancelScope() as reading:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > MAX_BODY_BYTES:
                reading.cancel()  # leaving the loop would leave httpx's generators half done
    if reading.cancel_called:
        raise _too_large()
    return content


def _read(
    response: httpx.Response, content: bytearray, read: Callable[[wire.Answer], T]
) -> tuple[wire.Envelope | None, T]:
    """Decode an answer; raise the error that it amounts to."""
    status = response.status_code
    try:
        answer = wire.decode(_unpack(content, response.headers.get("Content-Encoding", "")))
    except wire.WireError as error:
        # An error page of a proxy or of Keepa's front end: the status says more than its HTML.
        failure = errors.of_answer(status, None, None)
        raise failure or _unreadable(error, None) from None
    failure = errors.of_answer(status, answer.fault, answer.envelope)
    if failure is not None:
        raise failure
    try:
        return answer.envelope, read(answer)
    except wire.WireError as error:
        raise _unreadable(error, answer.envelope) from None


def _figures(answer: wire.Answer) -> wire.Envelope:
    if answer.envelope is None:
        raise wire.WireError("it holds no token figures")
    return answer.envelope


def _unpack(content: bytearray, encoding: str) -> bytes:
    """Undo gzip, up to the size that is read. By hand, for httpx would unpack without end."""
    if encoding.lower() not in ("gzip", "x-gzip") or not content:
        return bytes(content)
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip's header and checksum
    try:
        body = stream.decompress(content, MAX_BODY_BYTES)
    except zlib.error as error:
        raise wire.WireError(f"its gzip is broken: {error}") from None
    if stream.unconsumed_tail:
        raise _too_large()
    if not stream.eof:
        raise wire.WireError("its gzip ends early")
    return body


def _too_large() -> errors.BadAnswerError:
    return errors.BadAnswerError(
        f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB", remedy="the daemon tries again"
    )


def _unreadable(error: wire.WireError, envelope: wire.Envelope | None) -> errors.BadAnswerError:
    return errors.BadAnswerError(
        f"the answer does not have Keepa's form: {error}",
        remedy="the daemon tries again; if it lasts, update pricecheck",
        envelope=envelope,
    )


def _broken(progress: _Progress, reason: str) -> errors.KeepaError:
    """Return the error of a call that broke off, which depends on how far it had come."""
    if progress.sent:
        return errors.TimedOutError(
            f"no whole answer came: {reason}", remedy="the daemon tries again, with less"
        )
    return errors.UnreachableError(
        f"no connection to Keepa: {reason}",
        remedy="check network, name resolution and proxy; the daemon tries again",
    )


def _cause(error: httpx.TransportError) -> str:
    """Name what happened: httpx's type, and the first words on the way down to the cause."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {cause}" if cause else type(error).__name__
