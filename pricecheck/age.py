"""The age of what we show: how long a product's price has been wrong, unseen, on average.

Changes of a product come at `rate` a day; `wait` days pass from one check to the next. The age
of a copy is the time since its first change that was not seen, 0 while it is right (Cho and
Garcia-Molina, "Synchronizing a database to improve freshness", SIGMOD 2000). The mean of
weight * age over all products is least, for what the checks may cost, when each is checked as
soon as the worth of its check has reached one and the same price. Times are days, tokens are
the currency. Nothing here knows a product, a clock or a budget's source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

_SERIES_BELOW: Final = 0.1
"""Under this the plain form of `gain` cancels, and eight terms of its series are as good."""

_CLOSE_ENOUGH: Final = 1e-5
"""A Newton step under this share of x was the last: the next would be about its square."""

_TOLERANCE: Final = 1e-6
"""How closely `price_for` meets its budget, as a share of it."""


class Terms(msgspec.Struct, frozen=True, gc=False):
    """All that decides how long a product waits for its check; equal terms, equal waits."""

    rate: float  # changes a day, above 0
    weight: float = 1.0
    cost: float = 1.0  # tokens a check
    floor: float = 0.0  # days, the least and the longest wait; the floor wins
    ceiling: float = math.inf


def gain(x: float) -> float:
    """Return h(x) = x^2/2 - P(2, x), P the regularised lower incomplete gamma function.

    It is the worth of a check after x expected changes, in units of weight / rate^2.
    """
    if x < _SERIES_BELOW:
        # The sum of (-1)^(k+1) (k-1)/k! x^k from k = 3 to 10.
        tail = 1 / 144 - x * (1 / 840 - x * (1 / 5760 - x * (1 / 45360 - x / 403200)))
        return x * x * x * (1 / 3 - x * (1 / 8 - x * (1 / 30 - x * tail)))
    return 0.5 * x * x - 1 + (1 + x) * math.exp(-x)


def inverse_gain(y: float) -> float:
    """Return the x at which `gain` is y, within 1e-9 of it."""
    if y < 1:
        x: float = (3 * y) ** (1 / 3)
        x += x * x / 8
    else:
        x = math.sqrt(2 * y + 2)
    # gain is convex and rises by x (1 - e^-x): Newton's method can't fail.
    while 0 < x < math.inf:
        step = (gain(x) - y) / (-x * math.expm1(-x))
        x -= step
        if abs(step) < _CLOSE_ENOUGH * x:
            break
    return x


def worth(wait: float, rate: float, weight: float = 1.0) -> float:
    """Return V, what a check after so many days is worth: the price at which it is just due."""
    return weight * gain(rate * wait) / rate**2


def due_wait(terms: Terms, price: float) -> float:
    """Return after how many days a check has come to be worth `price` for each of its tokens."""
    rate = terms.rate
    wait = inverse_gain(price * terms.cost * rate * rate / terms.weight) / rate
    return max(min(wait, terms.ceiling), terms.floor)


def mean_age(wait: float, rate: float) -> float:
    """Return the mean age, in days, of a product checked every `wait` days."""
    x = rate * wait
    if x < _SERIES_BELOW:
        # The sum of (-1)^(k+1) x^k / (k+2)! from k = 1 to 7.
        tail = 1 / 720 - x * (1 / 5040 - x * (1 / 40320 - x / 362880))
        return wait * x * (1 / 6 - x * (1 / 24 - x * (1 / 120 - x * tail)))
    return wait * (0.5 - (x + math.expm1(-x)) / (x * x))


def right_share(wait: float, rate: float) -> float:
    """Return the share of the time for which the last known price is right."""
    x = rate * wait
    return -math.expm1(-x) / x if x else 1.0


class Outlook(msgspec.Struct, frozen=True):
    """What a plan is expected to come to; means are over products of equal say."""

    checks: float  # a day
    tokens: float  # a day
    age: float  # days
    weighted_age: float  # days; what the plan makes small
    right: float  # share of the time
    delay: float  # days from a change to the check that sees it, mean over changes
    longest_wait: float  # days


def outlook(plan: Iterable[tuple[Terms, int, float]]) -> Outlook:
    """Return what comes of (terms, how many products have them, their wait in days)."""
    count = checks = tokens = age = weighted = weights = right = changes = delay = longest = 0.0
    for terms, size, wait in plan:
        old = size * mean_age(wait, terms.rate)
        count += size
        checks += size / wait
        tokens += size / wait * terms.cost
        age += old
        weighted += old * terms.weight
        weights += size * terms.weight
        right += size * right_share(wait, terms.rate)
        changes += size * terms.rate
        delay += size * terms.rate * wait / 2
        longest = max(longest, wait)
    if not count:
        return Outlook(0, 0, 0, 0, 1, 0, 0)
    return Outlook(
        checks, tokens, age / count, weighted / weights, right / count, delay / changes, longest
    )


def tokens_a_day(classes: Sequence[tuple[Terms, int]], price: float) -> float:
    """Return what is spent a day when every product is checked at this price."""
    return sum(size * terms.cost / due_wait(terms, price) for terms, size in classes)


def price_for(classes: Sequence[tuple[Terms, int]], budget: float, guess: float = 0.0) -> float:
    """Return the price at which (terms, how many products) cost `budget` tokens a day.

    0 when even the floors leave some of it unspent, infinity when the ceilings need more. A
    `guess` near the answer saves time and changes nothing else.
    """
    if dearest(classes) <= budget:
        return 0.0
    if cheapest(classes) >= budget:
        return math.inf
    goal = math.log(budget)

    def excess(log_price: float) -> float:
        return math.log(tokens_a_day(classes, math.exp(log_price))) - goal

    known = 0 < guess < math.inf
    low = high = math.log(guess) if known else 0.0
    over = under = excess(low)
    # Spending falls with the square or the cube root of the price, but for floors and ceilings.
    step = 0.1 if known else 1.0
    while over < 0:
        high, under = low, over
        low -= max(step, -3 * over)
        over, step = excess(low), step * 4
    while under > 0:
        low, over = high, under
        high += max(step, 3 * under)
        under, step = excess(high), step * 4
    return math.exp(_root(excess, low, over, high, under))


def dearest(classes: Iterable[tuple[Terms, int]]) -> float:
    """Return the tokens a day when every product is checked as often as its floor allows."""
    return sum(size * t.cost / t.floor if t.floor else math.inf for t, size in classes)


def cheapest(classes: Iterable[tuple[Terms, int]]) -> float:
    """Return the tokens a day that it takes to let no product wait beyond its ceiling."""
    return sum(size * t.cost / max(t.ceiling, t.floor) for t, size in classes)


def _root(f: Callable[[float], float], low: float, over: float, high: float, under: float) -> float:
    """Return where f, falling from `over` at `low` to `under` at `high`, is 0 (Illinois method)."""
    side = 0
    while over > _TOLERANCE and under < -_TOLERANCE:
        middle = (low * under - high * over) / (under - over)
        value = f(middle)
        if value > 0:
            low, over = middle, value
            under /= 2 if side > 0 else 1
            side = 1
        else:
            high, under = middle, value
            over /= 2 if side < 0 else 1
            side = -1
    return low if over <= _TOLERANCE else high
