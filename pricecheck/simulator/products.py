"""The product objects of /product, made from the simulated world."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pricecheck.keepa.tables import NO_OFFER, PRICE_TYPES, SERIES
from pricecheck.simulator import bulk, titles
from pricecheck.simulator.series import Series, histories
from pricecheck.simulator.stats import Stats, statistics
from pricecheck.simulator.world import DAY, Listing, draw, keyboards


class ProductQuery(msgspec.Struct, frozen=True):
    """What a /product call asks for, as its parameters name it."""

    domain: int
    asin: str
    stats: Annotated[int, msgspec.Meta(ge=0)] = 0  # days of the interval; 0: no statistics
    history: bool = True
    days: Annotated[int, msgspec.Meta(ge=1)] | None = None  # how far back the histories go
    buybox: bool = False
    offers: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0  # 0, or 20 at least
    update: int | None = None  # hours; 0 is live
    rating: bool = False
    stock: bool = False


class Image(msgspec.Struct, frozen=True):
    """The names of one picture, large and medium."""

    large: str = msgspec.field(name="l")
    medium: str = msgspec.field(name="m")


class Category(msgspec.Struct, frozen=True, rename="camel"):
    """One step of a category tree."""

    cat_id: int
    name: str


class Product(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A product as /product answers it; times are Keepa minutes."""

    asin: str
    domain_id: int
    title: str
    product_type: int = 0
    parent_asin: str | None = None
    tracking_since: int
    listed_since: int
    last_update: int
    last_price_change: int
    last_rating_update: int
    root_category: int
    categories: list[int]
    category_tree: list[Category]
    brand: str
    ean_list: list[str]
    images: list[Image]
    monthly_sold: int
    availability_amazon: int
    offers_successful: bool
    csv: list[list[int] | msgspec.Raw | None] | None
    stats: Stats | None
    sales_ranks: dict[str, msgspec.Raw] | None = None
    description: msgspec.Raw | None = None


class NotFound(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What answers for an ASIN that does not exist: nothing but nulls."""

    asin: str
    domain_id: int
    title: None
    csv: None
    stats: None
    product_type: int | None = None


def product(listing: Listing, query: ProductQuery, now: int, *, dense: bool) -> bytes:
    """Return the JSON of a product as a query asks for it."""
    known = histories(listing, now, buy_box=query.buybox, offers=query.offers > 0)
    amazon = known[SERIES["AMAZON"].index].values[-1]
    since = None if query.days is None else now - query.days * DAY
    root = keyboards(listing.domain)
    image = titles.image(listing)
    return msgspec.json.encode(
        Product(
            asin=listing.asin,
            domain_id=listing.domain,
            title=titles.title(listing),
            tracking_since=listing.tracked_since,
            listed_since=listing.tracked_since - 30 * DAY,
            last_update=now,
            last_price_change=known[SERIES["NEW"].index].minutes[-1],
            last_rating_update=known[SERIES["COUNT_REVIEWS"].index].minutes[-1],
            root_category=root,
            categories=[root],
            category_tree=[Category(root, titles.category(listing.domain))],
            brand=titles.brand(listing),
            ean_list=[f"{4_000_000_000_000 + listing.key % 1_000_000_000_000}"],
            images=[Image(image, image)],
            monthly_sold=listing.reviews_a_month * 20,
            availability_amazon=-1 if amazon == NO_OFFER else 0,
            offers_successful=query.offers > 0,
            csv=_csv(known, since, dense=dense) if query.history else None,
            stats=statistics(known, query.stats, now) if query.stats else None,
            sales_ranks={str(root): bulk.category_ranks()} if dense else None,
            description=bulk.text() if dense else None,
        )
    )


def not_found(seed: int, domain: int, asin: str) -> bytes | None:
    """Return what stands for an ASIN that does not exist: one of Keepa's three ways.

    An object of nulls with product type 4, the same without a type, or None: nothing at all.
    """
    way = draw(seed, "missing", asin) % 3
    if way == 0:
        return None
    kind = 4 if way == 1 else None
    return msgspec.json.encode(NotFound(asin, domain, None, None, None, product_type=kind))


def price_of(query: ProductQuery, seed: int, asin: str) -> int:
    """Return the tokens that a product which exists costs, by Keepa's price list."""
    pages = -(-_offers_found(seed, asin, query.offers) // 10)
    return (
        1
        + 6 * pages
        + 2 * query.buybox
        + 2 * query.stock
        + 1 * query.rating
        + 1 * (query.update == 0)
    )


def _offers_found(seed: int, asin: str, asked: int) -> int:
    """Return how many of the offers asked for there are: 11 to 60 of them."""
    return min(asked, 11 + draw(seed, "offers", asin) % 50)


def _csv(
    known: dict[int, Series], since: int | None, *, dense: bool
) -> list[list[int] | msgspec.Raw | None]:
    csv: list[list[int] | msgspec.Raw | None] = [None] * len(PRICE_TYPES)
    for index, series in known.items():
        csv[index] = (series if since is None else series.since(since)).flat()
    if dense:
        csv[SERIES["EXTRA_INFO_UPDATES"].index] = bulk.offer_updates(since)
    return csv
