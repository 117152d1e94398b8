"""A sales day is noticed by all products of a marketplace together, and nothing else is one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from pricecheck.rhythm import Rhythm
from pricecheck.rush import Rush

DAY = 1440
START = 8_000_000
RATE = 0.75


def watch(
    rush: Rush,
    days: float,
    speed: Callable[[float], float],
    *,
    a_day: int = 14_400,
    since: float = 0.0,
    seed: int = 1,
) -> list[float]:
    """Check products at random, which change `speed` times as often as usual; return factors."""
    rng = random.Random(f"{seed} {since}")
    factors = []
    for k in range(round(days * a_day)):
        at = since + k / a_day
        quiet = -math.log(1 - rng.random()) / (RATE * speed(at))
        minute = START + math.floor(at * DAY)
        rush.observe(Rhythm(minute, last=minute - math.floor(quiet * DAY)), RATE)
        factors.append(rush.factor)
    return factors


def test_a_sale_is_noticed_within_three_hours_and_its_end_too() -> None:
    """By several times the usual rate while it lasts; none before it, none in the end."""
    rush = Rush()
    before = watch(rush, 2, lambda at: 1.0)
    during = watch(rush, 1, lambda at: 10.0, since=2)
    after = watch(rush, 1, lambda at: 1.0, since=3)

    assert set(before) == {1.0}
    assert min(during[len(during) // 8 :]) > 4
    assert set(after[-len(after) // 2 :]) == {1.0}


@pytest.mark.parametrize("a_day", [30, 960, 14_400])
def test_chance_is_no_sale(a_day: int) -> None:
    """However few or many products are watched."""
    factors = watch(Rush(), 20_000 / a_day, lambda at: 1.0, a_day=a_day)

    assert set(factors) == {1.0}


def test_day_and_night_are_no_sale() -> None:
    """Nearly twice the changes by day and nearly none by night are what is usual."""
    factors = watch(Rush(), 4, lambda at: 1 + 0.9 * math.sin(2 * math.pi * at))

    assert set(factors) == {1.0}


def test_rates_that_are_believed_wrong_are_no_sale_for_long() -> None:
    """What is usual is learned: where changes come in bursts, or all rates were wrong."""
    rush = Rush()
    watch(rush, 3, lambda at: 3.0)
    later = watch(rush, 1, lambda at: 3.0, since=3)

    assert set(later[-1000:]) == {1.0}


def test_of_a_long_wait_only_the_rush_counts() -> None:
    """What is checked each five days was not in a rush for most of them."""
    rush = Rush()
    watch(rush, 2, lambda at: 1.0)
    watch(rush, 0.5, lambda at: 10.0, since=2)

    assert rush.speed(wait=0.1) == rush.factor > 5
    assert 1.4 < rush.speed(wait=5.0) < 0.3 * rush.factor
    assert 0.3 < rush.days < 0.5


def test_without_a_rush_nothing_is_hurried() -> None:
    """However long or short the wait."""
    rush = Rush()
    watch(rush, 1, lambda at: 1.0)

    assert {rush.speed(wait) for wait in (0.01, 1.0, 100.0)} == {1.0}
