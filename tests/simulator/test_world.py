"""The simulated world: the same for everybody, always in motion."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import pytest

from pricecheck.simulator import world
from pricecheck.simulator.world import DAY, ORIGIN, Listing, find, pool

NOW = ORIGIN + 100 * DAY
ASINS = [f"B0TEST{number:04d}" for number in range(300)]


def changes(listing: Listing, now: int) -> list[tuple[int, int]]:
    pairs = zip(listing.minutes, listing.levels, strict=True)
    return [(minute, listing.new[level]) for minute, level in pairs if minute <= now]


def found(asin: str, now: int = NOW, *, seed: int = 1, domain: int = 3) -> Listing:
    listing = find(seed, 0.0, domain, asin, now)
    assert listing is not None
    return listing


def test_a_product_is_the_same_in_whatever_order_and_steps_it_is_asked() -> None:
    """What was asked before, and how often, changes nothing of a product's history."""
    at_once = {asin: changes(found(asin, NOW + 900 * DAY), NOW) for asin in ASINS}
    world._listing.cache_clear()

    in_steps = {}
    for asin in reversed(ASINS):
        for day in range(-700, 101, 50):
            found(asin, ORIGIN + day * DAY)
        in_steps[asin] = changes(found(asin), NOW)

    assert in_steps == at_once


@pytest.mark.parametrize("other", [{"seed": 2}, {"domain": 4}])
def test_seed_and_marketplace_make_another_product(other: dict[str, int]) -> None:
    """The same ASIN has another history in another world or on another marketplace."""
    assert changes(found(ASINS[0], **other), NOW) != changes(found(ASINS[0]), NOW)


def test_prices_move_and_the_past_stays() -> None:
    """As time passes changes are added after the old now, and none before it is touched."""
    before = {asin: changes(found(asin), NOW) for asin in ASINS}

    after = {asin: changes(found(asin, NOW + 30 * DAY), NOW + 30 * DAY) for asin in ASINS}

    assert all(after[asin][: len(before[asin])] == before[asin] for asin in ASINS)
    new = [change for asin in ASINS for change in after[asin][len(before[asin]) :]]
    assert len(new) > 1000
    assert all(NOW < minute <= NOW + 30 * DAY for minute, _ in new)


def test_every_change_changes_the_price_at_a_minute_of_its_own() -> None:
    """Times rise strictly and no two points in a row hold the same price."""
    for asin in ASINS:
        history = changes(found(asin), NOW)

        assert all(a[0] < b[0] and a[1] != b[1] for a, b in pairwise(history))


def test_rates_are_those_of_the_planners_reference() -> None:
    """Median 0.25 changes a day, a factor of 4.5 to one sigma, and as many really happen."""
    listings = [found(f"B0RATE{number:04d}") for number in range(2000)]
    rates = sorted(listing.changes_a_day for listing in listings)
    days = 2 * 365 + 100
    happened = sum(len(changes(listing, NOW)) - 1 for listing in listings)

    assert median(rates) == pytest.approx(0.25, rel=0.1)
    assert rates[1682] / rates[1000] == pytest.approx(4.48, rel=0.15)
    assert happened == pytest.approx(sum(rates) * days, rel=0.02)


def test_asins_are_missing_by_their_share_and_by_name() -> None:
    """`not_found` is a share of ASINs, the same ones each time; B00MISS ones never exist."""
    there = [asin for asin in ASINS if find(1, 0.3, 3, asin, NOW) is not None]
    again = [asin for asin in reversed(ASINS) if find(1, 0.3, 3, asin, NOW) is not None]

    assert 180 < len(there) < 240
    assert there == again[::-1]
    assert find(1, 0.0, 3, "B00MISS123", NOW) is None


def test_a_pool_holds_only_products_that_exist() -> None:
    """A category's 400 ASINs are all found, whatever the share of missing ones."""
    asins = pool(1, 0.5, 3, "340843031")

    assert len(set(asins)) == 400
    assert all(find(1, 0.5, 3, asin, NOW) for asin in asins)
