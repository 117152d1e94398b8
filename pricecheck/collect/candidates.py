"""Which products a discovery rule finds in an answer, and whether they are what it looks for.

Pure functions. A deal tells nearly all of a product, other lists only its ASIN: what
a rule asks about and nobody has told is unknown, and then the product has to be asked for.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Container, Iterable, Iterator, Sequence

import msgspec

from pricecheck.config import DiscoveryRule
from pricecheck.keepa import wire
from pricecheck.keepa.tables import ASIN, SERIES
from pricecheck.outbox import Candidate, CandidateState
from pricecheck.records import Deal


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a candidate; None is unknown, or with `whole` that there is none."""

    title: str | None = None
    brand: str | None = None
    price: int | None = None  # new, in the smallest unit of the marketplace's currency
    rating: float | None = None  # stars
    reviews: int | None = None
    whole: bool = False  # whether the product itself was asked for
    gone: str | None = None  # why nothing can be known of it
    reason: str | None = None  # why it does not fit


class Sieve(msgspec.Struct, frozen=True):
    """A rule, and the ASINs that are watched on its marketplace already."""

    rule: DiscoveryRule
    watched: Container[str]

    def of_list(self, asins: Sequence[str], now_ms: int) -> list[Candidate]:
        """Return the candidates of a list of ASINs, best first: nothing is known of them."""
        rule = self.rule
        return [
            candidate(rule, asin, Facts(), now_ms, "found")
            for asin in dict.fromkeys(asins[: rule.top])
            if ASIN.fullmatch(asin) and asin not in self.watched
        ]

    def of_deals(self, deals: Iterable[Deal], now_ms: int) -> list[Candidate]:
        """Return the candidates among deals, judged by what these tell."""
        return [
            judged(self.rule, deal.asin, of_deal(deal), now_ms)
            for deal in deals
            if ASIN.fullmatch(deal.asin) and deal.asin not in self.watched
        ]


def of_deal(deal: Deal) -> Facts:
    """Return what a deal tells of its product."""
    return Facts(
        title=deal.title,
        price=deal.current_price,
        rating=deal.rating,
        reviews=deal.review_count,
    )


def of_product(product: wire.Product | None) -> Facts:
    """Return all that there is to know of a product."""
    if product is None or product.no_data is not None:
        return Facts(whole=True, gone="Keepa has nothing on it")
    rating = wire.last_value(product, SERIES["RATING"])
    price = wire.last_value(product, SERIES["NEW"])
    if price is None:
        price = wire.last_value(product, SERIES["AMAZON"])
    return Facts(
        title=product.title,
        brand=product.brand,
        price=price,
        rating=rating / 10 if rating is not None else None,
        reviews=wire.last_value(product, SERIES["COUNT_REVIEWS"]),
        whole=True,
    )


def judged(rule: DiscoveryRule, asin: str, facts: Facts, at_ms: int) -> Candidate:
    """Return a candidate as what is known of it makes it: waiting, unfit, or found.

    Found means that a rule asks about what is not known, and nothing known speaks against it.
    """
    tests = list(_tests(rule, facts))
    # Of a product that was asked for, what is still unknown does not exist.
    failed = [why for met, why in tests if met is False or (met is None and facts.whole)]
    reason = facts.gone or (failed[0] if failed else None)
    state: CandidateState = "unfit" if reason else "waiting"
    if not reason and any(met is None for met, _ in tests):
        state = "found"
    return candidate(rule, asin, msgspec.structs.replace(facts, reason=reason), at_ms, state)


def candidate(
    rule: DiscoveryRule, asin: str, facts: Facts, at_ms: int, state: CandidateState
) -> Candidate:
    """Return a candidate in the form in which it is stored."""
    return Candidate(rule.domain.market.code, asin, rule.name, state, at_ms, _encode(facts))


def facts_of(stored: Candidate) -> Facts:
    """Read what is stored of a candidate; nothing is known of one that another version wrote."""
    try:
        return _decode(stored.body)
    except msgspec.DecodeError:
        return Facts()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Facts).decode


def _tests(rule: DiscoveryRule, facts: Facts) -> Iterator[tuple[bool | None, str]]:
    """Yield for each filter of a rule whether it is met, None where unknown, and what if not."""
    if rule.min_price or rule.max_price is not None:
        yield _is_in_range(rule, facts.price), _cost(rule, facts.price)
    if rule.min_rating:
        met = None if facts.rating is None else facts.rating >= rule.min_rating
        yield met, f"{facts.rating or 'no'} stars"
    if rule.min_reviews:
        met = None if facts.reviews is None else facts.reviews >= rule.min_reviews
        yield met, f"{facts.reviews or 'no'} reviews"
    title = None if facts.title is None else _folded(facts.title)
    for word in rule.words:
        yield None if title is None else _folded(word) in title, f"no {word!r} in its title"
    for word in rule.without:
        yield None if title is None else _folded(word) not in title, f"{word!r} in its title"
    if rule.brands:
        brand = _folded(facts.brand or "").strip()
        met = None if facts.brand is None else brand in [_folded(each) for each in rule.brands]
        yield met, f"of {facts.brand or 'no brand'}"


def _is_in_range(rule: DiscoveryRule, price: int | None) -> bool | None:
    if price is None:
        return None
    dearest = math.inf if rule.max_price is None else rule.max_price
    return bool(rule.min_price <= price / 10**rule.domain.market.minor_digits <= dearest)


def _cost(rule: DiscoveryRule, price: int | None) -> str:
    if price is None:
        return "nobody offers it new"
    digits = rule.domain.market.minor_digits
    return f"it costs {price / 10**digits:,.{digits}f}"


def _folded(text: str) -> str:
    """Return a text in the form in which it is compared: as whoever typed it means it."""
    return unicodedata.normalize("NFKC", text).casefold()
