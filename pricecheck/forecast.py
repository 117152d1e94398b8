"""What a plan will come to, before any token is spent: adaptive beside fixed intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from pricecheck.age import Outlook, Terms, cheapest, outlook
from pricecheck.economy import settle

PROFILES: Final = (("plain", 1.0), ("buybox", 3.0), ("offers+buybox", 15.0))
"""What may be asked of each product, and what Keepa takes for it, with 20 offers."""

PLANS: Final = (5, 20, 60, 250, 500, 1000)
"""Tokens a minute to compare with: Keepa sells plans of about these sizes."""


class Forecast(msgspec.Struct, frozen=True):
    """One way to ask on one plan."""

    name: str
    refill: float  # tokens a minute
    cost: float  # tokens a check, the mean over products
    budget: float  # tokens a day for product checks
    need: float  # tokens a day that fixed intervals take
    fixed: Outlook  # intervals all stretched alike where they do not fit the budget
    adaptive: Outlook
    shortfall: float  # tokens a day missing to hold every ceiling

    @property
    def share(self) -> float:
        """How much of the budget fixed intervals take: 20 is twenty times over."""
        return self.need / self.budget if self.budget > 0 else math.inf


def forecast(
    classes: Sequence[tuple[Terms, int]],
    name: str,
    *,
    refill: float,
    others: float,
    cost: float | None = None,
) -> Forecast:
    """Foresee what becomes of (terms, how many products) on a plan of so many tokens a minute.

    With `cost` every check costs that many tokens, whatever the terms say.
    """
    budget = max(refill - others, 0.001) * 24 * 60
    priced = list(classes)
    if cost is not None:
        priced = [(msgspec.structs.replace(terms, cost=cost), size) for terms, size in classes]
    count = sum(size for _, size in priced)
    need = cheapest(priced)
    stretch = max(1.0, need / budget)
    settled = settle(priced, budget)
    return Forecast(
        name=name,
        refill=refill,
        cost=sum(terms.cost * size for terms, size in priced) / count if count else cost or 1.0,
        budget=budget,
        need=need,
        fixed=outlook((terms, size, terms.ceiling * stretch) for terms, size in priced),
        adaptive=outlook((terms, size, settled.wait(terms)) for terms, size in priced),
        shortfall=settled.shortfall,
    )
