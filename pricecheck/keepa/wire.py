"""Keepa's wire format: answers as bytes in, typed structs out.

A product answer is read in two steps, so that one product that does not fit costs only itself:
the envelope with each product as raw JSON, then each product alone. The csv series stay raw
until asked for; most of an answer's bytes are series that nobody reads. Field names follow
Keepa's Java client (Product, Stats, Deal, DealResponse, Response, RequestError).
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import repeat
from typing import Annotated, Any, Final, NamedTuple, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta

from pricecheck.keepa.tables import PriceType

T = TypeVar("T")

_INT_MOST: Final = 2**31 - 1
_EARLIEST_MINUTE: Final = -21_564_000  # 1970

# Keepa's server counts in Java's int and long. What passes these bounds can be written again, as
# a number and as a date, so nobody further on has to ask.
_Int: TypeAlias = Annotated[int, Meta(ge=-_INT_MOST - 1, le=_INT_MOST)]
_Long: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_UnixMs: TypeAlias = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]  # until the year 9999
_Minute: TypeAlias = Annotated[int, Meta(ge=_EARLIEST_MINUTE, le=_INT_MOST)]


class WireError(ValueError):
    """Bytes that are not what Keepa's documentation promises; the message says where."""


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """The token figures of every answer."""

    timestamp_ms: _UnixMs = msgspec.field(name="timestamp", default=0)
    tokens_left: _Int = 0  # may be negative
    refill_in_ms: _Int = msgspec.field(name="refillIn", default=0)
    refill_rate: _Int = 0  # tokens a minute
    token_flow_reduction: float = 0.0  # tokens a minute that trackings take off the rate
    tokens_consumed: _Int = 0
    processing_time_ms: _Int = msgspec.field(name="processingTimeInMs", default=0)

    @property
    def is_blank(self) -> bool:
        """Whether all token figures are 0, as they are with a wrong key (seen live)."""
        return self.refill_rate == 0 and self.tokens_left == 0 and self.refill_in_ms == 0

    @property
    def effective_rate(self) -> float:
        """Tokens a minute that really arrive."""
        return max(0.0, self.refill_rate - self.token_flow_reduction)


class Fault(msgspec.Struct, frozen=True):
    """The error object of an answer."""

    type: str | None = None
    message: str | None = None
    details: str | None = None


class Misfit(msgspec.Struct, frozen=True):
    """A product or deal that could not be read: its ASIN if that is legible, why, its bytes."""

    asin: str | None
    reason: str
    raw: bytes


class Stats(msgspec.Struct, frozen=True, rename="camel"):
    """The statistics of a product; each list is indexed like csv, -1 where there is no value."""

    current: list[_Int | None] | None = None
    avg: list[_Int | None] | None = None
    avg30: list[_Int | None] | None = None
    avg90: list[_Int | None] | None = None
    avg180: list[_Int | None] | None = None
    avg365: list[_Int | None] | None = None
    min: list[list[_Int] | None] | None = None  # [Keepa minutes, value]
    max: list[list[_Int] | None] | None = None


class Product(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of a product that we read. A product not found has an ASIN and nulls."""

    asin: str
    domain_id: _Int | None = None
    title: str | None = None
    brand: str | None = None
    product_type: _Int | None = None
    last_update: _Minute | None = None  # Keepa minutes, as all times of the wire
    root_category: _Long | None = None
    categories: list[_Long] | None = None
    csv: list[msgspec.Raw] | None = None
    stats: Stats | None = None

    @property
    def no_data(self) -> str | None:
        """Why there is nothing to know of this product, or None when there is something."""
        if self.product_type in _NO_DATA:
            return _NO_DATA[self.product_type]
        return "not found" if self.title is None and not self.csv and not self.stats else None


# Product types for which Keepa holds no prices (Product.ProductType of its Java client).
_NO_DATA = {
    3: "no access",
    4: "not found or gone",
    5: "a parent of variations, without data",
}


class Point(NamedTuple):
    """One point of a price history; None is 'no offer', or shipping unknown."""

    minute: int
    price: int | None
    shipping: int | None


class Deal(msgspec.Struct, frozen=True, rename="camel"):
    """One deal of /deal.

    `current` is indexed like csv; `avg` and `delta_percent` by interval, and then like csv.
    """

    asin: str
    title: str | None = None
    current: list[_Int] | None = None
    avg: list[list[_Int]] | None = None
    delta_percent: list[list[_Int]] | None = None
    creation_date: _Minute | None = None
    last_update: _Minute | None = None
    root_cat: _Long | None = None
    categories: list[_Long] | None = None


class BestsellersList(msgspec.Struct, frozen=True, rename="camel"):
    """The list of /bestsellers, best first."""

    asin_list: list[str] = []
    last_update: _Minute | None = None


class Answer(msgspec.Struct, frozen=True):
    """Any answer: its token figures, its error object, and its content, still raw."""

    envelope: Envelope | None  # None when the answer has no token figures, or odd ones
    fault: Fault | None
    read: list[Product]  # where each of them fits; else none, and they are in `products`
    products: list[msgspec.Raw]
    deals: msgspec.Raw
    bestsellers: msgspec.Raw
    found: msgspec.Raw


_NULL: Final = msgspec.Raw(b"null")


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    # One pass over the whole body: at 20 MB for a hundred products every pass counts. Figures
    # and error are looked at afterwards: an odd one must not cost the products beside it.
    timestamp: Any = None
    tokens_left: Any = None
    refill_in: Any = None
    refill_rate: Any = None
    token_flow_reduction: Any = None
    tokens_consumed: Any = None
    processing_time_in_ms: Any = None
    error: msgspec.Raw = _NULL
    products: list[msgspec.Raw] | None = None
    deals: msgspec.Raw = _NULL
    best_sellers_list: msgspec.Raw = _NULL
    asin_list: msgspec.Raw = _NULL


class _FittingBody(_Body, frozen=True, rename="camel"):
    products: list[Product | None] | None = None  # type: ignore[assignment]


_FIGURES: Final = dict(
    zip(_Body.__struct_fields__, Envelope.__struct_encode_fields__, strict=False)
)
"""The fields of a body that make its envelope, with their names on the wire."""

_TOKENS: Final = ("tokens_left", "refill_in", "refill_rate", "tokens_consumed")


class _DealList(msgspec.Struct, frozen=True):
    dr: list[msgspec.Raw] | None = None


class _AsinOnly(msgspec.Struct, frozen=True):
    asin: str


class _MaybeBestsellers(msgspec.Struct, frozen=True, rename="camel"):
    asin_list: list[str] | None = None
    last_update: _Minute | None = None


_body = msgspec.json.Decoder(_Body)
_fitting_body = msgspec.json.Decoder(_FittingBody)
_product: msgspec.json.Decoder[Product | None] = msgspec.json.Decoder(Product | None)
_deal_list: msgspec.json.Decoder[_DealList | None] = msgspec.json.Decoder(_DealList | None)
_deal: msgspec.json.Decoder[Deal | None] = msgspec.json.Decoder(Deal | None)
_bestsellers: msgspec.json.Decoder[_MaybeBestsellers | None] = msgspec.json.Decoder(
    _MaybeBestsellers | None
)
_asins: msgspec.json.Decoder[list[str] | None] = msgspec.json.Decoder(list[str] | None)
_asin = msgspec.json.Decoder(_AsinOnly)
_fault: msgspec.json.Decoder[Fault | None] = msgspec.json.Decoder(Fault | None)
_series: msgspec.json.Decoder[list[int | None] | None] = msgspec.json.Decoder(
    list[_Int | None] | None
)


def decode(body: bytes) -> Answer:
    """Read the figures and the error object of an answer, its content left raw.

    Raises WireError.
    """
    part: _Body
    try:
        # As good as always each product fits, and one pass is half the work of two.
        part = fitting = _fitting_body.decode(body)
        read, raw = [one for one in fitting.products or () if one is not None], []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        part = _decode(_body, body)
        read, raw = [], part.products or []
    return Answer(
        envelope=_envelope(part),
        fault=_fault_of(part.error),
        read=read,
        products=raw,
        deals=part.deals,
        bestsellers=part.best_sellers_list,
        found=part.asin_list,
    )


def products(answer: Answer) -> tuple[list[Product], list[Misfit]]:
    """Read the products of a /product answer, those that do not fit set aside.

    A null among them is one of Keepa's ways of saying that there is no such product.
    """
    good, bad = _each(_product, answer.products)
    return answer.read + good, bad


def deals(answer: Answer) -> tuple[list[Deal], list[Misfit]]:
    """Read the deals of a /deal answer, those that do not fit set aside. Raises WireError."""
    found = _decode(_deal_list, answer.deals)
    return _each(_deal, (found.dr if found else None) or [])


def bestsellers(answer: Answer) -> BestsellersList | None:
    """Read the list of a /bestsellers answer; None when there is none. Raises WireError."""
    found = _decode(_bestsellers, answer.bestsellers)
    if found is None or found.asin_list is None:
        return None
    return BestsellersList(found.asin_list, found.last_update)


def found(answer: Answer) -> list[str]:
    """Read the ASINs that a /query answer found, in its order. Raises WireError."""
    return _decode(_asins, answer.found) or []


def points(
    product: Product, series: PriceType, since: int = 0, *, only_tail: bool = False
) -> list[Point]:
    """Return a price type's history from the last point before `since` (Keepa minutes) on.

    Oldest first; empty where Keepa has none. Raises WireError when the series is not whole
    pairs (triples) in order of time; `only_tail` leaves what was before unread.
    """
    if product.csv is None or series.index >= len(product.csv):
        return []
    raw = product.csv[series.index]
    if raw == _NULL:
        return []
    width = 3 if series.with_shipping else 2
    flat = _tail(raw, since, width) if only_tail else None
    if flat is None:
        flat = _decode(_series, raw) or []
    if len(flat) % width:
        raise WireError(f"csv[{series.index}] ({series.name}) is not a list of {width}-tuples")
    times = _times(flat[::width], series)
    first = max(0, bisect_left(times, since) - 1)
    prices = flat[first * width + 1 :: width]
    shippings = flat[first * width + 2 :: width] if width == 3 else repeat(None)
    return [
        Point(minute, value(price), None if value(price) is None else value(shipping))
        for minute, price, shipping in zip(times[first:], prices, shippings, strict=False)
    ]


def last_value(product: Product, series: PriceType) -> int | None:
    """Return what a series stands at now: from the stats, else from the tail of its raw history."""
    stats = product.stats
    if stats is not None and stats.current is not None and series.index < len(stats.current):
        return value(stats.current[series.index])
    if product.csv is None or series.index >= len(product.csv):
        return None
    # The last few numbers are enough, and the one wanted has a comma before it.
    tail = bytes(memoryview(product.csv[series.index])[-_TAIL_BYTES:]).rstrip(b"] \t\r\n")
    last_point = tail.rsplit(b",", 2 if series.with_shipping else 1)
    try:
        return value(int(last_point[1]))
    except (ValueError, IndexError):
        return None


def value(number: int | None) -> int | None:
    """Read one of Keepa's numbers: below 0 there is no price, rank or count, but a reason."""
    return None if number is None or number < 0 else number


_TAIL_BYTES: Final = 100
_LONG_TAIL_BYTES: Final = 256


def _tail(raw: msgspec.Raw, since: int, width: int) -> list[int | None] | None:
    """Return the end of a series, from some point before `since` on; None where it has none."""
    text = bytes(raw)
    cut = text.find(b",", max(0, len(text) - _LONG_TAIL_BYTES))
    # All numbers counted, the tail's own count tells where in a point it begins.
    if cut < 0 or (text.count(b",") + 1) % width:
        return None
    flat = _decode(_series, b"[" + text[cut + 1 :]) or []
    flat = flat[len(flat) % width :]
    return flat if flat and flat[0] is not None and flat[0] < since else None


def _envelope(body: _Body) -> Envelope | None:
    """Return a body's figures; some 429 bodies carry only tokensLeft and refillIn (seen live)."""
    if all(getattr(body, name) is None for name in _TOKENS):
        return None
    told = {wire: getattr(body, name) for name, wire in _FIGURES.items()}
    try:
        return msgspec.convert({k: v for k, v in told.items() if v is not None}, Envelope)
    except msgspec.ValidationError:
        return None


def _fault_of(raw: msgspec.Raw) -> Fault | None:
    """Return the error object of an answer; one of another shape is still an error."""
    try:
        return _decode(_fault, raw)
    except WireError:
        return Fault(message=bytes(raw).decode(errors="replace"))


def _times(minutes: list[int | None], series: PriceType) -> list[int]:
    """Return the times of a series; raise WireError unless they are times, and in order."""
    name = f"csv[{series.index}] ({series.name})"
    if None in minutes:
        raise WireError(f"{name} has a null for a time")
    times = cast(list[int], minutes)
    if times != sorted(times):
        raise WireError(f"{name} is not in order of time")
    if times and times[0] < _EARLIEST_MINUTE:
        raise WireError(f"{name} has a time that is none")
    return times


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(str(error)) from None


def _each(
    decoder: msgspec.json.Decoder[T | None], raws: list[msgspec.Raw]
) -> tuple[list[T], list[Misfit]]:
    good: list[T] = []
    bad: list[Misfit] = []
    for raw in raws:
        try:
            item = _decode(decoder, raw)
        except WireError as error:
            bad.append(Misfit(_legible_asin(raw), str(error), bytes(raw)))
        else:
            if item is not None:
                good.append(item)
    return good, bad


def _legible_asin(raw: msgspec.Raw) -> str | None:
    try:
        return _decode(_asin, raw).asin
    except WireError:
        return None
