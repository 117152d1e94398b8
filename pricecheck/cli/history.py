"""`pricecheck history`: a product's price changes, from the outbox."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._format import in_colour
from pricecheck.cli._options import (
    DURATION,
    check_price_type,
    config_option,
    domain_option,
    json_option,
    say_simulated,
    stored,
)

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.records import Change

_PLOTTED: Final[tuple[str, ...]] = ("NEW", "AMAZON", "USED", "BUY_BOX_SHIPPING")
_WIDEST: Final = 110
_HEIGHT: Final = 20
_FIELDS: Final = ("changed_at", "domain", "price_type", "old_price", "new_price", "currency")


@click.command()
@click.argument("asin")
@config_option
@domain_option
@click.option(
    "--since",
    type=DURATION,
    default="90d",
    show_default=True,
    help="How far back: 12h, 30d, 1d12h.",
)
@click.option("--type", "price_type", metavar="NAME", help="Only this price type: NEW, AMAZON ...")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, prices in the smallest unit.")
@json_option
def command(
    settings: Settings,
    asin: str,
    market: Marketplace | None,
    since: int,
    price_type: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Plot how a product's prices changed, one plot a marketplace.

    Reads the outbox and costs no tokens; the daemon need not run.
    """
    import msgspec

    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both.")
    if price_type is not None:
        price_type = check_price_type(price_type)
    changes = _changes(settings, asin, market, since, price_type)
    say_simulated(settings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(changes), indent=2))
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(_FIELDS)
        writer.writerows(attrgetter(*_FIELDS)(change) for change in changes)
    else:
        for _, some in groupby(changes, attrgetter("domain")):
            _plot(list(some), settings.config.time.now_ms() / 1000)


def _changes(
    settings: Settings,
    asin: str,
    market: Marketplace | None,
    since: int,
    price_type: str | None,
) -> list[Change]:
    """Return the changes asked for, by marketplace and time. Raises InputError when none is."""
    import msgspec

    from pricecheck.errors import InputError
    from pricecheck.outbox import lookup
    from pricecheck.records import Change
    from pricecheck.watchlist import parse_asin

    asin = parse_asin(asin)
    with stored(settings) as outbox:
        bodies = lookup.changes(
            outbox,
            asin,
            domain=market.code if market else None,
            since_ms=settings.config.time.now_ms() - since * 1000,
        )
    decoder = msgspec.json.Decoder(Change)
    changes = [decoder.decode(body) for body in bodies]
    if price_type is not None:
        changes = [change for change in changes if change.price_type == price_type]
    if not changes:
        raise InputError(
            f"no price change of {asin} is known for that time",
            remedy=f"`pricecheck check {asin}` asks Keepa now; the watchlist follows it",
        )
    return sorted(changes, key=attrgetter("domain", "changed_at"))


def _plot(changes: list[Change], now: float) -> None:
    """Plot each price type of one marketplace as steps, with gaps where there was no offer."""
    import plotext

    from pricecheck.keepa.tables import BY_CODE

    newest = changes[-1]
    market = BY_CODE[newest.domain]
    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(min(shutil.get_terminal_size().columns, _WIDEST), _HEIGHT)
    figure.title(f"{newest.asin} on amazon.{market.tld}, {market.currency}")
    figure.date().activate(form="%Y-%m-%d", origin=datetime.fromtimestamp(0, UTC))
    drawn = {change.price_type for change in changes}
    for name in [name for name in _PLOTTED if name in drawn] or sorted(drawn):
        label = name
        for times, prices in _steps([c for c in changes if c.price_type == name], now):
            major = [price / 10**market.minor_digits for price in prices]
            signal = figure.signal(times, major, marker="braille").lines()
            figure.draw(signal.label(label) if label else signal)
            label = ""  # the legend names a type once, whatever its gaps
    figure.legend()
    figure.show(colorless=not in_colour())
    click.echo(newest.title or "")


def _steps(changes: list[Change], now: float) -> Iterator[tuple[list[float], list[int]]]:
    """Yield the times on offer as step functions: Unix times, and the prices at them."""
    times: list[float] = []
    prices: list[int] = []
    price: int | None = None
    for at, new in [(_unix(change), change.new_price) for change in changes] + [(now, None)]:
        if price is not None:
            times.append(at)
            prices.append(price)
        if new is not None:
            times.append(at)
            prices.append(new)
        elif times:
            yield times, prices
            times, prices = [], []
        price = new


def _unix(change: Change) -> float:
    return datetime.fromisoformat(change.changed_at).timestamp()
