"""The constants of the Keepa API, each in one table with its source.

Sources: Keepa's own Java client (AmazonLocale, Product.CsvType) and its documentation.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import msgspec

from pricecheck.errors import InputError, brief

ASIN: Final = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")
"""An ASIN: B and nine letters or digits, or an ISBN-10 for books."""

MAX_ASINS: Final = 100
"""The most ASINs one /product call may name (Keepa documentation, 'Request Products')."""

LEAST_OFFERS: Final = 20
MOST_OFFERS: Final = 100
"""How many offers of a product may be asked for, if any (Keepa documentation, 'Products')."""

DEALS_PER_PAGE: Final = 150
"""The most deals one page of /deal holds (Keepa documentation, 'Browsing Deals')."""

LEAST_FOUND: Final = 50
MOST_FOUND: Final = 10_000
"""The fewest ASINs that a page of /query holds, and the most that all pages of one search tell
(Keepa documentation, 'Product Finder')."""

NO_OFFER: Final = -1
"""What Keepa writes where there is no price, rank or count."""


def finder_price(asins: int) -> int:
    """Return the tokens of a /query page of so many ASINs (Keepa documentation, 'Tokens')."""
    return 10 + -(-asins // 100)


class Marketplace(msgspec.Struct, frozen=True):
    """One Amazon marketplace: Keepa's number, our code, its host and its currency."""

    id: int
    code: str
    tld: str
    currency: str

    @property
    def minor_digits(self) -> int:
        """How many decimals the currency's smallest unit stands for (yen: none)."""
        return 0 if self.currency == "JPY" else 2


MARKETPLACES: Final = (
    Marketplace(1, "US", "com", "USD"),
    Marketplace(2, "UK", "co.uk", "GBP"),
    Marketplace(3, "DE", "de", "EUR"),
    Marketplace(4, "FR", "fr", "EUR"),
    Marketplace(5, "JP", "co.jp", "JPY"),
    Marketplace(6, "CA", "ca", "CAD"),
    Marketplace(7, "CN", "cn", "CNY"),  # retired by Amazon; old histories still carry it
    Marketplace(8, "IT", "it", "EUR"),
    Marketplace(9, "ES", "es", "EUR"),
    Marketplace(10, "IN", "in", "INR"),
    Marketplace(11, "MX", "com.mx", "MXN"),
    Marketplace(12, "BR", "com.br", "BRL"),
)

MINOR_DIGITS: Final = {market.currency: market.minor_digits for market in MARKETPLACES}
"""How many decimals the smallest unit of each currency stands for."""

BY_CODE: Final = {market.code: market for market in MARKETPLACES}
BY_ID: Final = {market.id: market for market in MARKETPLACES}
_OPEN: Final = tuple(market for market in MARKETPLACES if market.code != "CN")
# What people write for a marketplace: its code, its host, Keepa's number, ISO's name of the UK.
_SPELLINGS: Final = (
    {market.code: market for market in _OPEN}
    | {market.tld.upper(): market for market in _OPEN}
    | {f"AMAZON.{market.tld.upper()}": market for market in _OPEN}
    | {str(market.id): market for market in _OPEN}
    | {"GB": BY_CODE["UK"]}
)


def marketplace(name: str) -> Marketplace:
    """Find a marketplace by code (DE), host (amazon.de, de) or Keepa's number (3).

    Raises InputError, naming the codes there are, for anything else, and for what Amazon has ended.
    """
    found = _SPELLINGS.get(name.strip().upper())
    if found is None:
        raise InputError(
            f"unknown marketplace {brief(name)!r}",
            remedy="use one of " + ", ".join(market.code for market in _OPEN),
        )
    return found


class Measure(Enum):
    """What the numbers of a csv series are."""

    PRICE = "price"
    RANK = "rank"
    COUNT = "count"
    RATING = "rating"
    EVENT = "event"


class PriceType(msgspec.Struct, frozen=True):
    """One csv series of a product (Product.CsvType of Keepa's Java client).

    `with_shipping` series hold triples (time, price, shipping) instead of pairs.
    """

    index: int
    name: str
    measure: Measure = Measure.PRICE
    with_shipping: bool = False


PRICE_TYPES: Final = (
    PriceType(0, "AMAZON"),
    PriceType(1, "NEW"),
    PriceType(2, "USED"),
    PriceType(3, "SALES", Measure.RANK),
    PriceType(4, "LISTPRICE"),
    PriceType(5, "COLLECTIBLE"),
    PriceType(6, "REFURBISHED"),
    PriceType(7, "NEW_FBM_SHIPPING", with_shipping=True),
    PriceType(8, "LIGHTNING_DEAL"),
    PriceType(9, "WAREHOUSE"),
    PriceType(10, "NEW_FBA"),
    PriceType(11, "COUNT_NEW", Measure.COUNT),
    PriceType(12, "COUNT_USED", Measure.COUNT),
    PriceType(13, "COUNT_REFURBISHED", Measure.COUNT),
    PriceType(14, "COUNT_COLLECTIBLE", Measure.COUNT),
    PriceType(15, "EXTRA_INFO_UPDATES", Measure.EVENT),
    PriceType(16, "RATING", Measure.RATING),
    PriceType(17, "COUNT_REVIEWS", Measure.COUNT),
    PriceType(18, "BUY_BOX_SHIPPING", with_shipping=True),
    PriceType(19, "USED_NEW_SHIPPING", with_shipping=True),
    PriceType(20, "USED_VERY_GOOD_SHIPPING", with_shipping=True),
    PriceType(21, "USED_GOOD_SHIPPING", with_shipping=True),
    PriceType(22, "USED_ACCEPTABLE_SHIPPING", with_shipping=True),
    PriceType(23, "COLLECTIBLE_NEW_SHIPPING", with_shipping=True),
    PriceType(24, "COLLECTIBLE_VERY_GOOD_SHIPPING", with_shipping=True),
    PriceType(25, "COLLECTIBLE_GOOD_SHIPPING", with_shipping=True),
    PriceType(26, "COLLECTIBLE_ACCEPTABLE_SHIPPING", with_shipping=True),
    PriceType(27, "REFURBISHED_SHIPPING", with_shipping=True),
    PriceType(28, "EBAY_NEW_SHIPPING", with_shipping=True),
    PriceType(29, "EBAY_USED_SHIPPING", with_shipping=True),
    PriceType(30, "TRADE_IN"),
    PriceType(31, "RENT"),
    PriceType(32, "BUY_BOX_USED_SHIPPING", with_shipping=True),
    PriceType(33, "PRIME_EXCL"),
    PriceType(34, "COUNT_NEW_FBA", Measure.COUNT),
    PriceType(35, "COUNT_NEW_FBM", Measure.COUNT),
)

SERIES: Final = {series.name: series for series in PRICE_TYPES}
"""The csv series by name; `SERIES["NEW"].index` is where it stands in csv and stats."""

PRICES: Final = tuple(series for series in PRICE_TYPES if series.measure is Measure.PRICE)
"""The series that are prices, in the order of their index."""
