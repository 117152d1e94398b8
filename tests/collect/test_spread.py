"""Rules that go by what a product costs in another marketplace."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.collect.abroad import Abroad, others_to_look_at
from pricecheck.collect.products import Known
from pricecheck.config import AlertRule, Domain, PriceTypeName
from pricecheck.exchange import Rates
from pricecheck.keepa.wire import Point
from pricecheck.records import Alert

from .test_alerts import ASIN, OTHER, Shop, hour, ids, rule, told

RATES = Rates({"GBP": 0.8})
WIDE = rule("spread", "20%", margin=5)


def abroad(**prices: int | None) -> Abroad:
    """What the product costs in these marketplaces."""
    known = {
        place: {ASIN: Known(prices={"NEW": Point(0, price, None)})}
        for place, price in prices.items()
    }
    return Abroad(known, RATES)


def shop(*rules: AlertRule, **prices: int | None) -> Shop:
    made = Shop(*(rules or (WIDE,)))
    made.abroad = abroad(**prices)
    return made


def places(alerts: Iterable[Alert]) -> list[str | None]:
    return [alert.against for alert in alerts]


def test_an_alert_says_where_it_costs_how_much() -> None:
    """In the currency of the product's own marketplace."""
    here = shop(FR=6_000, UK=6_400)
    here.check([7_900])

    [alert] = here.check([7_900, 5_000])

    assert alert.record().id == f"DE:{ASIN}:spread:{hour(1)}"
    assert (alert.new_price, alert.reference_price, alert.against) == (5_000, 8_000, "UK")
    assert alert.change_percent == -37.5


def test_a_price_above_the_other_s_rings_too() -> None:
    """For whoever sells there."""
    here = shop(FR=5_000)

    [alert] = here.check([6_000])

    assert (alert.against, alert.change_percent) == ("FR", 20.0)


def test_it_rings_again_when_the_spread_has_grown_or_has_been_gone() -> None:
    """Small steps don't ring, until they add up to the margin."""
    here = shop(FR=10_000)
    path = [10_000, 8_300, 8_200, 7_900, 8_600, 8_300, 9_900, 8_300]
    here.check(path[:1])

    rang = [here.check(path[: end + 1]) for end in range(1, len(path))]

    assert [told(one) for one in rang] == [[8_300], [], [7_900], [], [], [], [8_300]]


@given(st.lists(st.integers(5_000, 15_000), min_size=2, max_size=8), st.data())
def test_it_rings_the_same_however_checks_are_cut(path: list[int], data: st.DataObject) -> None:
    """At once or one by one, as long as the other price stays."""
    cuts = data.draw(st.sets(st.integers(1, len(path) - 1)))
    piecemeal, at_once = shop(FR=10_000), shop(FR=10_000)
    found: list[Alert] = []
    piecemeal.check(path[:1])
    at_once.check(path[:1])

    for end in sorted({*cuts, len(path)}):
        found += piecemeal.check(path[:end])

    assert ids(found) == ids(at_once.check(path))


@pytest.mark.parametrize(
    ("prices", "fields"),
    [
        ({}, {}),
        ({"FR": None}, {}),
        ({"US": 100}, {}),  # no rate of the dollar
        ({"FR": 100}, {"domains": (Domain("DE"), Domain("UK"))}),
        ({"FR": 100}, {"asins": (OTHER,)}),
        ({"FR": 100}, {"price_type": PriceTypeName("USED")}),
    ],
)
def test_what_can_not_be_compared_does_not_ring(
    prices: dict[str, int | None], fields: dict[str, object]
) -> None:
    """And nothing is remembered: once it can be, the present state counts."""
    here = shop(rule("spread", "20%", **fields), **prices)

    assert here.check([5_000]) == []
    assert here.remembered() == {}


def test_what_keepa_does_not_know_any_more_has_no_price() -> None:
    """Its last one may be a year old."""
    here = shop()
    gone = Known(absent="not found", prices={"NEW": Point(0, 100, None)})
    here.abroad = Abroad({"FR": {ASIN: gone}}, RATES)

    assert here.check([5_000]) == []


@pytest.mark.parametrize(
    ("rules", "domain", "others"),
    [
        ([rule("spread", "20%")], "DE", {"UK", "FR"}),
        ([rule("spread", "20%", domains=(Domain("DE"), Domain("FR")))], "DE", {"FR"}),
        ([rule("spread", "20%", domains=(Domain("DE"), Domain("US")))], "DE", set()),
        ([rule("spread", "20%", domains=(Domain("UK"), Domain("FR")))], "DE", set()),
        ([rule("low")], "DE", set()),
    ],
)
def test_only_what_rules_ask_for_is_looked_at(
    rules: list[AlertRule], domain: str, others: set[str]
) -> None:
    """Of the marketplaces that are watched."""
    assert others_to_look_at(rules, domain, ["DE", "UK", "FR"]) == others
