"""Keepa's wire format: answers as bytes in, typed structs out.

A product answer is read in two steps, so that one product that does not fit costs only itself:
the envelope with each product as raw JSON, then each product alone. The csv series stay raw
until asked for; most of an answer's bytes are series that nobody reads. Field names follow
Keepa's Java client (Product, Stats, Deal, DealResponse, RequestError).
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import repeat
from typing import NamedTuple, TypeVar

import msgspec

from pricecheck.keepa.tables import PriceType

T = TypeVar("T")


class WireError(ValueError):
    """Bytes that are not what Keepa's documentation promises; the message says where."""


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """The token figures of every answer."""

    timestamp_ms: int = msgspec.field(name="timestamp", default=0)
    tokens_left: int = 0  # may be negative
    refill_in_ms: int = msgspec.field(name="refillIn", default=0)
    refill_rate: int = 0  # tokens a minute
    token_flow_reduction: float = 0.0  # tokens a minute that trackings take off the rate
    tokens_consumed: int = 0
    processing_time_ms: int = msgspec.field(name="processingTimeInMs", default=0)

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

    type: str = "unknown"
    message: str = ""
    details: str = ""


class Misfit(msgspec.Struct, frozen=True):
    """A product or deal that could not be read: its ASIN if that is legible, why, its bytes."""

    asin: str | None
    reason: str
    raw: bytes


class Stats(msgspec.Struct, frozen=True, rename="camel"):
    """The statistics of a product; each list is indexed like csv, -1 where there is no value."""

    current: list[int | None] | None = None
    avg: list[int | None] | None = None
    avg30: list[int | None] | None = None
    avg90: list[int | None] | None = None
    avg180: list[int | None] | None = None
    avg365: list[int | None] | None = None
    min: list[list[int] | None] | None = None  # [Keepa minutes, value]
    max: list[list[int] | None] | None = None


class Product(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of a product that we read. A product not found has an ASIN and nulls."""

    asin: str
    domain_id: int | None = None
    title: str | None = None
    product_type: int | None = None
    last_update: int | None = None  # Keepa minutes, as all times of the wire
    root_category: int | None = None
    categories: list[int] | None = None
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
    current: list[int] | None = None
    avg: list[list[int]] | None = None
    delta_percent: list[list[int]] | None = None
    creation_date: int | None = None
    last_update: int | None = None
    root_cat: int | None = None
    categories: list[int] | None = None


class BestsellersList(msgspec.Struct, frozen=True, rename="camel"):
    """The list of /bestsellers, best first."""

    asin_list: list[str] = []
    last_update: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """Any answer: its token figures, its error object, and its content, still raw."""

    envelope: Envelope | None  # None when the answer has no token figures at all
    fault: Fault | None
    products: list[msgspec.Raw]
    deals: msgspec.Raw
    bestsellers: msgspec.Raw


class _Body(Envelope, frozen=True, rename="camel"):
    # One pass over the whole body: at 20 MB for a hundred products every pass counts.
    error: Fault | None = None
    products: list[msgspec.Raw] | None = None
    deals: msgspec.Raw = msgspec.Raw(b"null")
    best_sellers_list: msgspec.Raw = msgspec.Raw(b"null")


class _DealList(msgspec.Struct, frozen=True):
    dr: list[msgspec.Raw] | None = None


class _AsinOnly(msgspec.Struct, frozen=True):
    asin: str


_body = msgspec.json.Decoder(_Body)
_product: msgspec.json.Decoder[Product | None] = msgspec.json.Decoder(Product | None)
_deal_list: msgspec.json.Decoder[_DealList | None] = msgspec.json.Decoder(_DealList | None)
_deal: msgspec.json.Decoder[Deal | None] = msgspec.json.Decoder(Deal | None)
_bestsellers: msgspec.json.Decoder[BestsellersList | None] = msgspec.json.Decoder(
    BestsellersList | None
)
_asin = msgspec.json.Decoder(_AsinOnly)
_series: msgspec.json.Decoder[list[int] | None] = msgspec.json.Decoder(list[int | None] | None)


def decode(body: bytes) -> Answer:
    """Read the figures and the error object of an answer, its content left raw.

    Raises WireError.
    """
    part = _decode(_body, body)
    envelope = Envelope(*(getattr(part, name) for name in Envelope.__struct_fields__))
    return Answer(
        # Some 429 bodies carry only tokensLeft and refillIn (seen live).
        envelope=envelope if envelope != Envelope() else None,
        fault=part.error,
        products=part.products or [],
        deals=part.deals,
        bestsellers=part.best_sellers_list,
    )


def products(answer: Answer) -> tuple[list[Product], list[Misfit]]:
    """Read the products of a /product answer, those that do not fit set aside.

    A null among them is one of Keepa's ways of saying that there is no such product.
    """
    return _each(_product, answer.products)


def deals(answer: Answer) -> tuple[list[Deal], list[Misfit]]:
    """Read the deals of a /deal answer, those that do not fit set aside. Raises WireError."""
    found = _decode(_deal_list, answer.deals)
    return _each(_deal, (found.dr if found else None) or [])


def bestsellers(answer: Answer) -> BestsellersList | None:
    """Read the list of a /bestsellers answer; None when there is none. Raises WireError."""
    return _decode(_bestsellers, answer.bestsellers)


def points(product: Product, series: PriceType, since: int = 0) -> list[Point]:
    """Return a price type's history from the last point before `since` (Keepa minutes) on.

    Oldest first; empty where Keepa has none. Raises WireError when the series is not whole
    pairs (triples) in order of time.
    """
    if product.csv is None or series.index >= len(product.csv):
        return []
    flat = _decode(_series, product.csv[series.index]) or []
    width = 3 if series.with_shipping else 2
    minutes = flat[::width]
    if len(flat) % width:
        raise WireError(f"csv[{series.index}] ({series.name}) is not a list of {width}-tuples")
    if minutes != sorted(minutes):
        raise WireError(f"csv[{series.index}] ({series.name}) is not in order of time")
    tail = flat[max(0, bisect_left(minutes, since) - 1) * width :]
    shippings = tail[2::width] if width == 3 else repeat(None)
    return [
        Point(minute, value(price), None if value(price) is None else value(shipping))
        for minute, price, shipping in zip(tail[::width], tail[1::width], shippings, strict=False)
    ]


def last_value(product: Product, series: PriceType) -> int | None:
    """Return what a series stands at now: from the stats, else from the tail of its raw history."""
    stats = product.stats
    if stats is not None and stats.current is not None and series.index < len(stats.current):
        return value(stats.current[series.index])
    if product.csv is None or series.index >= len(product.csv):
        return None
    tail = bytes(product.csv[series.index]).rstrip(b"] \n").rpartition(b",")[2].strip(b" [")
    try:
        return value(int(tail))
    except ValueError:
        return None


def value(number: int | None) -> int | None:
    """Read one of Keepa's numbers: below 0 there is no price, rank or count, but a reason."""
    return None if number is None or number < 0 else number


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
