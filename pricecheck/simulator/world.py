"""The simulated world: which products there are, and when and how their prices change.

Everything follows from (seed, domain, ASIN): a product is the same whoever asks, whenever and in
whatever order. Its price changes are a Poisson process, drawn a year at a time, so that a
simulated now beyond the last drawn year only adds to what was there.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from hashlib import blake2b
from itertools import count, islice
from math import exp, log
from random import Random
from typing import Final

from pricecheck.keepa.tables import NO_OFFER
from pricecheck.keepa.time import from_unix_ms

DAY: Final = 1440
"""A day in Keepa minutes; every time of the world is in Keepa minutes."""

ORIGIN: Final = from_unix_ms(1_767_225_600_000)
"""The world's origin, 2026-01-01T00:00Z. Histories begin two years before."""

KEYBOARDS_DE: Final = 340843031
"""The browse node of keyboards on amazon.de."""

NEVER_FOUND: Final = "B00MISS"
"""ASINs that begin with this never exist."""

_YEAR = 365 * DAY
_FIRST_YEAR = -2

_MEDIAN_CHANGES_A_DAY = 0.25
_SIGMA_OF_CHANGES = 1.5
# Bounds the cost of one product; one in two hundred would change more often.
_MOST_CHANGES_A_DAY = 12.0

# What a product's price moves among, as factors of its base price.
_LADDER = (1.0, 0.99, 0.98, 0.97, 0.95, 1.02, 1.03, 1.05, 0.92, 0.9, 0.85, 0.8, 0.7, 0.55)

# What a euro cent is in the smallest unit of currencies of another order of size.
_UNITS_PER_CENT = {5: 1.6, 7: 8.0, 10: 90.0, 11: 20.0, 12: 6.0}

_POOL_SIZE = 400
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def draw(*what: object) -> int:
    """Return a number of 64 random bits that follows from its arguments alone."""
    text = ":".join(map(str, what))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def chance(*what: object) -> float:
    """Return a number in [0, 1) that follows from its arguments alone."""
    return (draw(*what) >> 11) / 2**53


class Listing:
    """One product on one marketplace: what it is, and its price changes.

    Change i happened at `minutes[i]` and brought level `levels[i]`; `new`, `amazon`, `used`,
    `shipping` and `sellers` say what each level means (smallest unit, -1 none). Two changes in
    a row never bring the same `new`.
    """

    __slots__ = (
        "_drawn_until",
        "_name",
        "amazon",
        "asin",
        "changes_a_day",
        "domain",
        "key",
        "levels",
        "list_price",
        "minutes",
        "new",
        "rank",
        "rating",
        "reviews",
        "reviews_a_month",
        "sellers",
        "shipping",
        "tracked_since",
        "used",
    )

    def __init__(self, seed: int, domain: int, asin: str) -> None:
        self._name = f"{seed}:{domain}:{asin}"
        self.domain = domain
        self.asin = asin
        self.key = draw(self._name)
        rng = Random(self._name)
        rate = _MEDIAN_CHANGES_A_DAY * exp(rng.gauss(0, _SIGMA_OF_CHANGES))
        self.changes_a_day = min(rate, _MOST_CHANGES_A_DAY)
        begin = ORIGIN + _FIRST_YEAR * _YEAR
        self.tracked_since = begin - rng.randrange(60 * DAY)
        self.rank = int(exp(rng.uniform(log(50), log(200_000))))
        self.rating = rng.randrange(32, 49)
        self.reviews = rng.randrange(400)
        self.reviews_a_month = rng.randrange(1, 60)

        base = rng.uniform(2_000, 6_000) * exp(abs(rng.gauss(0, 0.8)))
        base *= _UNITS_PER_CENT.get(domain, 1.0)
        self.list_price = _rounded(base * rng.uniform(1.05, 1.3))
        levels = [_rounded(base * factor) for factor in _LADDER]
        if rng.random() < 0.7:
            levels.append(NO_OFFER)
        self.new = tuple(levels)
        by_amazon, has_used = rng.random() < 0.6, rng.random() < 0.5
        self.amazon = tuple(_at_amazon(price, rng) if by_amazon else NO_OFFER for price in levels)
        used = (NO_OFFER, _rounded(base * 0.75), _rounded(base * 0.65))
        self.used = tuple(rng.choice(used) if has_used else NO_OFFER for _ in levels)
        self.shipping = tuple(rng.choice((0, 0, 0, 299, 499)) for _ in levels)
        self.sellers = tuple(0 if price < 0 else rng.randrange(1, 10) for price in levels)

        self.minutes = array("i", [self.tracked_since])
        self.levels = bytearray([rng.randrange(len(_LADDER))])
        self._drawn_until = begin

    def draw_changes(self, now: int) -> None:
        """Draw the changes of whole years, until they reach beyond now."""
        while self._drawn_until <= now:
            self._draw_year()

    def _draw_year(self) -> None:
        begin, end = self._drawn_until, self._drawn_until + _YEAR
        uniform = Random(f"{self._name}:{begin}").random
        mean_gap = DAY / self.changes_a_day
        others = len(self.new) - 1
        at, last, level = float(begin), self.minutes[-1], self.levels[-1]
        while (at := at - log(1 - uniform()) * mean_gap) < end:
            if (minute := int(at)) > last:
                last, level = minute, (level + 1 + int(uniform() * others)) % (others + 1)
                self.minutes.append(last)
                self.levels.append(level)
        self._drawn_until = end

    def noise(self, step: int) -> float:
        """Return a number in [0, 1) that belongs to this product and a step of its time."""
        mixed = (self.key ^ (step * 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        return (mixed >> 32) / 2**32


def find(seed: int, not_found: float, domain: int, asin: str, now: int) -> Listing | None:
    """Return a product with its changes until now at least, or None if there is no such ASIN.

    Before it was first tracked there was none.
    """
    if not _exists(seed, not_found, asin):
        return None
    listing = _listing(seed, domain, asin)
    if now < listing.tracked_since:
        return None
    listing.draw_changes(now)
    return listing


@lru_cache(maxsize=64)
def pool(seed: int, not_found: float, domain: int, category: str) -> tuple[str, ...]:
    """Return the ASINs of a category, from which its deals and its best sellers come."""
    names = (_asin(draw(seed, domain, category, number)) for number in count())
    return tuple(islice((name for name in names if _exists(seed, not_found, name)), _POOL_SIZE))


def keyboards(domain: int) -> int:
    """Return the root category of a marketplace's products; only the German one is real."""
    return KEYBOARDS_DE + (domain - 3) * 1_000


# Bounded, because a benchmark asks for a hundred thousand: a product is drawn again in less than
# a millisecond.
@lru_cache(maxsize=8192)
def _listing(seed: int, domain: int, asin: str) -> Listing:
    return Listing(seed, domain, asin)


def _exists(seed: int, not_found: float, asin: str) -> bool:
    return not asin.startswith(NEVER_FOUND) and chance(seed, "exists", asin) >= not_found


def _asin(number: int) -> str:
    letters = []
    for _ in range(8):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "B0" + "".join(letters)


def _rounded(price: float) -> int:
    return int(price) // 10 * 10 + 9


def _at_amazon(new: int, rng: Random) -> int:
    # NEW includes Amazon, so Amazon is never cheaper.
    if new < 0 or rng.random() < 0.15:
        return NO_OFFER
    return new if rng.random() < 0.75 else _rounded(new * 1.04)
