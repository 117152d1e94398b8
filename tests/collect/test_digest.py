"""One answer becomes one commit, and one product's trouble stays its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.digest import Digest, digest_products
from pricecheck.collect.products import Known, recall, remember
from pricecheck.config import AlertRule, DealRule, Domain, Threshold
from pricecheck.keepa.client import ProductQuery, ProductsAnswer
from pricecheck.keepa.time import to_rfc3339, to_unix_ms
from pricecheck.watchlist import Watch

from .answers import NOON, answer, product, stats, watch

ONE, TWO, THREE = (f"B00000000{number}" for number in (1, 2, 3))
NEW = {"NEW": [NOON - 50, 500]}
NOW_MS = to_unix_ms(NOON) + 1_234


def digest(
    answered: ProductsAnswer,
    *asins: str,
    known: dict[str, Known | None] | None = None,
    derived: DerivedDeals | None = None,
    watches: list[Watch] | None = None,
    rules: Sequence[AlertRule] = (),
) -> Digest:
    return digest_products(
        answered,
        watches or [watch(asin) for asin in asins],
        known or {},
        now_ms=NOW_MS,
        lookback_s=90 * 86_400,
        derived=derived or DerivedDeals(),
        query=ProductQuery(),
        rules=rules,
    )


def states(found: Digest) -> dict[str, Known]:
    """What would be remembered of each product."""
    recalled = {state.asin: recall(state.body) for state in found.commit.states}
    return {asin: known for asin, known in recalled.items() if known is not None}


def ids(found: Digest, kind: str) -> list[str]:
    return [record.id for record in found.commit.records if record.kind == kind]


def test_an_answer_becomes_records_and_states() -> None:
    """A price and each change of every product, and what to remember of it, in one commit."""
    found = digest(answer(product(NEW, ONE), product(NEW, TWO)), ONE, TWO)

    now, then = to_rfc3339(to_unix_ms(NOON)), to_rfc3339(to_unix_ms(NOON - 50))
    assert ids(found, "price") == [f"DE:{ONE}:{now}", f"DE:{TWO}:{now}"]
    assert ids(found, "change") == [f"DE:{ONE}:NEW:{then}", f"DE:{TWO}:NEW:{then}"]
    assert set(states(found)) == {ONE, TWO}
    assert found.commit.dead_letters == ()


def test_a_check_is_remembered_by_our_own_clock() -> None:
    """The planner goes by it; only the time of observation is the server's."""
    found = digest(answer(product(NEW, ONE), minute=NOON + 900), ONE)

    assert [state.checked_at_ms for state in found.commit.states] == [NOW_MS]
    assert ids(found, "price") == [f"DE:{ONE}:{to_rfc3339(to_unix_ms(NOON + 900))}"]


def test_where_the_server_tells_no_time_ours_is_taken() -> None:
    """An answer without a timestamp is as good as any."""
    found = digest(answer(product(NEW, ONE), timestamp=0), ONE)

    assert ids(found, "price") == [f"DE:{ONE}:{to_rfc3339(NOW_MS)}"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (product(NEW, TWO, lastUpdate="yesterday"), "Expected `int"),
        (product(NEW, TWO) | {"csv": {"NEW": "cheap"}}, "Expected `array"),
        (product({"NEW": [NOON - 50, 500, NOON]}, TWO), "csv[1] (NEW) is not a list of 2-tuples"),
        (product({"BUY_BOX_SHIPPING": [NOON, 1, 2, 3]}, TWO), "csv[18] (BUY_BOX_SHIPPING) is not"),
        (product({"NEW": [NOON, 1, NOON - 50, 2]}, TWO), "csv[1] (NEW) is not in order of time"),
        (product({"NEW": [NOON, 1.5]}, TWO), "Expected `int"),
        (product(NEW, TWO, domainId=1), "it is of domain 1, not of 3"),
    ],
)
def test_a_product_that_can_not_be_read_costs_one_product(
    broken: dict[str, Any], reason: str
) -> None:
    """It goes to the dead letters, with why and what came; its neighbours pass."""
    found = digest(answer(product(NEW, ONE), broken, product(NEW, THREE)), ONE, TWO, THREE)

    [letter] = found.commit.dead_letters
    assert (letter.source, letter.kind, letter.id, letter.key) == (
        "keepa",
        "product",
        f"DE:{TWO}",
        TWO,
    )
    assert reason in letter.reason
    assert msgspec.json.decode(letter.body)["csv"] == broken["csv"]
    assert [id_.split(":")[1] for id_ in ids(found, "price")] == [ONE, THREE]


def test_what_was_known_of_a_product_set_aside_stays_known() -> None:
    """It was checked, but its changes since the last good answer are still to come."""
    known = Known(last_update=NOON - 900, current_price=450)

    for broken in (product(NEW, ONE, title=17), product({"NEW": [NOON]}, ONE)):
        found = digest(answer(broken), ONE, known={ONE: known})

        assert states(found) == {ONE: known}
        assert [state.checked_at_ms for state in found.commit.states] == [NOW_MS]


def test_a_mistake_of_ours_costs_one_product() -> None:
    """Whatever is raised inside, its neighbours pass, and the letter names the mistake."""

    class Mistaken(DerivedDeals):
        def find(self, price: Any, lesson: Any) -> list[Any]:
            if price.asin == TWO:
                raise ZeroDivisionError("no such luck")
            return []

    found = digest(answer(product(NEW, ONE), product(NEW, TWO)), ONE, TWO, derived=Mistaken())

    [letter] = found.commit.dead_letters
    assert letter.reason == "ZeroDivisionError: no such luck"
    assert [record.id.split(":")[1] for record in found.commit.records] == [ONE, ONE]


def test_illegible_products_are_letters_of_their_own() -> None:
    """Two without an ASIN in one answer do not overwrite each other."""
    found = digest(answer({"asin": 1}, {"asin": 2}, product(NEW, ONE)), ONE, TWO)

    letters = found.commit.dead_letters
    assert [letter.body for letter in letters] == [b'{"asin": 1}', b'{"asin": 2}']
    assert len({letter.id for letter in letters}) == 2
    assert all(letter.id.startswith("DE:unknown-") for letter in letters)


def test_the_same_illegible_product_is_the_same_letter() -> None:
    """Else each check would add one."""
    first, second = (digest(answer({"asin": 1}), ONE).commit.dead_letters for _ in range(2))

    assert first[0].id == second[0].id


def test_a_product_that_was_not_asked_for_is_ignored() -> None:
    """Nobody watches it."""
    found = digest(answer(product(NEW, TWO), product(NEW, ONE)), ONE)

    assert [state.asin for state in found.commit.states] == [ONE]
    assert [id_.split(":")[1] for id_ in ids(found, "price")] == [ONE]


def test_of_a_product_that_comes_twice_the_first_counts() -> None:
    """One check is one price."""
    found = digest(answer(product(NEW, ONE), product({"NEW": [NOON - 9, 400]}, ONE)), ONE)

    assert len(ids(found, "price")) == 1
    assert states(found)[ONE].current_price == 500


@pytest.mark.parametrize("rest", [[], [None]], ids=["left out", "null"])
def test_a_product_left_out_of_the_answer_is_absent(rest: list[None]) -> None:
    """That is a check too, and what was known of it stays known."""
    known = Known(last_update=NOON - 900, current_price=450)

    found = digest(answer(product(NEW, ONE), *rest), ONE, TWO, known={TWO: known})

    gone = msgspec.structs.replace(known, absent="not in Keepa's answer")
    assert states(found)[TWO] == gone
    assert [lesson.price is None for lesson in found.lessons] == [False, True]


def test_a_product_that_is_a_deal_under_a_derived_rule_is_one() -> None:
    """In the same commit as the price that makes it one."""
    derived = DerivedDeals()
    derived.rules = frozenset({DealRule(domain=Domain("DE"), min_discount=20)})
    cheap = product(NEW, ONE, stats=stats(avg90={"NEW": 1_000}))

    found = digest(answer(cheap, product(NEW, TWO)), ONE, TWO, derived=derived)

    assert ids(found, "deal") == [f"DE:{ONE}:NEW:{to_rfc3339(to_unix_ms(NOON - 50))}"]


def test_a_derived_deal_that_rings_is_no_news_at_each_check() -> None:
    """Its alert has the same id each time, of which the outbox keeps the first."""
    derived = DerivedDeals()
    derived.rules = frozenset({DealRule(domain=Domain("DE"), min_discount=20)})
    cheap = product(NEW, ONE, stats=stats(avg90={"NEW": 1_000}))
    score = AlertRule(name="score", what="score", threshold=Threshold(1))

    found = digest(answer(cheap), ONE, derived=derived, rules=(score,))

    assert ids(found, "alert") == [f"DE:{ONE}:score:{to_rfc3339(to_unix_ms(NOON - 50))}"]
    assert found.alerts == []


def test_what_is_remembered_is_what_is_recalled() -> None:
    """Through the store and back."""
    found = digest(answer(product({"BUY_BOX_SHIPPING": [NOON - 5, 100, 20]}, ONE)), ONE)

    [known] = states(found).values()
    assert recall(remember(known)) == known
    assert known.prices["BUY_BOX_SHIPPING"] == (NOON - 5, 100, 20)
