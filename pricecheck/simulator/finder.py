"""/query, the product finder: the products of a category's pool that a selection lets through.

Field names follow Keepa's Java client (ProductFinderRequest, Response). A field that is not heeded
here is refused, so that no filter is thought to work that does not.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec

from pricecheck.keepa.tables import LEAST_FOUND, MOST_FOUND, NO_OFFER, SERIES
from pricecheck.simulator import titles
from pricecheck.simulator.series import histories
from pricecheck.simulator.settings import Settings
from pricecheck.simulator.world import Listing, find, keyboards, pool

_Field: TypeAlias = Literal[
    "current_NEW", "current_RATING", "current_COUNT_REVIEWS", "current_SALES"
]
_FIELDS: Final[tuple[str, ...]] = get_args(_Field)


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a /query call asks for, as far as it is heeded; bounds belong to what they bound."""

    categories_include: list[int] = []
    title: str = ""  # every word of it is one of the title's
    brand: list[str] = []
    current_new_gte: int | None = msgspec.field(name="current_NEW_gte", default=None)
    current_new_lte: int | None = msgspec.field(name="current_NEW_lte", default=None)
    current_rating_gte: int | None = msgspec.field(name="current_RATING_gte", default=None)
    current_count_reviews_gte: int | None = msgspec.field(
        name="current_COUNT_REVIEWS_gte", default=None
    )
    current_sales_gte: int | None = msgspec.field(name="current_SALES_gte", default=None)
    product_type: tuple[int, ...] = msgspec.field(name="productType", default=(0, 1, 2))
    sort: list[tuple[_Field, Literal["asc", "desc"]]] = []
    per_page: Annotated[int, msgspec.Meta(ge=LEAST_FOUND, le=MOST_FOUND)] = msgspec.field(
        name="perPage", default=LEAST_FOUND
    )
    page: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def last(self) -> int:
        """How many products the pages end behind."""
        return (self.page + 1) * self.per_page


def search(settings: Settings, selection: Selection, domain: int, now: int) -> list[str]:
    """Return the ASINs of all that a selection lets through, in its order."""
    found: dict[str, dict[str, int]] = {}
    for category in selection.categories_include or [keyboards(domain)]:
        for asin in pool(settings.seed, settings.not_found, domain, str(category)):
            listing = find(settings.seed, settings.not_found, domain, asin, now)
            if listing is not None and 0 in selection.product_type:  # all products are standard
                current = _current(listing, now)
                if _lets_through(selection, listing, current):
                    found[asin] = current
    asins = sorted(found)
    for field, direction in reversed(selection.sort):
        asins.sort(key=lambda asin: found[asin][field], reverse=direction == "desc")
    return asins


def _current(listing: Listing, now: int) -> dict[str, int]:
    known = histories(listing, now)
    series = {field: known.get(SERIES[field.removeprefix("current_")].index) for field in _FIELDS}
    return {field: each.values[-1] if each else NO_OFFER for field, each in series.items()}


def _lets_through(selection: Selection, listing: Listing, current: dict[str, int]) -> bool:
    words = set(_words(titles.title(listing)))
    brands = [brand.lower() for brand in selection.brand]
    least = (
        (selection.current_new_gte, "current_NEW"),
        (selection.current_rating_gte, "current_RATING"),
        (selection.current_count_reviews_gte, "current_COUNT_REVIEWS"),
        (selection.current_sales_gte, "current_SALES"),
    )
    dearest = selection.current_new_lte
    return (
        all(bound is None or current[field] >= bound for bound, field in least)
        and (dearest is None or current["current_NEW"] <= dearest)
        and words.issuperset(_words(selection.title))
        and (not brands or titles.brand(listing).lower() in brands)
    )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
