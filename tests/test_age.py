"""The mathematics of age: against decimals of 60 digits, against limits, and by its properties."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.age import (
    Terms,
    due_wait,
    gain,
    inverse_gain,
    mean_age,
    outlook,
    price_for,
    right_share,
    tokens_a_day,
    worth,
)

xs = st.floats(-12, 4).map(lambda exponent: 10**exponent)
rates = st.floats(-4, 3).map(lambda exponent: 10**exponent)
terms_st = st.builds(
    Terms,
    rate=rates,
    weight=st.floats(0.01, 100),
    cost=st.sampled_from([1.0, 3.0, 15.0]),
    floor=st.sampled_from([0.01, 0.1]),
    ceiling=st.sampled_from([0.25, 1.0, 30.0, math.inf]),
)
classes_st = st.lists(st.tuples(terms_st, st.integers(1, 1000)), min_size=1, max_size=20)


def exact_gain(x: float) -> Decimal:
    """Compute x^2/2 - 1 + (1 + x) e^-x with so many digits that nothing cancels."""
    with localcontext() as context:
        context.prec = 60
        precise = Decimal(x)
        return precise * precise / 2 - 1 + (1 + precise) * (-precise).exp()


def exact_age(wait: float, rate: float) -> Decimal:
    """Compute t (1/2 - 1/x + (1 - e^-x)/x^2) with so many digits that nothing cancels."""
    with localcontext() as context:
        context.prec = 60
        x = Decimal(rate) * Decimal(wait)
        return Decimal(wait) * (Decimal("0.5") - 1 / x + (1 - (-x).exp()) / (x * x))


@given(xs)
def test_gain_is_right_to_ten_digits(x: float) -> None:
    """Also where the plain form would lose all of them."""
    assert gain(x) == pytest.approx(float(exact_gain(x)), rel=1e-10)


@given(xs)
def test_inverse_gain_undoes_gain(x: float) -> None:
    """The x comes back within 1e-9."""
    assert inverse_gain(float(exact_gain(x))) == pytest.approx(x, rel=1e-9)


@pytest.mark.parametrize(("y", "x"), [(0.0, 0.0), (math.inf, math.inf)])
def test_inverse_gain_takes_the_ends(y: float, x: float) -> None:
    """A price of nothing is reached at once, an infinite one never."""
    assert inverse_gain(y) == x


@given(xs, st.floats(1.0001, 1e6))
def test_inverse_gain_rises(y: float, factor: float) -> None:
    """More gain takes more time."""
    assert inverse_gain(y * factor) > inverse_gain(y)


def test_inverse_gain_knows_its_limits() -> None:
    """The cube root of 3y for small y, the square root of 2y + 2 for large."""
    assert inverse_gain(1e-15) == pytest.approx((3e-15) ** (1 / 3), rel=1e-5)
    assert inverse_gain(1e8) == pytest.approx(math.sqrt(2e8 + 2), rel=1e-9)


@given(st.builds(Terms, rate=rates, weight=st.floats(0.01, 100)), xs)
def test_a_check_is_due_when_it_is_worth_its_price(terms: Terms, price: float) -> None:
    """At the end of the wait, V has just come to the price of the check."""
    wait = due_wait(terms, price)

    assert worth(wait, terms.rate, terms.weight) == pytest.approx(price, rel=1e-8)


@given(terms_st, xs)
def test_floors_and_ceilings_hold(terms: Terms, price: float) -> None:
    """No wait is shorter than its floor or longer than its ceiling."""
    assert terms.floor <= due_wait(terms, price) <= terms.ceiling


def test_the_wait_hardly_depends_on_the_rate() -> None:
    """A thousand times slower is ten times longer; among fast products the rate does not matter."""
    slow, slower = (due_wait(Terms(rate), 1e-9) for rate in (1e-3, 1e-6))
    fast, faster = (due_wait(Terms(rate), 1.0) for rate in (1e3, 1e6))

    assert slower / slow == pytest.approx(10, rel=1e-2)
    assert faster / fast == pytest.approx(1, rel=1e-5)
    assert faster == pytest.approx(math.sqrt(2), rel=1e-5)


@given(st.floats(-6, 3).map(lambda exponent: 10**exponent), rates)
def test_mean_age_is_right_to_nine_digits(wait: float, rate: float) -> None:
    """Also where the plain form would lose all of them."""
    assert mean_age(wait, rate) == pytest.approx(float(exact_age(wait, rate)), rel=1e-9)


def test_mean_age_and_right_share_agree_with_a_sum_over_time() -> None:
    """The age at s after a check is s - (1 - e^-ds)/d on average, the chance to be right e^-ds."""
    wait, rate, steps = 2.0, 1.7, 20_000
    times = [(i + 0.5) * wait / steps for i in range(steps)]

    ages = [s - (1 - math.exp(-rate * s)) / rate for s in times]
    rights = [math.exp(-rate * s) for s in times]

    assert mean_age(wait, rate) == pytest.approx(sum(ages) / steps, rel=1e-7)
    assert right_share(wait, rate) == pytest.approx(sum(rights) / steps, rel=1e-7)
    assert right_share(0.0, rate) == 1


@given(classes_st, st.floats(0.001, 1.2))
def test_the_price_spends_the_budget(classes: list[tuple[Terms, int]], share: float) -> None:
    """Exactly, unless floors leave tokens over or ceilings need more than there are."""
    budget = share * tokens_a_day(classes, 0.0)

    price = price_for(classes, budget)

    spent = tokens_a_day(classes, price)
    if price == 0:
        assert spent <= budget
    elif price == math.inf:
        assert spent >= budget
    else:
        assert spent == pytest.approx(budget, rel=1e-5)


@given(classes_st, st.floats(0.05, 0.95), xs)
def test_a_guess_does_not_change_the_price(
    classes: list[tuple[Terms, int]], share: float, guess: float
) -> None:
    """Spending is the same, wherever the search began."""
    budget = share * tokens_a_day(classes, 0.0)

    spent = [tokens_a_day(classes, price_for(classes, budget, start)) for start in (0.0, guess)]

    assert spent[0] == pytest.approx(spent[1], rel=1e-5)


def test_no_other_plan_of_that_cost_has_less_age() -> None:
    """Moving checks from any class to any other makes the weighted age worse."""
    classes = [
        (Terms(0.05), 10),
        (Terms(1.0, weight=3.0), 5),
        (Terms(20.0, cost=3.0), 2),
        (Terms(0.4, weight=0.5, cost=15.0), 1),
    ]
    price = price_for(classes, 40.0)
    waits = [due_wait(terms, price) for terms, _ in classes]

    def cost_of(waits: list[float]) -> float:
        plan = zip(classes, waits, strict=True)
        return sum(n * t.weight * mean_age(wait, t.rate) for (t, n), wait in plan)

    best = cost_of(waits)
    for giver in range(4):
        for taker in set(range(4)) - {giver}:
            moved = list(waits)
            for i, tokens in ((giver, -0.3), (taker, 0.3)):
                terms, n = classes[i]
                moved[i] = n * terms.cost / (n * terms.cost / waits[i] + tokens)
            assert cost_of(moved) > best


def test_outlook_is_the_mean_over_products() -> None:
    """Two classes of unlike size, rate and wait, reckoned by hand."""
    plan = [(Terms(1.0, weight=2.0, cost=3.0), 3, 2.0), (Terms(0.5), 1, 4.0)]

    found = outlook(plan)

    old, older = mean_age(2.0, 1.0), mean_age(4.0, 0.5)
    assert found.checks == 3 / 2 + 1 / 4
    assert found.tokens == 3 * 3 / 2 + 1 / 4
    assert found.age == pytest.approx((3 * old + older) / 4)
    assert found.weighted_age == pytest.approx((6 * old + older) / 7)
    assert found.right == pytest.approx((1 - math.exp(-2)) / 2)
    assert found.delay == pytest.approx((3 * 1.0 * 1 + 0.5 * 2) / 3.5)
    assert found.longest_wait == 4.0


def test_outlook_of_nothing_is_that_nothing_is_wrong() -> None:
    """An empty watchlist has no age and costs nothing."""
    found = outlook([])

    assert (found.tokens, found.age, found.right) == (0, 0, 1)
    assert price_for([], 100.0) == 0
