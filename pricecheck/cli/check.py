"""`pricecheck check`: ask Keepa for some products now, beside the daemon or without one."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._format import amount, percent, print_table
from pricecheck.cli._options import config_option, domain_option, json_option, say_simulated

if TYPE_CHECKING:
    from pricecheck.collect.products import Lesson
    from pricecheck.config import Settings
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.outbox import Outbox
    from pricecheck.records import Price
    from pricecheck.watchlist import Watch

_UNASKED: Final = 20
"""How many tokens a check may cost without asking."""

_SHOWN: Final = ("NEW", "AMAZON", "USED", "LISTPRICE")


@click.command()
@click.argument("asins", metavar="ASIN...", nargs=-1, required=True)
@config_option
@domain_option
@click.option("--yes", is_flag=True, help=f"Do not ask before spending over {_UNASKED} tokens.")
@json_option
def command(
    settings: Settings,
    asins: tuple[str, ...],
    market: Marketplace | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Check products now, and show their prices.

    Costs a token a product, more where the config asks for buybox, offers or update. What is
    learned goes to the outbox like everything the daemon learns.
    """
    from pricecheck.watchlist import parse_asin

    market = market or settings.config.prices.domain.market
    wanted = list(dict.fromkeys(parse_asin(asin) for asin in asins))
    cost = math.ceil(len(wanted) * settings.config.prior_costs["product"])
    if cost > _UNASKED and not yes:
        click.confirm(f"This costs about {cost:,} tokens. Go on?", abort=True, err=True)
    key = settings.api_key()
    with _outbox(settings) as outbox:
        lessons = _run(settings, key, market, wanted, outbox)
    _show(settings, market, wanted, lessons, as_json=as_json)
    if not any(lesson.price for lesson in lessons.values()):
        sys.exit(1)


@contextmanager
def _outbox(settings: Settings) -> Iterator[Outbox]:
    """Open the outbox as a second writer, or one for the moment where ours may not be written."""
    from pricecheck.errors import StoreError
    from pricecheck.outbox import FILE_NAME, Outbox

    time = settings.config.time
    with TemporaryDirectory(prefix="pricecheck-") as moment:
        try:
            path = settings.state_directory() / FILE_NAME
            outbox = Outbox.open(path, now_ms=time.now_ms, verify=False)
        except StoreError as error:
            click.echo(f"Not kept in the outbox: {error}", err=True)
            outbox = Outbox.open(Path(moment) / FILE_NAME, now_ms=time.now_ms)
        try:
            yield outbox
        finally:
            outbox.close()


def _run(
    settings: Settings, key: str, market: Marketplace, asins: list[str], outbox: Outbox
) -> dict[str, Lesson]:
    import trio

    from pricecheck import logs
    from pricecheck.clock import clock_of

    logs.setup("WARNING")
    logs.redact(key)
    check = partial(_check, settings, key, market, asins, outbox)
    return trio.run(check, clock=clock_of(settings.config.time))


async def _check(
    settings: Settings, key: str, market: Marketplace, asins: list[str], outbox: Outbox
) -> dict[str, Lesson]:
    """Ask for the products, as many at a time as bucket and API take; return what was learned."""
    from pricecheck.bucket import Bucket
    from pricecheck.collect.calls import CallLog, open_client
    from pricecheck.collect.deals import DerivedDeals
    from pricecheck.collect.digest import digest_products
    from pricecheck.collect.products import recall
    from pricecheck.collect.spending import Priority, Spender
    from pricecheck.keepa.client import ProductQuery, ProductsAnswer
    from pricecheck.keepa.tables import MAX_ASINS
    from pricecheck.outbox import Commit
    from pricecheck.supervisor import Heartbeat

    config = settings.config
    prices = config.prices
    query = ProductQuery(prices.stats_days, None, prices.buybox, prices.offers, prices.update)
    calls = CallLog(config.time)
    lessons: dict[str, Lesson] = {}

    def keep(watches: list[Watch], answer: ProductsAnswer) -> Commit:
        stored = outbox.states(market.code, [watch.asin for watch in watches])
        digest = digest_products(
            answer,
            watches,
            {asin: recall(body) for asin, body in stored.items()},
            now_ms=config.time.now_ms(),
            lookback_s=prices.lookback,
            derived=DerivedDeals(),
        )
        lessons.update((lesson.asin, lesson) for lesson in digest.lessons)
        for letter in digest.commit.dead_letters:
            click.echo(f"{letter.key}: Keepa's answer can't be read: {letter.reason}", err=True)
        return digest.commit

    async with open_client(settings, key, calls) as client:
        bucket = Bucket(max_call_cost=config.keepa.max_call_cost, costs=config.prior_costs)
        spender = Spender(client, bucket, outbox, calls, config.time)
        await spender.settle_doubts()
        heartbeat = Heartbeat(math.inf, lambda: _say(heartbeat.why))
        watches = _watches(settings, market, asins)
        most = max(1, min(MAX_ASINS, bucket.limit // bucket.estimate("product")))
        for first in range(0, len(watches), most):
            some = watches[first : first + most]
            names = [watch.asin for watch in some]
            await spender.spend(
                "product",
                len(some),
                Priority.PRICES,
                heartbeat,
                send=partial(client.products, market, names, query),
                keep=partial(keep, some),
            )
            if len(watches) > most:
                _say(f"{min(first + most, len(watches)):,} of {len(watches):,} products checked")
    return lessons


def _watches(settings: Settings, market: Marketplace, asins: list[str]) -> list[Watch]:
    """Return the watchlist's lines of the products, made up for those that it does not hold."""
    from pricecheck import watchlist
    from pricecheck.errors import ConfigError

    prices = settings.config.prices
    try:
        watched = watchlist.load(settings.watchlist, domain=prices.domain).watches
    except ConfigError:
        watched = ()
    wanted = set(asins)
    known = {w.asin: w for w in watched if w.asin in wanted and w.domain == market.code}
    return [
        known.get(asin) or watchlist.Watch(asin, market.code, prices.weight, None, prices.every)
        for asin in asins
    ]


def _say(text: str) -> None:
    if text and sys.stderr.isatty():
        click.secho(text, dim=True, err=True)


def _show(
    settings: Settings,
    market: Marketplace,
    asins: list[str],
    lessons: dict[str, Lesson],
    *,
    as_json: bool,
) -> None:
    import msgspec

    prices = [lesson.price for lesson in lessons.values() if lesson.price]
    say_simulated(settings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(prices), indent=2))
    elif prices:
        _show_table(market, prices)
    for asin in asins:
        lesson = lessons.get(asin)
        if lesson is not None and lesson.price is None:
            click.echo(f"{asin}: {lesson.known.absent} on amazon.{market.tld}", err=True)


def _show_table(market: Marketplace, prices: list[Price]) -> None:
    rows = []
    for price in prices:
        average = price.stats.get("avg90", {}).get("NEW")
        amounts = (*(price.prices.get(name) for name in _SHOWN), average)
        rows.append(
            (
                price.asin,
                price.title or "",
                *(amount(minor, price.currency) for minor in amounts),
                percent(price.price_change_percent),
                "-" if price.sales_rank is None else f"{price.sales_rank:,}",
                "-" if price.rating is None else f"{price.rating:.1f}",
            )
        )
    headers = ("New", "Amazon", "Used", "List", "90 days", "Change", "Rank", "Stars")
    print_table(("ASIN", "Title", *headers), rows)
    click.echo(f"{market.currency} on amazon.{market.tld}; '90 days' is the average of New")
