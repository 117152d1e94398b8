"""What a product costs in the other marketplaces, for the rules that go by the spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pricecheck.collect.products import Known
from pricecheck.config import AlertRule
from pricecheck.exchange import Rates
from pricecheck.keepa.tables import BY_CODE


class Abroad(msgspec.Struct, frozen=True):
    """What is known of products in other marketplaces, and what their money is worth."""

    known: Mapping[str, Mapping[str, Known]] = {}  # by marketplace and ASIN
    rates: Rates = Rates()

    def offers(self, rule: AlertRule, domain: str, asin: str) -> dict[str, int]:
        """Return what a product costs where else, in the currency of its own marketplace."""
        found: dict[str, int] = {}
        for other, products in self.known.items():
            known = products.get(asin)
            offer = known.offer(rule.price_type) if known else None
            if offer is None or not rule.is_for_domain(other):
                continue
            converted = self.rates.convert(offer, BY_CODE[other], BY_CODE[domain])
            if converted:
                found[other] = converted
        return found


def others_to_look_at(rules: Iterable[AlertRule], domain: str, watched: Iterable[str]) -> set[str]:
    """Return the other marketplaces whose prices matter when products of this one are checked."""
    domains = frozenset(watched)
    return {
        other
        for rule in rules
        if rule.what == "spread" and rule.is_for_domain(domain)
        for other in domains
        if rule.is_for_domain(other)
    } - {domain}
