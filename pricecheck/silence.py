"""Which alert rules are right in themselves, but can't ring for what is watched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pricecheck.config import AlertRule, Config
from pricecheck.keepa.tables import BY_CODE
from pricecheck.watchlist import Watch


def silent_rules(config: Config, watches: Iterable[Watch]) -> Iterator[str]:
    """Yield for each rule that will not ring, or not for all that it names, which and why."""
    watched = {(watch.domain, watch.asin) for watch in watches}
    for rule in config.alert_rules:
        domains = {domain for domain, _ in watched if rule.is_for_domain(domain)}
        if rule.what != "score":  # deals are of any product
            for asin in rule.asins:
                if not any((domain, asin) in watched for domain in domains):
                    yield f"{rule.name}: {asin} is not watched"
        if rule.what == "spread":
            yield from _without_spread(rule, config, domains)


def _without_spread(rule: AlertRule, config: Config, domains: set[str]) -> Iterator[str]:
    if len(domains) < 2:
        yield f"{rule.name}: watched in one marketplace at most, there is none to compare with"
    elif config.exchange.url is None:
        currencies = {BY_CODE[domain].currency for domain in domains}
        missing = currencies - {"EUR"} - config.exchange.rates.keys()
        if missing and len(currencies) > 1:
            names = ", ".join(sorted(missing))
            yield f"{rule.name}: no rate of {names}; set exchange.url or exchange.rates"
