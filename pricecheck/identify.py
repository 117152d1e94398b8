"""What people write for a product: an ASIN, an ISBN, an address of Amazon's or of Keepa's.

Nothing is asked of anybody: a short address, which only Amazon can resolve, is refused.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from pricecheck.errors import InputError, brief
from pricecheck.keepa.tables import MARKETPLACES, Marketplace, marketplace
from pricecheck.watchlist import parse_asin

_AMAZON: Final = re.compile(r"(?:^|\.)amazon\.([a-z.]+)$")
_KEEPA: Final = re.compile(r"(?:^|\.)keepa\.com$")
_SHORT: Final = ("amzn.to", "amzn.eu", "amzn.asia", "a.co")
_IN_PATH: Final = re.compile(
    r"/(?:dp|gp/product|gp/aw/d|gp/offer-listing|product-reviews|ASIN|o|d)/(?:glance/)?"
    r"([A-Za-z0-9]{10})(?=/|$)"
)
"""Where an ASIN stands in an address: not just anywhere, for titles stand there too."""

_IN_KEEPA: Final = re.compile(r"!product/([0-9]+)-([A-Za-z0-9]{10})(?=/|$)")
_ISBN: Final = re.compile(r"[0-9]{3}-?[0-9-]{9,13}[0-9]|[0-9]-?[0-9-]{7,10}-?[0-9Xx]")


def identify(text: str) -> tuple[str, Marketplace | None]:
    """Return the ASIN of what a person wrote, and the marketplace where that tells it.

    Raises InputError, with what to write instead, when it names no product.
    """
    text = text.strip()
    if "/" in text:
        return _of_address(text)
    if _ISBN.fullmatch(text):
        digits = text.replace("-", "").upper()
        return (_isbn_10(digits) if len(digits) > 10 else parse_asin(digits)), None
    return parse_asin(text), None


def _of_address(text: str) -> tuple[str, Marketplace | None]:
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        host = (url.hostname or "").lower()
    except ValueError:
        raise InputError(f"{brief(text)!r} is not an address") from None
    if host in _SHORT:
        raise InputError(
            f"{brief(text)!r} is a short address, which only Amazon can resolve",
            remedy="open it, and take the address of the page that comes",
        )
    if _KEEPA.search(host):
        if keepa := _IN_KEEPA.search(unquote(url.fragment)):
            return parse_asin(keepa[2]), marketplace(keepa[1])
    elif found := _AMAZON.search(host):
        market = _market(found[1])
        if product := _IN_PATH.search(unquote(url.path)):
            return parse_asin(product[1]), market
    else:
        raise InputError(
            f"{brief(text)!r} is an address neither of Amazon's nor of Keepa's",
            remedy="name the product by its ASIN",
        )
    raise InputError(
        f"{brief(text)!r} is not the address of a product",
        remedy="that has the ASIN in it: https://www.amazon.de/dp/B0D8W1YVBX",
    )


def _market(tld: str) -> Marketplace:
    found = next((market for market in MARKETPLACES if market.tld == tld), None)
    if found is None:
        raise InputError(
            f"Keepa does not know amazon.{brief(tld)}",
            remedy="it knows amazon." + ", .".join(market.tld for market in MARKETPLACES),
        )
    return found


def _isbn_10(digits: str) -> str:
    """Turn an ISBN-13 into the ISBN-10 that is the book's ASIN."""
    if len(digits) != 13:
        raise InputError(f"{digits} is not an ASIN: it has {len(digits)} digits")
    # ISO 2108: weights 1 and 3 in turn; a multiple of 10 is valid.
    if sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(digits)) % 10:
        raise InputError(f"{digits} is not an ISBN-13: its check digit is wrong")
    if not digits.startswith("978"):
        kind = "ISBN-13 beyond 978" if digits.startswith("979") else "product code (EAN)"
        raise InputError(
            f"{digits} is a {kind}, which no ASIN follows from",
            remedy="look the product up at Amazon: its page's address holds the ASIN",
        )
    core = digits[3:12]
    check = -sum(weight * int(digit) for weight, digit in zip(range(10, 1, -1), core, strict=True))
    return core + "0123456789X"[check % 11]
