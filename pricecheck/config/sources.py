"""The lists that discovery reads: those of the config, and where it has none, one more of each."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pricecheck.config.sections import BestsellersRule, Config, DealRule, DiscoveryRule


def with_sources(config: Config) -> Config:
    """Return the config with a rule for each list that discovery needs and nobody else asks for.

    So a list is paid for once, whoever reads it.
    """
    there = {rule.name for rule in config.deals} | {rule.name for rule in config.bestsellers}
    readers: dict[str, list[DiscoveryRule]] = {}
    for rule in config.discovery:
        if rule.source != "search" and rule.source_name not in there:
            readers.setdefault(rule.source_name, []).append(rule)
    needed = [_source(rules) for rules in readers.values()]
    deals = tuple(rule for rule in needed if isinstance(rule, DealRule))
    best = tuple(rule for rule in needed if isinstance(rule, BestsellersRule))
    return msgspec.structs.replace(
        config, deals=config.deals + deals, bestsellers=config.bestsellers + best
    )


def _source(readers: Sequence[DiscoveryRule]) -> DealRule | BestsellersRule:
    """Return the rule that brings what all these readers of one list look for."""
    first, every = readers[0], min(rule.every for rule in readers)
    if first.source == "bestsellers":
        assert first.category is not None  # or the check had refused it
        top = max(rule.top for rule in readers)
        return BestsellersRule(domain=first.domain, category=first.category, every=every, top=top)
    assert not isinstance(first.category, str)
    dearest = [rule.max_price for rule in readers if rule.max_price is not None]
    return DealRule(
        domain=first.domain,
        category=first.category,
        every=every,
        pages=max(rule.pages for rule in readers),
        min_price=min(rule.min_price for rule in readers),
        max_price=max(dearest) if len(dearest) == len(readers) else None,
        min_rating=min(rule.min_rating for rule in readers),
    )
