"""What a config and a watchlist will spend, by the costs that the config expects."""

from __future__ import annotations

from typing import Final

from pricecheck.config import Config
from pricecheck.watchlist import Watchlist

_DAY_S: Final = 86_400


def tokens_a_day(config: Config, watchlist: Watchlist) -> dict[str, float]:
    """Return the tokens a day of each task, every product checked as often as it asks for."""
    costs = config.prior_costs
    checks = sum(_DAY_S / watch.every_s for watch in watchlist.watches)
    needs = {"prices": checks * costs["product"]}
    needs |= {rule.name: rule.pages * costs["deal"] * _DAY_S / rule.every for rule in config.deals}
    needs |= {rule.name: costs["bestsellers"] * _DAY_S / rule.every for rule in config.bestsellers}
    return needs


def most_for_prices(config: Config, watchlist: Watchlist) -> float:
    """Return the tokens a day that prices take at most: every product as often as it may be."""
    shortest = (min(watch.every_s, config.prices.min_every) for watch in watchlist.watches)
    return config.prior_costs["product"] * sum(_DAY_S / wait_s for wait_s in shortest)
