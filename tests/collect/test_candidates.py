"""What a discovery rule takes and what it does not, whatever is known."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.collect.candidates import Facts, Sieve, facts_of, judged, of_product
from pricecheck.collect.discovery import digest_candidates
from pricecheck.config import DiscoveryRule, Domain

from .answers import NOON, answer, only, product

NOW = 1_800_000_000_000
RULE = DiscoveryRule(name="any", domain=Domain("DE"), source="deals")
KEYBOARD = Facts(
    title="Lumikey Funk-Tastatur, weiß",
    brand="Lumikey",
    price=4_999,
    rating=4.3,
    reviews=120,
    whole=True,
)


def rule(**filters: Any) -> DiscoveryRule:
    return msgspec.structs.replace(RULE, **filters)


def verdict(wanted: DiscoveryRule, facts: Facts) -> str:
    return judged(wanted, "B000000001", facts, NOW).state


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"min_price": 49.99, "max_price": 49.99},
        {"min_rating": 4.3},
        {"min_reviews": 120},
        {"brands": ("Other", "LUMIKEY")},
        {"words": ("tastatur", "WEISS")},
        {"without": ("Maus", "Set")},
    ],
)
def test_what_fits_waits(filters: dict[str, Any]) -> None:
    """Bounds belong to what they bound; letters are compared as they are read."""
    assert verdict(rule(**filters), KEYBOARD) == "waiting"


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"min_price": 50}, "it costs 49.99"),
        ({"max_price": 49.98}, "it costs 49.99"),
        ({"min_rating": 4.4}, "4.3 stars"),
        ({"min_reviews": 121}, "120 reviews"),
        ({"brands": ("Lumi",)}, "of Lumikey"),
        ({"words": ("Tastatur", "Maus")}, "no 'Maus' in its title"),
        ({"without": ("funk",)}, "'funk' in its title"),
    ],
)
def test_what_does_not_fit_says_why(filters: dict[str, Any], reason: str) -> None:
    """Each filter by itself keeps a product out, for those who wonder where it is."""
    found = judged(rule(**filters), "B000000001", KEYBOARD, NOW)

    assert found.state == "unfit"
    assert facts_of(found).reason == reason


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"max_price": 60}, "price"),
        ({"min_rating": 4}, "rating"),
        ({"min_reviews": 1}, "reviews"),
        ({"brands": ("Lumikey",)}, "brand"),
        ({"words": ("tastatur",)}, "title"),
        ({"without": ("maus",)}, "title"),
    ],
)
def test_what_nobody_told_has_to_be_asked_for_once(filters: dict[str, Any], field: str) -> None:
    """And when the product itself does not tell it, it does not fit."""
    unknown = msgspec.structs.replace(KEYBOARD, whole=False, **{field: None})

    assert verdict(rule(**filters), unknown) == "found"
    assert verdict(rule(**filters), msgspec.structs.replace(unknown, whole=True)) == "unfit"


def test_nothing_is_asked_of_what_can_not_fit_anyway() -> None:
    """A deal that is too dear is out, whatever its brand is."""
    dear = msgspec.structs.replace(KEYBOARD, whole=False, brand=None)

    assert verdict(rule(brands=("Lumikey",), max_price=40), dear) == "unfit"


def test_yen_have_no_cents() -> None:
    """A bound of 4,999 yen is 4,999 of the smallest unit."""
    yen = rule(domain=Domain("JP"), max_price=4_998)

    assert facts_of(judged(yen, "B000000001", KEYBOARD, NOW)).reason == "it costs 4,999"


WORDS = st.lists(st.sampled_from(["tastatur", "Maus", "ß", "SS", "funk"]), max_size=3).map(tuple)
FACTS = st.builds(
    Facts,
    title=st.none() | st.sampled_from(["Funk-Tastatur", "Maus", "Tastatur & Maus, weiß", ""]),
    brand=st.none() | st.sampled_from(["Lumikey", "nordkey"]),
    price=st.none() | st.integers(0, 10_000),
    rating=st.none() | st.floats(0, 5),
    reviews=st.none() | st.integers(0, 500),
    whole=st.booleans(),
)
RULES = st.builds(
    rule,
    min_price=st.sampled_from([0, 20, 99.99]),
    max_price=st.none() | st.sampled_from([20.0, 50.0]),
    min_rating=st.sampled_from([0, 2.5, 5]),
    min_reviews=st.sampled_from([0, 100]),
    brands=st.lists(st.sampled_from(["LUMIKEY", "Nordkey"]), max_size=2).map(tuple),
    words=WORDS,
    without=WORDS,
)


@given(wanted=RULES, facts=FACTS, whole=FACTS)
def test_knowing_more_never_brings_back_what_is_out(
    wanted: DiscoveryRule, facts: Facts, whole: Facts
) -> None:
    """So it is right to ask for none of those; and asking always ends the doubt."""
    blanks = {
        name: getattr(whole, name)
        for name in ("title", "brand", "price", "rating", "reviews")
        if getattr(facts, name) is None
    }
    more = msgspec.structs.replace(facts, whole=True, **blanks)

    before, after = verdict(wanted, facts), verdict(wanted, more)

    assert after != "found"
    if before != "found" and not facts.whole:
        assert after == before


@given(facts=FACTS, one=RULES, other=RULES)
def test_a_stricter_rule_takes_nothing_more(
    facts: Facts, one: DiscoveryRule, other: DiscoveryRule
) -> None:
    """What fits both halves of a rule fits the whole, and nothing else does."""
    prices = [price for price in (one.max_price, other.max_price) if price is not None]
    both = msgspec.structs.replace(
        one,
        min_price=max(one.min_price, other.min_price),
        max_price=min(prices, default=None),
        min_rating=max(one.min_rating, other.min_rating),
        min_reviews=max(one.min_reviews, other.min_reviews),
        words=one.words + other.words,
        without=one.without + other.without,
        brands=one.brands,
    )
    other = msgspec.structs.replace(other, brands=one.brands)

    halves = {verdict(one, facts), verdict(other, facts)}

    whole = verdict(both, facts)
    assert (whole == "waiting") == (halves == {"waiting"})
    assert (whole == "unfit") == ("unfit" in halves)


def test_a_product_tells_what_a_rule_may_ask() -> None:
    """Its price is NEW's, Amazon's where nothing else is new; stars come in tenths."""
    read = only(
        answer(
            product(
                {
                    "AMAZON": [NOON, 5_100],
                    "NEW": [NOON, -1],
                    "RATING": [NOON, 43],
                    "COUNT_REVIEWS": [NOON, 99],
                },
                brand="Lumikey",
            )
        )
    )

    assert of_product(read) == Facts(
        title="A keyboard", brand="Lumikey", price=5_100, rating=4.3, reviews=99, whole=True
    )


def test_a_list_may_hold_anything() -> None:
    """What is no ASIN, is there twice or is watched is no candidate."""
    sieve = Sieve(rule(source="bestsellers", category=1, top=5), {"B000000002"})
    listed = ["B000000001", "no asin", "B000000002", "B000000001", "B000000003", "B000000004"]

    found = sieve.of_list(listed, NOW)

    assert [one.asin for one in found] == ["B000000001", "B000000003"]
    assert {one.state for one in found} == {"found"}


def test_each_product_of_an_answer_is_judged_by_itself() -> None:
    """One that can't be read, is gone or is not there at all is out, and the rest is in."""
    asins = [f"B00000000{number}" for number in range(4)]
    got = answer(
        product({"NEW": [NOON, 5_000]}, asin=asins[0]),
        {"asin": asins[1], "title": 17},
        {"asin": asins[2], "title": None, "csv": None, "productType": 4},
    )

    commit = digest_candidates(got, Sieve(RULE, ()), asins, NOW)

    judgements = {
        one.asin: (one.state, json.loads(one.body).get("reason")) for one in commit.candidates
    }
    assert judgements[asins[0]] == ("waiting", None)
    assert {state for state, _ in list(judgements.values())[1:]} == {"unfit"}
    assert "can't be read" in judgements[asins[1]][1]
    assert judgements[asins[2]][1] == judgements[asins[3]][1] == "Keepa has nothing on it"
    assert [letter.id for letter in commit.dead_letters] == [f"DE:{asins[1]}"]
    assert commit.records == ()
