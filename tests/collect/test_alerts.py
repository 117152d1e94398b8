"""Which alerts ring: once for each thing worth telling, however checks and restarts fall."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.collect.abroad import Abroad
from pricecheck.collect.alerts import ARMED, find_deal_alerts, mates
from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.digest import digest_products
from pricecheck.collect.products import Known, recall, remember
from pricecheck.config import AlertRule, Domain, PriceTypeName, Threshold
from pricecheck.keepa.client import ProductQuery
from pricecheck.keepa.time import to_rfc3339, to_unix_ms
from pricecheck.records import Alert, Deal
from pricecheck.watchlist import Watch

from .answers import NOON, answer, product, stats

ASIN, OTHER = "B000000001", "B000000002"
STEP = 60
"""Minutes between two points of a path."""


def rule(what: str, threshold: float | str | None = None, **fields: Any) -> AlertRule:
    """A rule as the config would have it: "10%" is a share."""
    if isinstance(threshold, str):
        threshold = Threshold(float(threshold.rstrip("%")), percent=True)
    elif threshold is not None:
        threshold = Threshold(threshold)
    return AlertRule(**{"name": what, "what": what, "threshold": threshold} | fields)


TARGET = rule("target", 50, margin=0)
EVERY_KIND = (
    TARGET,
    rule("target", 50, name="calm", margin=10),
    rule("drop", "10%"),
    rule("rise", 5.0),
    rule("low", margin=0),
    rule("low", name="calm low", margin=5),
    rule("high"),
    rule("stock"),
)


class Shop:
    """A product whose price moves along a path, checked whenever a test says so."""

    def __init__(self, *rules: AlertRule, target: int | None = None, kind: str = "NEW") -> None:
        self.rules: Sequence[AlertRule] = rules
        self.target = target
        self.kind = kind
        self.bodies: dict[str, bytes] = {}
        self.averages: dict[str, int] = {}
        self.abroad = Abroad()

    def check(self, *paths: Sequence[int]) -> list[Alert]:
        """Check products with these prices so far, an hour each; what was known is read back."""
        asins = (ASIN, OTHER)[: len(paths)]
        found = [self._product(asin, path) for asin, path in zip(asins, paths, strict=True)]
        digest = digest_products(
            answer(*found, minute=NOON + STEP * max(map(len, paths))),
            [Watch(asin, "DE", 1.0, self.target, 3600) for asin in asins],
            {asin: recall(body) for asin, body in self.bodies.items()},
            now_ms=to_unix_ms(NOON),
            lookback_s=90 * 86_400,
            derived=DerivedDeals(),
            query=ProductQuery(),
            rules=self.rules,
            abroad=self.abroad,
        )
        assert digest.commit.dead_letters == ()
        self.bodies |= {state.asin: state.body for state in digest.commit.states}
        alerts = [one for one in digest.commit.records if one.kind == "alert"]
        assert [msgspec.json.decode(one.body, type=Alert) for one in alerts] == digest.alerts
        return digest.alerts

    def remembered(self) -> dict[str, int]:
        """What the product's state holds of its rules."""
        known = recall(self.bodies[ASIN])
        assert known is not None
        return known.told

    def _product(self, asin: str, path: Sequence[int]) -> dict[str, Any]:
        flat = [number for at, price in enumerate(path) for number in (NOON + STEP * at, price)]
        offers = [price for price in path if price >= 0]
        rows: dict[str, Any] = {name: {self.kind: value} for name, value in self.averages.items()}
        if offers:
            rows |= {"min": {self.kind: [NOON, min(offers)]}}
            rows |= {"max": {self.kind: [NOON, max(offers)]}}
        return product({self.kind: flat}, asin, stats=stats(**rows))


def told(alerts: Iterable[Alert]) -> list[int | None]:
    return [alert.new_price for alert in alerts]


def ids(alerts: Iterable[Alert]) -> list[str]:
    return [alert.record().id for alert in alerts]


def hour(number: int) -> str:
    """The time of a path's point."""
    return to_rfc3339(to_unix_ms(NOON + STEP * number))


def test_an_alert_says_what_happened_and_when() -> None:
    """It has the time of the change, both prices, and what the rule went by."""
    shop = Shop(TARGET, target=4_500)
    shop.check([6_000])

    [alert] = shop.check([6_000, 4_800, 5_500])

    assert alert.record().id == f"DE:{ASIN}:target:{hour(1)}"
    assert (alert.old_price, alert.new_price, alert.reference_price) == (6_000, 4_800, 5_000)
    assert (alert.target_price, alert.change_percent) == (4_500, -4.0)
    assert (alert.currency, alert.title, alert.url[-10:]) == ("EUR", "A keyboard", ASIN)


@pytest.mark.parametrize(
    ("one", "path", "rings"),
    [
        # Already there; a further low; not for less than the margin; anew after a rise.
        (rule("target", 50), [4_900], [4_900]),
        (rule("target", 50), [5_100], []),
        (rule("target", 50), [4_900, 4_800], [4_900, 4_800]),
        (rule("target", 50), [4_900, 4_899, 4_860, 4_850], [4_900, 4_850]),
        (rule("target", 50), [4_900, 5_020, 4_900], [4_900]),
        (rule("target", 50), [4_900, 5_060, 4_900], [4_900, 4_900]),
        (rule("target", 50), [4_900, -1, 4_900, -1, 4_000], [4_900, 4_000]),
        (rule("target", 50), [4_900, *[-1] * 23, 4_900], [4_900]),
        (rule("target", 50), [4_900, *[-1] * 24, 4_900], [4_900, 4_900]),
        (rule("low"), [6_000, 4_900, *[-1] * 24, 4_900], [4_900]),
        (rule("target", 50, margin=0), [5_000, 4_999, 5_001, 5_000], [5_000, 4_999, 5_000]),
        # Events: nothing at the first check.
        (rule("drop", "10%"), [5_000, 4_501, 4_050, 3_700, 3_330], [4_050, 3_330]),
        (rule("drop", 5.0), [5_000, 4_501, 4_001, 3_501], [4_001, 3_501]),
        (rule("rise", "10%"), [5_000, 5_499, 6_049, 5_000, 5_500], [6_049, 5_500]),
        (rule("drop", "10%"), [5_000, -1, 1_000], []),
        (rule("stock"), [5_000, -1, 4_000, -1, 4_000], [4_000, 4_000]),
        (rule("stock"), [-1, 5_000], [5_000]),
        # Records: the first look tells the present one, where the price ever moved.
        (rule("low"), [5_000, 4_990, 4_950, 6_000, 4_900], [4_950, 4_900]),
        (rule("low"), [-1, 5_000, 4_900], [4_900]),
        (rule("high"), [5_000, 5_010, 5_050, 4_000, 5_101], [5_050, 5_101]),
    ],
)
def test_a_rule_rings(one: AlertRule, path: list[int], rings: list[int]) -> None:
    """For what it is about, and not again before that has passed."""
    shop = Shop(one)

    found = [alert for length in range(1, len(path) + 1) for alert in shop.check(path[:length])]

    assert told(found) == rings


@pytest.mark.parametrize(
    ("one", "path", "rings"),
    [
        (rule("target", 50), [4_000, 6_000, 4_900], [4_900]),
        (rule("target", 50), [4_000, 6_000], []),
        (rule("drop", "10%"), [6_000, 3_000], []),
        (rule("stock"), [6_000, -1, 3_000], []),
        (rule("low"), [6_000, 3_000], [3_000]),
        (rule("low"), [6_000, 3_000, 3_500], []),
        (rule("high"), [6_000, 7_000], [7_000]),
        (rule("high"), [6_000, 6_000], []),
    ],
)
def test_a_first_check_tells_the_present_and_nothing_old(
    one: AlertRule, path: list[int], rings: list[int]
) -> None:
    """The whole history is there, and only what holds now rings, with the time it began."""
    found = Shop(one).check(path)

    assert told(found) == rings
    assert [alert.changed_at for alert in found] == [hour(len(path) - 1)] * len(rings)


def test_the_watchlist_s_target_is_a_rule_without_a_threshold() -> None:
    """A product without one has no such rule."""
    assert told(Shop(rule("target"), target=4_999).check([4_999])) == [4_999]
    assert Shop(rule("target")).check([4_999]) == []


@pytest.mark.parametrize(
    ("one", "average", "path", "rings"),
    [
        (rule("drop", "20%", against="avg90"), 5_000, [4_500, 4_000, 3_990], [4_000]),
        (rule("drop", "20%", against="avg90"), 5_000, [4_500, 4_000, 4_100, 4_000], [4_000, 4_000]),
        (rule("drop", 10.0, against="avg30"), 5_000, [4_001, 4_000], [4_000]),
        (rule("rise", "20%", against="avg30"), 5_000, [5_900, 6_000, 6_050, 6_060], [6_000, 6_060]),
        (rule("drop", "20%", against="avg90"), 5_000, [4_000], [4_000]),
    ],
)
def test_a_price_is_held_against_the_average(
    one: AlertRule, average: int, path: list[int], rings: list[int]
) -> None:
    """Keepa's own of that interval; at the first check the present price is, too."""
    shop = Shop(one)
    shop.averages = {"avg30": average, "avg90": average}

    found = [alert for length in range(1, len(path) + 1) for alert in shop.check(path[:length])]

    assert told(found) == rings
    assert {alert.reference_price for alert in found} == {average}


def test_without_an_average_nothing_rings() -> None:
    """Keepa has none of a product that it has not known for long; later, it has."""
    shop = Shop(rule("drop", "20%", against="avg90"))

    assert shop.check([5_000, 100]) == []
    shop.averages = {"avg90": 200}
    assert told(shop.check([5_000, 100])) == [100]


def test_amazon_sells_again() -> None:
    """It is the return to stock of Amazon's own price."""
    shop = Shop(rule("stock", price_type=PriceTypeName("AMAZON")), kind="AMAZON")
    shop.check([5_000, -1])

    assert told(shop.check([5_000, -1, 5_500])) == [5_500]


def test_shipping_counts_where_it_is_known() -> None:
    """What it costs at the door is what people compare."""
    one = rule("target", 50, price_type=PriceTypeName("BUY_BOX_SHIPPING"))
    found = digest_products(
        answer(product({"BUY_BOX_SHIPPING": [NOON, 4_800, 300, NOON + 1, 4_700, 300]})),
        [Watch(ASIN, "DE", 1.0, None, 3600)],
        {},
        now_ms=0,
        lookback_s=90 * 86_400,
        derived=DerivedDeals(),
        rules=(one,),
    )

    assert told(found.alerts) == [5_000]


@pytest.mark.parametrize(
    ("fields", "rings"),
    [
        ({"asins": (ASIN,)}, True),
        ({"asins": (OTHER,)}, False),
        ({"domains": (Domain("DE"), Domain("UK"))}, True),
        ({"domains": (Domain("UK"),)}, False),
        ({"price_type": PriceTypeName("USED")}, False),
    ],
)
def test_a_rule_is_for_the_products_that_it_names(fields: dict[str, Any], rings: bool) -> None:
    """By ASIN, marketplace and price type."""
    assert bool(Shop(rule("target", 50, **fields)).check([4_900])) == rings


class TestCheapest:
    """Of products that stand for each other only the cheapest is told."""

    ONE = rule("target", 50, margin=0, asins=(ASIN, OTHER), cheapest=True)

    def test_of_two_in_one_answer_the_cheaper_rings(self) -> None:
        """In whichever order they come."""
        assert told(Shop(self.ONE).check([4_900], [4_800])) == [4_800]
        assert told(Shop(self.ONE).check([4_700], [4_800])) == [4_700]
        assert told(Shop(self.ONE).check([4_700], [4_700])) == []

    def test_the_other_s_last_price_is_remembered(self) -> None:
        """It need not be checked together with it; once it has no offer, it is no rival."""
        shop = Shop(self.ONE)
        shop.check([6_000], [4_800])

        assert told(shop.check([6_000, 4_900])) == []
        assert told(shop.check([6_000, 4_900, 4_700])) == [4_700]
        shop.check([6_000, 4_900, 4_700], [4_800, -1])
        assert told(shop.check([6_000, 4_900, 4_700, 5_500, 4_900])) == [4_900]

    def test_a_drop_of_the_dearer_one_is_no_news(self) -> None:
        """Events are held against the others, too."""
        shop = Shop(rule("drop", "10%", asins=(ASIN, OTHER), cheapest=True))
        shop.check([6_000], [3_000])

        assert told(shop.check([6_000, 4_000, 2_900])) == [2_900]

    def test_one_that_keepa_does_not_know_any_more_is_no_rival(self) -> None:
        """Or nothing would ever ring again."""
        shop = Shop(self.ONE)
        shop.check([6_000], [4_000])
        known = recall(shop.bodies[OTHER])
        assert known is not None

        shop.bodies[OTHER] = remember(msgspec.structs.replace(known, absent="not found"))

        assert told(shop.check([6_000, 4_900])) == [4_900]

    def test_mates_are_the_others_of_the_same_rules(self) -> None:
        """Only of rules that compare, where a product of theirs is checked."""
        rules = (self.ONE, rule("stock", asins=(ASIN, "B000000003")))

        assert mates(rules, "DE", [ASIN, "B000000009"]) == {OTHER}
        assert mates(rules, "DE", ["B000000009"]) == set()


class TestChangedRules:
    """A reload changes what rings from then on, and repeats nothing."""

    def test_a_new_rule_looks_at_the_present_first(self) -> None:
        """What happened before it was there is not told."""
        shop = Shop(rule("target", 10))
        shop.check([6_000, 4_000, 4_900])

        shop.rules = (rule("target", 50, name="new"), rule("stock"), rule("drop", "1%"))
        assert told(shop.check([6_000, 4_000, 4_900])) == [4_900]
        assert told(shop.check([6_000, 4_000, 4_900])) == []

    def test_another_name_repeats_nothing(self) -> None:
        """What is remembered goes by what a rule says."""
        shop = Shop(rule("target", 50))
        shop.check([4_900])

        shop.rules = (rule("target", 50, name="renamed"),)
        assert shop.check([4_900]) == []

    def test_another_target_is_looked_at_anew_under_the_same_id(self) -> None:
        """So that a price told before is not told again, for the first of an id stands."""
        shop = Shop(rule("target"), target=5_000)
        before = shop.check([4_000])

        shop.target = 4_500
        assert ids(shop.check([4_000])) == ids(before)

    def test_what_is_remembered_goes_with_its_rule(self) -> None:
        """A product's state holds nothing of rules that are no more."""
        shop = Shop(*EVERY_KIND)
        shop.check([4_000])

        shop.rules = (TARGET,)
        shop.check([4_000])

        assert list(shop.remembered().values()) == [4_000]


def test_what_is_remembered_is_small() -> None:
    """Some tens of bytes a product, with as many rules as one would write."""
    shop = Shop(*EVERY_KIND)
    shop.check([6_000])
    with_rules = len(shop.bodies[ASIN])
    shop.rules = ()
    shop.check([6_000])

    assert with_rules - len(shop.bodies[ASIN]) < 20 * len(EVERY_KIND)


def test_a_price_type_that_comes_to_be_bought_brings_no_old_news() -> None:
    """Its whole history comes at once, of which only the present state counts."""
    kind = PriceTypeName("BUY_BOX_SHIPPING")
    rules = (
        rule("target", 50, price_type=kind),
        rule("drop", "10%", price_type=kind),
        rule("stock", price_type=kind),
    )
    flat = [NOON - 900, 7_000, 0, NOON - 800, -1, -1, NOON - 700, 3_000, 0, NOON - 600, 2_000, 0]
    known: Known | None = None
    found = []
    answers: tuple[dict[str, Any], ...] = ({}, {kind: flat}, {kind: [*flat, NOON + 9, 1_000, 0]})
    for more in answers:
        digest = digest_products(
            answer(product({"NEW": [NOON - 999, 9_000], **more})),
            [Watch(ASIN, "DE", 1.0, None, 3600)],
            {ASIN: known},
            now_ms=0,
            lookback_s=90 * 86_400,
            derived=DerivedDeals(),
            rules=rules,
        )
        known = recall(digest.commit.states[0].body)
        found.append([(one.rule, one.new_price) for one in digest.alerts])

    assert found == [[], [("target", 2_000)], [("target", 1_000), ("drop", 1_000)]]


def test_a_share_and_an_amount_are_not_the_same_rule() -> None:
    """Though the figure is the same: nothing that is remembered of one is the other's."""
    shop = Shop(rule("drop", "10%", against="avg90"))
    shop.averages = {"avg90": 5_000}
    shop.check([4_500])

    shop.rules = (rule("drop", 10.0, against="avg90"),)
    shop.check([4_500])

    assert list(shop.remembered().values()) == [ARMED]


def test_an_answer_that_teaches_no_changes_rings_nothing() -> None:
    """Without histories there is no telling what is new; the next whole answer does."""
    shop = Shop(TARGET)
    found = digest_products(
        answer(product(None, stats=stats(current={"NEW": 100}))),
        [Watch(ASIN, "DE", 1.0, None, 3600)],
        {},
        now_ms=0,
        lookback_s=90 * 86_400,
        derived=DerivedDeals(),
        rules=(TARGET,),
    )
    shop.bodies = {state.asin: state.body for state in found.commit.states}

    assert found.alerts == []
    assert told(shop.check([4_000, 6_000, 4_900])) == [4_900]


def a_deal(**fields: Any) -> Deal:
    plain: dict[str, Any] = {
        "asin": ASIN,
        "domain": "DE",
        "currency": "EUR",
        "title": "A keyboard",
        "price_type": "NEW",
        "created_at": hour(0),
        "timestamp": hour(1),
        "current_price": 5_000,
        "original_price": 8_000,
        "discount_percent": 37,
        "rating": 4.5,
        "review_count": 10,
        "sales_rank": 100,
        "category": None,
        "deal_score": 70.0,
        "source": "keepa",
        "url": "",
    }
    return Deal(**plain | fields)


@pytest.mark.parametrize(
    ("deal", "rings"),
    [
        (a_deal(), True),
        (a_deal(deal_score=69.9), False),
        (a_deal(price_type="USED"), False),
        (a_deal(domain="UK"), False),
    ],
)
def test_a_deal_rings_by_its_score(deal: Deal, rings: bool) -> None:
    """Once: a later state of it has the same id."""
    one = rule("score", 70, domains=(Domain("DE"),))

    found = find_deal_alerts((one, TARGET), deal)

    assert ids(found) == [f"DE:{ASIN}:score:{hour(0)}"] * rings


AWAY = -2
"""Without an offer for a day, in a path that is drawn."""

PATHS = st.lists(
    st.sampled_from([AWAY, -1, 100, 3_900, 4_000, 4_499, 4_500, 4_999, 5_000, 5_001, 5_600, 7_000]),
    min_size=2,
    max_size=14,
).map(lambda path: [price for one in path for price in ([-1] * 24 if one == AWAY else [one])])


@given(PATHS, st.data())
def test_it_makes_no_difference_when_checks_and_restarts_come(
    path: list[int], data: st.DataObject
) -> None:
    """After the same first check the same alerts ring, each once, however the rest is cut."""
    first = data.draw(st.integers(1, len(path)))
    cuts = sorted(data.draw(st.sets(st.integers(first, len(path)))) | {len(path)})
    in_one_go, in_parts = Shop(*EVERY_KIND), Shop(*EVERY_KIND)

    whole = in_one_go.check(path[:first]) + in_one_go.check(path)
    parts = in_parts.check(path[:first])
    for cut in cuts:
        parts += in_parts.check(path[:cut])

    assert sorted(ids(parts)) == sorted(ids(whole))
    assert len(set(ids(parts))) == len(parts)
    assert in_parts.remembered() == in_one_go.remembered()


@given(PATHS, st.data())
def test_every_new_low_below_the_target_rings(path: list[int], data: st.DataObject) -> None:
    """Each price below all that were told since it was last above the target, or away for a day."""
    first = data.draw(st.integers(1, len(path)))
    shop = Shop(TARGET)

    found = shop.check(path[:first]) + shop.check(path)

    expected = []
    lowest = 5_001
    for at, price in enumerate(path):
        if at < first - 1 or price < 0:
            continue
        if at >= 24 and path[at - 24 : at] == [-1] * 24:
            lowest = 5_001
        if price > 5_000:
            lowest = 5_001
        elif price < lowest:
            # Where the same value was repeated before the first check, it began earlier.
            began = next(i for i in range(at, -1, -1) if i == 0 or path[i - 1] != price)
            expected.append((hour(began), price))
            lowest = price
    assert [(alert.changed_at, alert.new_price) for alert in found] == expected


def test_armed_is_no_price() -> None:
    """A product that is free may have been told."""
    assert ARMED < 0
    assert told(Shop(TARGET).check([0])) == [0]
    assert Known().told == {}
