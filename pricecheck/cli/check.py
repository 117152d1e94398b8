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
    from pricecheck.collect.once import Checked
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

    Costs a token a product, more where watchlist or config ask for buybox, offers or update.
    What is learned goes to the outbox like everything the daemon learns.
    """
    from pricecheck.watchlist import parse_asin

    market = market or settings.config.prices.domain.market
    wanted = list(dict.fromkeys(parse_asin(asin) for asin in asins))
    watches = _watches(settings, market, wanted)
    cost = math.ceil(sum(settings.config.costs.check(watch.extras) for watch in watches))
    if cost > _UNASKED and not yes:
        click.confirm(f"This costs about {cost:,} tokens. Go on?", abort=True, err=True)
    key = settings.api_key()
    with _outbox(settings) as outbox:
        checked = _run(settings, key, watches, outbox)
    say_simulated(settings)
    prices = [lesson.price for lesson in checked.lessons.values() if lesson.price]
    _show(market, prices, as_json=as_json)
    for letter in checked.set_aside:
        click.echo(f"{letter.key}: Keepa's answer can't be read: {letter.reason}", err=True)
    for asin, lesson in checked.lessons.items():
        if lesson.price is None:
            click.echo(f"{asin}: {lesson.known.absent} on amazon.{market.tld}", err=True)
    if not prices:
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


def _run(settings: Settings, key: str, watches: list[Watch], outbox: Outbox) -> Checked:
    """Check the products, with a progress bar where somebody watches."""
    import trio
    from rich.console import Console
    from rich.progress import Progress

    from pricecheck import logs
    from pricecheck.clock import clock_of
    from pricecheck.collect.once import check_once

    logs.setup("WARNING")
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("asking Keepa", total=len(watches))

        def tell(done: int, waits_for: str) -> None:
            progress.update(bar, completed=done, description=waits_for or "asking Keepa")
            if waits_for and not console.is_terminal:
                click.echo(waits_for, err=True)

        check = partial(check_once, settings, key, watches, outbox, tell)
        return trio.run(check, clock=clock_of(settings.config.time))


def _watches(settings: Settings, market: Marketplace, asins: list[str]) -> list[Watch]:
    """Return the watchlist's lines of the products, made up for those that it does not hold."""
    from pricecheck import watchlist
    from pricecheck.errors import ConfigError
    from pricecheck.watched import listed

    prices = settings.config.prices
    try:
        watches = listed(settings).watches
    except ConfigError:
        watches = ()
    wanted = set(asins)
    known = {w.asin: w for w in watches if w.asin in wanted and w.domain == market.code}
    return [
        known.get(asin)
        or watchlist.Watch(asin, market.code, prices.weight, None, prices.every, prices.extras)
        for asin in asins
    ]


def _show(market: Marketplace, prices: list[Price], *, as_json: bool) -> None:
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(prices), indent=2))
    elif prices:
        _show_table(market, prices)


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
