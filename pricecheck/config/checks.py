"""What each key by itself allows, but the whole does not."""

from __future__ import annotations

import ipaddress
import math
import re
from typing import Final

from pricecheck.config.sections import Config, DealRule, DiscoveryRule, Keepa, is_loopback
from pricecheck.errors import ConfigError
from pricecheck.keepa.tables import LEAST_FOUND, LEAST_OFFERS, MARKETPLACES, MOST_OFFERS


def check_values(value: object, place: str) -> None:
    """Refuse what TOML allows and nobody can use: numbers without end, a NUL in a text."""
    reason = ""
    if isinstance(value, dict):
        for key, inner in value.items():
            check_values(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            check_values(inner, f"{place}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        reason = f"{value} is no number to count with"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        reason = "the number is too large"
    elif isinstance(value, str) and "\0" in value:
        reason = "there is a NUL in it"
    if reason:
        raise ConfigError(f"{place}: {reason}", remedy="mend the value there")


def check(config: Config) -> None:
    """Refuse what each key by itself allows but the whole does not."""
    url = config.keepa.url
    if not _is_address(url) or not (url.startswith("https:") or is_loopback(url)):
        raise ConfigError(
            f"keepa.url: {url!r} is not an https address such as {Keepa().url}",
            remedy="the API key travels in it: https, or http to a simulator on this machine",
        )
    if config.log_level not in _LEVELS:
        raise ConfigError(
            f"log_level: {config.log_level!r} is unknown", remedy="use " + ", ".join(_LEVELS)
        )
    if 0 < config.prices.offers < LEAST_OFFERS:
        raise ConfigError(
            f"prices.offers: Keepa takes {LEAST_OFFERS} to {MOST_OFFERS}", remedy="0 asks for none"
        )
    _check_simulation(config)
    _check_sinks(config)
    _check_web(config)
    _check_exchange(config)
    _check_rules(config)
    _check_discovery(config)
    _check_alerts(config)
    _check_costs(config)


def _check_exchange(config: Config) -> None:
    exchange, currencies = config.exchange, {market.currency for market in MARKETPLACES}
    if unknown := exchange.rates.keys() - currencies:
        raise ConfigError(
            f"exchange.rates: no marketplace is paid in {min(unknown)!r}",
            remedy=f"known: {', '.join(sorted(currencies - {'EUR'}))}; each for one euro",
        )
    if exchange.rates.get("EUR", 1) != 1:
        raise ConfigError("exchange.rates.EUR: a euro buys one euro", remedy="leave it out")
    if exchange.url is not None and not re.match(r"https?://\w", exchange.url, re.ASCII):
        raise ConfigError(
            f"exchange.url: {exchange.url!r} is no address of a web server",
            remedy="the example config names the European Central Bank's",
        )


def _check_web(config: Config) -> None:
    if config.web is None:
        return
    try:
        _ = config.web.place
    except ValueError:
        raise ConfigError(
            f"web.listen: {config.web.listen!r} is no address of this machine's own",
            remedy="write one such as 127.0.0.1:8372 or [::1]:8372; a proxy can show it to others",
        ) from None


def _check_simulation(config: Config) -> None:
    if config.simulation is None:
        return
    if not is_loopback(config.keepa.url):
        raise ConfigError(
            "simulation: keepa.url is not a simulator on this machine",
            remedy="leave the section out, or set keepa.url to what `pricecheck simulate` says",
        )
    if not 0 < config.time.now_ms() <= _LATEST_MS:
        raise ConfigError(
            "simulation.epoch_ms: with it, now is no date that can be written",
            remedy="set it to the Unix time in milliseconds at which the simulator was started",
        )


def _check_rules(config: Config) -> None:
    for number, rule in enumerate(config.deals):
        place = f"deals[{number}]"
        if rule.max_discount < rule.min_discount:
            raise ConfigError(f"{place}.max_discount: is below min_discount", remedy="swap them")
        _check_prices(rule, place)
    tasks = [rule.name for rule in config.deals]
    tasks += [rule.name for rule in config.bestsellers]
    if twice := {name for name in tasks if tasks.count(name) > 1}:
        raise ConfigError(f"{min(twice)} is configured twice", remedy="join the two rules into one")


def _check_prices(rule: DealRule | DiscoveryRule, place: str) -> None:
    if rule.max_price is not None and rule.max_price < rule.min_price:
        raise ConfigError(f"{place}.max_price: is below min_price", remedy="swap them")


def _check_discovery(config: Config) -> None:
    names = [rule.name for rule in config.discovery]
    for number, rule in enumerate(config.discovery):
        place = f"discovery[{number}]"
        if names.count(rule.name) > 1:
            raise ConfigError(
                f"{place}.name: {rule.name} is there twice", remedy="give each rule its own"
            )
        if rule.source != "deals" and rule.category is None:
            raise ConfigError(
                f"{place}: category is missing",
                remedy="best sellers are those of a category, and a search looks into one",
            )
        if rule.source != "bestsellers" and isinstance(rule.category, str):
            raise ConfigError(
                f"{place}.category: for {rule.source} it is the number of a browse node",
                remedy="write that number; without one, deals are those of all categories",
            )
        _check_prices(rule, place)


def _check_alerts(config: Config) -> None:
    names = [rule.name for rule in config.alerts]
    for number, rule in enumerate(config.alerts):
        place, least = f"alerts[{number}]", rule.threshold
        if names.count(rule.name) > 1:
            raise ConfigError(
                f"{place}.name: {rule.name} is there twice",
                remedy="an alert's id holds its rule's name: give each rule its own",
            )
        if least is None and rule.what in _MEASURED:
            raise ConfigError(f"{place}: threshold is missing", remedy=_MEASURED[rule.what])
        if least is not None and rule.what not in (*_MEASURED, "target"):
            raise ConfigError(
                f"{place}.threshold: {rule.what} has none",
                remedy="leave it out; `margin` keeps small changes from ringing",
            )
        if least is not None and least.percent and rule.what in ("target", "score"):
            raise ConfigError(f"{place}.threshold: a share of what?", remedy="write a plain number")
        if least is not None and rule.what == "spread" and not least.percent:
            raise ConfigError(
                f"{place}.threshold: a spread is a share", remedy='write one such as "20%"'
            )
        if rule.against != "last" and rule.what not in ("drop", "rise"):
            raise ConfigError(f"{place}.against: is for drop and rise", remedy="leave it out")
        if rule.cheapest and (len(rule.asins) < 2 or not rule.falls):
            raise ConfigError(
                f"{place}.cheapest: is for the target, drop or low of several asins",
                remedy="name those that stand for each other: asins = [...]",
            )


_MEASURED: Final = {
    "drop": 'say by how much: threshold = "15%", or an amount',
    "rise": 'say by how much: threshold = "15%", or an amount',
    "spread": 'say by how much: threshold = "20%"',
    "score": "say from which score on, 1 to 100: threshold = 70",
}


def _check_costs(config: Config) -> None:
    limit, costs = config.keepa.max_call_cost, config.costs
    needs = {"prices": costs.check(config.prices.extras)}
    needs |= {"deals": costs.deal} if config.deals else {}
    needs |= {"bestsellers": costs.bestsellers} if config.bestsellers else {}
    lists = {
        "deals": costs.deal,
        "bestsellers": costs.bestsellers,
        "search": costs.search(LEAST_FOUND),
    }
    needs |= {f"discovery {rule.name}": lists[rule.source] for rule in config.discovery}
    for name, cost in needs.items():
        if cost > limit:
            raise ConfigError(
                f"{name}: a call costs about {cost:g} tokens, above keepa.max_call_cost = {limit}",
                remedy="raise the cap, or ask for less",
            )


def _check_sinks(config: Config) -> None:
    names = config.names.by_kind()
    for kind, name in names.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,199}", name):
            raise ConfigError(
                f"names.{kind}: {name!r} can't name both a topic and an index",
                remedy="use a-z, 0-9, '-', '_' and '.', and begin with a letter or digit",
            )
        if list(names.values()).count(name) > 1:
            raise ConfigError(
                f"names.{kind}: {name!r} is used twice", remedy="each kind needs its own"
            )
    try:
        _ = config.notify and config.notify.zone
    except (ValueError, OSError, LookupError):
        raise ConfigError(
            f"notify.time_zone: there is no {config.notify and config.notify.time_zone!r}",
            remedy="write it like Europe/Berlin, or leave it out for the machine's own",
        ) from None
    for host in config.elasticsearch.hosts if config.elasticsearch else ():
        if not _is_address(host):
            raise ConfigError(
                f"elasticsearch.hosts: {host!r} is not an address",
                remedy="write it like https://search.example.net:9200; "
                "user and password stand apart",
            )
    for option in config.kafka.options if config.kafka else ():
        if option in _OURS_IN_KAFKA:
            raise ConfigError(
                f"kafka.options: {option} can't be changed, for delivery depends on it",
                remedy="leave it out",
            )


_OURS_IN_KAFKA: Final = (
    "acks",
    "bootstrap.servers",
    "delivery.report.only.error",
    "enable.idempotence",
    "message.timeout.ms",
    "request.required.acks",
    "transactional.id",
)
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_LATEST_MS: Final = 253_402_300_799_999  # the year 9999
_URL: Final = re.compile(
    r"https?://(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w-]+(?:\.[\w-]+)*))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[\w.~/-]*)?",
    re.ASCII,
)


def _is_address(url: str) -> bool:
    """Tell whether this is a whole http or https address: host, port, path, and nothing else."""
    found = _URL.fullmatch(url)
    if found is None or int(found["port"] or 0) > 65_535:
        return False
    number = found["v6"] or (found["name"] if re.fullmatch(r"[0-9.]+", found["name"]) else None)
    if number is None:
        return True
    try:
        ipaddress.ip_address(number)
    except ValueError:
        return False
    return True
