"""The price of a check: budgets met, ceilings held or given up by weight."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.age import Terms, cheapest
from pricecheck.economy import Settlement, nearness, settle

classes_st = st.lists(
    st.tuples(
        st.builds(
            Terms,
            rate=st.floats(0.01, 50),
            weight=st.sampled_from([0.5, 1.0, 4.0, 16.0]),
            cost=st.sampled_from([1.0, 15.0]),
            floor=st.just(0.01),
            ceiling=st.sampled_from([0.25, 1.0, 14.0]),
        ),
        st.integers(1, 1000),
    ),
    min_size=1,
    max_size=12,
)


def spent(classes: list[tuple[Terms, int]], settled: Settlement) -> float:
    return sum(size * terms.cost / settled.wait(terms) for terms, size in classes)


@given(classes_st, st.floats(0.02, 3))
def test_a_settlement_never_spends_more_than_the_budget(
    classes: list[tuple[Terms, int]], share: float
) -> None:
    """Whatever the ceilings would need; and it spends all of it, unless floors are in the way."""
    budget = share * cheapest(classes)

    settled = settle(classes, budget)

    assert spent(classes, settled) <= budget * (1 + 1e-5)
    assert settled.price == 0 or spent(classes, settled) >= budget * (1 - 1e-5)


@given(classes_st, st.floats(1.01, 3))
def test_ceilings_hold_where_the_budget_allows(
    classes: list[tuple[Terms, int]], share: float
) -> None:
    """No product waits longer than its ceiling, and nothing is said to be missing."""
    settled = settle(classes, share * cheapest(classes))

    assert settled.shortfall == 0
    assert all(settled.wait(terms) <= terms.ceiling for terms, _ in classes)


def test_the_shortfall_says_by_how_much_ceilings_cannot_hold() -> None:
    """The operator's own figures: 10,000 products at 15 tokens, four times a day, are 20.8 fold."""
    classes = [(Terms(0.5, cost=15.0, ceiling=0.25), 10_000)]

    settled = settle(classes, 28_800.0)

    assert settled.need == 600_000
    assert settled.shortfall == 571_200
    assert settled.wait(classes[0][0]) == pytest.approx(10_000 * 15 / 28_800)


def test_the_heaviest_keep_their_ceilings_longest() -> None:
    """A short budget holds the ceilings of the heavy, and lets the light wait for their worth."""
    heavy, middle, light = (Terms(0.5, weight=w, ceiling=0.25) for w in (16.0, 4.0, 1.0))
    classes = [(light, 1000), (middle, 100), (heavy, 50)]

    settled = settle(classes, 2_400.0)

    assert settled.held_from == 16.0
    assert settled.wait(heavy) <= 0.25
    assert settled.wait(middle) < settled.wait(light)
    assert settled.wait(light) > 0.25


def test_ceilings_of_the_heavy_take_no_more_than_a_tenth() -> None:
    """Weights that would eat the budget hold nothing: nobody starves for them."""
    heavy, light = (Terms(0.5, weight=w, ceiling=0.25) for w in (4.0, 1.0))
    classes = [(light, 1000), (heavy, 100)]

    settled = settle(classes, 700.0)

    assert settled.held_from == math.inf
    assert settled.wait(light) < 3


def test_too_large_a_budget_checks_at_the_floors() -> None:
    """Where tokens are left over at the shortest waits a check costs nothing."""
    terms = Terms(0.5, floor=0.01, ceiling=0.25)

    settled = settle([(terms, 31)], 28_800.0)

    assert settled.price == 0
    assert settled.wait(terms) == 0.01


@pytest.mark.parametrize(
    ("price", "target", "factor"),
    [
        (None, 1000, 1.0),
        (1000, None, 1.0),
        (2000, 1000, 1.0),
        (1250, 1000, 1.0),
        (1125, 1000, 2.5),
        (1000, 1000, 4.0),
        (500, 1000, 4.0),
        (0, 1000, 4.0),
    ],
)
def test_a_price_near_its_target_weighs_more(
    price: int | None, target: int | None, factor: float
) -> None:
    """From a quarter above the target the weight rises fourfold down to it."""
    assert nearness(price, target) == pytest.approx(factor)
