"""What is foreseen of a watchlist: the operator's own figures, and what must always hold."""

from __future__ import annotations

import pytest

from pricecheck.age import Terms, mean_age
from pricecheck.forecast import forecast


def products(count: int, rate: float = 0.75) -> list[tuple[Terms, int]]:
    return [(Terms(rate, floor=1 / 96, ceiling=0.25), count)]


@pytest.mark.parametrize(
    ("count", "cost", "share"), [(31, 15.0, 0.0646), (10_000, 15.0, 20.83), (31, 1.0, 0.0043)]
)
def test_fixed_intervals_take_what_the_operator_reckoned(
    count: int, cost: float, share: float
) -> None:
    """31 products at 15 tokens, four times a day, take 6.5 %; 10,000 are 20 times over."""
    found = forecast(products(count), "", refill=20, others=0, cost=cost)

    assert found.need == count * 4 * cost
    assert found.share == pytest.approx(share, rel=0.01)


def test_fixed_intervals_that_do_not_fit_are_stretched() -> None:
    """Their age is that of what the budget really allows."""
    found = forecast(products(10_000), "", refill=20, others=0, cost=15)

    assert found.fixed.tokens == pytest.approx(28_800)
    assert found.fixed.age == pytest.approx(mean_age(10_000 / 1_920, 0.75))
    assert found.shortfall == 600_000 - 28_800


def test_the_adaptive_plan_is_the_better_one() -> None:
    """At the same cost, where rates differ."""
    mixed = [*products(5_000, 0.05), *products(500, 5.0)]

    found = forecast(mixed, "", refill=20, others=0, cost=15)

    assert found.adaptive.tokens == pytest.approx(28_800, rel=1e-4)
    assert found.adaptive.age < 0.95 * found.fixed.age


def test_what_others_take_is_not_in_the_budget() -> None:
    """Deals and best sellers come off the refill; never so much that no plan is left."""
    found = forecast(products(10), "", refill=20, others=5, cost=1)
    nothing = forecast(products(10), "", refill=20, others=25, cost=1)

    assert found.budget == 15 * 1440
    assert 0 < nothing.budget < 2
