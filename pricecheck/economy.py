"""What a check may cost: the price at which a watchlist fits its budget, ceilings and all.

Pure reckoning, shared by the planner that spends and the command that explains.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from pricecheck.age import Terms, cheapest, due_wait, price_for

_PROMISED: Final = 0.1
"""The share of a budget too small for all ceilings that goes into those of the heaviest."""

_NEAR: Final = 0.25
"""A price within this share above its target makes a product weigh more."""

_NEAR_FACTOR: Final = 4.0
"""By how much at the target, or below it."""


class Settlement(msgspec.Struct, frozen=True):
    """The price of a check, and which ceilings hold at it."""

    price: float  # 0: even the floors leave tokens over
    budget: float  # tokens a day
    need: float  # tokens a day that all ceilings take
    held_from: float = 0.0  # the least weight whose ceilings hold

    @property
    def shortfall(self) -> float:
        """The tokens a day that are missing to hold every ceiling; 0 when they hold."""
        return max(0.0, self.need - self.budget)

    def bounded(self, terms: Terms) -> Terms:
        """Return the terms as they hold: those too light for their ceiling go without one."""
        if terms.weight >= self.held_from:
            return terms
        return msgspec.structs.replace(terms, ceiling=math.inf)

    def wait(self, terms: Terms) -> float:
        """Return after how many days a product of these terms is due."""
        return due_wait(self.bounded(terms), self.price)


def settle(classes: Sequence[tuple[Terms, int]], budget: float, guess: float = 0.0) -> Settlement:
    """Find the price at which (terms, how many products) meet a budget of tokens a day.

    Where the budget can't hold every ceiling, those of the heaviest weights hold, as far as a
    tenth of the budget goes; all others wait for their worth alone, and hardly longer for them.
    """
    need = cheapest(classes)
    held_from = 0.0 if need <= budget else _held_from(classes, budget * _PROMISED)
    plain = Settlement(0.0, budget, need, held_from)
    bounded = [(plain.bounded(terms), size) for terms, size in classes]
    return msgspec.structs.replace(plain, price=price_for(bounded, budget, guess))


def _held_from(classes: Sequence[tuple[Terms, int]], budget: float) -> float:
    """Return the least weight so that the ceilings from it upwards take no more than a budget."""
    needs: defaultdict[float, float] = defaultdict(float)
    for terms, size in classes:
        needs[terms.weight] += cheapest([(terms, size)])
    held_from, sum_ = math.inf, 0.0
    for weight in sorted(needs, reverse=True):
        sum_ += needs[weight]
        if sum_ > budget:
            break
        held_from = weight
    return held_from


def nearness(price: int | None, target: int | None) -> float:
    """Return by how much a product weighs more for its price being near its target.

    1 from a quarter above the target on, rising evenly to 4 at the target and below.
    """
    if price is None or target is None:
        return 1.0
    above = (price - target) / target
    return 1 + (_NEAR_FACTOR - 1) * min(max(1 - above / _NEAR, 0.0), 1.0)
