"""What a config and a watchlist will spend, by the costs that the config expects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from pricecheck.config import Config
from pricecheck.errors import ConfigError
from pricecheck.extras import PLAIN, Extras
from pricecheck.keepa.tables import DEALS_PER_PAGE, LEAST_FOUND, MOST_FOUND
from pricecheck.watchlist import Watch, Watchlist, profiles

_DAY_S: Final = 86_400


def prior_costs(config: Config, watches: Iterable[Watch]) -> dict[str, float]:
    """Return the tokens that a unit of each operation is expected to cost: a product, a page.

    Raises ConfigError where the check of one product costs more than a call may.
    """
    limit = config.keepa.max_call_cost
    costs = {extras: config.costs.check(extras) for extras in profiles(watches)}
    for extras, cost in costs.items():
        if cost > limit:
            raise ConfigError(
                f"watchlist: a check with {extras.name} costs about {cost:g} tokens, "
                f"above keepa.max_call_cost = {limit}",
                remedy="raise the cap, or ask for less",
            )
    if config.discovery:  # which asks for no extras
        costs[PLAIN] = config.costs.check(PLAIN)
    return config.prior_costs | {extras.operation: cost for extras, cost in costs.items()}


def tokens_a_day(config: Config, watchlist: Watchlist) -> dict[str, float]:
    """Return the tokens a day of each task, every product checked as often as it asks for.

    Products that ask for the same extras have an entry of their own, which names their price.
    """
    checks: defaultdict[Extras, float] = defaultdict(float)
    for watch in watchlist.watches:
        checks[watch.extras] += _DAY_S / watch.every_s
    costs = prior_costs(config, watchlist.watches)
    needs = {
        _asked(extras, costs): times * costs[extras.operation] for extras, times in checks.items()
    }
    needs |= {rule.name: rule.pages * costs["deal"] * _DAY_S / rule.every for rule in config.deals}
    needs |= {rule.name: costs["bestsellers"] * _DAY_S / rule.every for rule in config.bestsellers}
    return needs


def discovery_a_day(config: Config) -> dict[str, float]:
    """Return the tokens a day that each discovery rule takes at most; of lists, only a search.

    That much when every product of each list is new; and only what the others leave.
    """
    pages = {rule.name: rule.pages for rule in config.deals}
    times = {rule.name: _DAY_S / rule.every for rule in config.deals}
    times |= {rule.name: _DAY_S / rule.every for rule in config.bestsellers}
    each = config.costs.check(PLAIN)
    needs = {}
    for rule in config.discovery:
        name, products, asked = rule.source_name, rule.top, 0.0
        if rule.source == "deals":
            products = pages[name] * DEALS_PER_PAGE
        elif rule.source == "search":
            products = min(rule.top, MOST_FOUND)
            asked = config.costs.search(max(products, LEAST_FOUND))
        needs[rule.name] = (asked + products * each) * times.get(name, _DAY_S / rule.every)
    return needs


def most_for_prices(config: Config, watchlist: Watchlist) -> float:
    """Return the tokens a day that prices take at most: every product as often as it may be."""
    costs = {extras: config.costs.check(extras) for extras in profiles(watchlist.watches)}
    shortest_s = config.prices.min_every
    return sum(
        costs[watch.extras] * _DAY_S / min(watch.every_s, shortest_s) for watch in watchlist.watches
    )


def _asked(extras: Extras, costs: Mapping[str, float]) -> str:
    if extras == PLAIN:
        return "prices"
    return f"prices with {extras.name}, {costs[extras.operation]:g} tokens a check"
