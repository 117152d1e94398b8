"""`pricecheck watch`: the watchlist, from the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import KeysView, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._options import config_option, domain_option, writable
from pricecheck.cli._watched import export, list_

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.importing import Item
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.outbox import Candidate
    from pricecheck.watchfile import Product, WatchFile
    from pricecheck.watchlist import Watch

_SHOWN: Final = 10


@click.group("watch")
def command() -> None:
    """Look at the watchlist, and change it.

    Changes keep the file's comments, order and columns. A running daemon is told to read it anew.
    """


@command.command()
@click.argument("products", metavar="ASIN|URL...", nargs=-1, required=True)
@config_option
@domain_option
@click.option("--target", metavar="PRICE", help="In the marketplace's currency: 49.99.")
@click.option("--weight", metavar="NUMBER", help="How much it matters beside others; usual is 1.")
@click.option("--every", metavar="TIME", help="How often it is checked: 6h, 1d.")
@click.option("--buybox", metavar="YES|NO", help="Ask for the buy box; usual: +2 tokens a check.")
@click.option(
    "--offers", metavar="NUMBER", help="Ask for so many offers, 20 to 100: +6 for each 10."
)
@click.option("--update", metavar="HOURS", help="Have Keepa refresh it if older; 0 is live: +1.")
@click.option("--skip-bad", is_flag=True, help="Add the others when one can't be read.")
def add(
    settings: Settings,
    products: tuple[str, ...],
    market: Marketplace | None,
    target: str | None,
    weight: str | None,
    every: str | None,
    buybox: str | None,
    offers: str | None,
    update: str | None,
    skip_bad: bool,
) -> None:
    """Watch products: ASINs, ISBNs, or addresses of their pages at Amazon or Keepa.

    The address tells the marketplace; an ISBN-13 becomes the ISBN-10 that is the book's ASIN.
    Of a product that is watched already, the options given are changed.
    """
    from pricecheck import watchfile
    from pricecheck.errors import InputError
    from pricecheck.watchlist import COLUMNS

    options = {"target_price": target, "weight": weight, "every": every}
    options |= {"buybox": buybox, "offers": offers, "update": update}
    given = {"domain", *(name for name, text in options.items() if text)}
    wanted: list[tuple[Watch, set[str]]] = []
    bad: list[str] = []
    for text in products:
        try:
            asin, code = _product(text, market)
            watch = _watch(settings, asin, code, options)
            wanted.append((watch, given if code else given - {"domain"}))
        except InputError as error:
            bad.append(str(error))
    _stop_at_bad(bad, skip_bad=skip_bad)
    with watchfile.editing(settings.watchlist, domain=settings.config.prices.domain) as file:
        rows: dict[tuple[str, str], tuple[str, ...]] = {}
        changes: dict[int, dict[str, str]] = {}
        for watch, columns in wanted:
            cells = watchfile.cells_of(file, watch, columns)
            line = file.first.get((watch.domain, watch.asin))
            if line is None:
                rows[watch.domain, watch.asin] = cells
                continue
            told = columns - {"domain"}
            change = {name: cell for name, cell in zip(COLUMNS, cells, strict=True) if name in told}
            if change:
                changes[line] = change
            became = " ".join(f"{name}={cell}" for name, cell in change.items()) or "stays as it is"
            click.echo(f"{watch.domain} {watch.asin}, watched on line {line}: {became}")
        watchfile.replace(file, watchfile.edited(file, rows.values(), changes))
    extras = {(watch.domain, watch.asin): watch.extras for watch, _ in wanted}
    for domain, asin in rows:
        tokens = settings.config.costs.check(extras[domain, asin])
        click.echo(f"{domain} {asin} is watched, for {tokens:g} token{'s' * (tokens != 1)} a check")
    _finish(settings, changed=bool(rows or changes), bad=bool(bad))


@command.command()
@click.argument("products", metavar="ASIN|URL...", nargs=-1, required=True)
@config_option
@domain_option
@click.option("--everywhere", is_flag=True, help="On every marketplace where it is watched.")
@click.option("--skip-bad", is_flag=True, help="Remove the others when one is not watched.")
def remove(
    settings: Settings,
    products: tuple[str, ...],
    market: Marketplace | None,
    everywhere: bool,
    skip_bad: bool,
) -> None:
    """Watch products no longer, and let discovery not bring them again.

    What is known of them stays in the outbox.
    """
    from pricecheck import watchfile
    from pricecheck.errors import InputError, StoreError
    from pricecheck.watched import accepted

    if market and everywhere:
        raise click.UsageError("--domain or --everywhere, not both.")
    bad: list[str] = []
    gone: dict[tuple[str, str], None] = {}
    discovered: dict[Product, Candidate] = {}
    try:
        discovered = {(one.domain, one.asin): one for one in accepted(settings)}
    except StoreError:
        if settings.config.discovery:
            raise
    with watchfile.editing(settings.watchlist, domain=settings.config.prices.domain) as file:
        for text in products:
            try:
                asin, code = _product(text, market)
                domains = [*file.domains(asin), *(d for d, found in discovered if found == asin)]
                there = list(dict.fromkeys(domains))
                gone |= dict.fromkeys(_watched(there, asin, code, everywhere=everywhere))
            except InputError as error:
                bad.append(str(error))
        _stop_at_bad(bad, skip_bad=skip_bad)
        _reject(settings, gone.keys(), discovered)
        watchfile.replace(file, watchfile.removed(file, gone))
    for domain, asin in gone:
        click.echo(f"{domain} {asin} is watched no longer")
    _finish(settings, changed=bool(gone), bad=bool(bad))


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@domain_option
@click.option("--yes", is_flag=True, help="Do it: add what can be read. Otherwise it is only told.")
def import_(settings: Settings, file: Path, market: Marketplace | None, yes: bool) -> None:
    """Watch the products of a list: tell what would be added, and with --yes add it.

    FILE is a CSV with a column asin or url (ours, Excel's, a Keepa export) or plain ASINs, ISBNs
    and addresses, one a line. --domain is for lines that name no marketplace. Lines that can't be
    read are told with the reason and skipped; the exit code is 65 then.
    """
    from pricecheck import importing, watchfile

    listed = importing.read(file, _default(settings, market.code if market else None))
    domain, costs = settings.config.prices.domain, settings.config.costs
    with watchfile.editing(settings.watchlist, domain=domain) as watched:
        new = [
            item
            for item in listed.items
            if (item.watch.domain, item.watch.asin) not in watched.first
        ]
        usual = watchfile.written(_default(settings))
        rows = [
            watchfile.cells_of(watched, item.watch, _said(item, watched, usual)) for item in new
        ]
        if yes:
            watchfile.replace(watched, watchfile.edited(watched, rows))
    for line in listed.bad:
        click.echo(f"{file}: line {line.line}: {line.reason}", err=True)
    if listed.ignored:
        click.echo(f"Columns that say nothing here: {', '.join(listed.ignored)}", err=True)
    click.echo(
        f"{len(rows):,} {'added' if yes else 'would be added'}, "
        f"{len(listed.items) - len(new):,} watched already, "
        f"{listed.repeated:,} repeated, {len(listed.bad):,} refused"
    )
    if rows:
        needs = sum(costs.check(item.watch.extras) * 86_400 / item.watch.every_s for item in new)
        click.echo(f"They cost {needs:,.0f} tokens a day, each checked as often as it asks for.")
    if not yes:
        _show_some(rows)
        click.echo("Nothing is changed yet: --yes does it.")
    _finish(settings, changed=yes and bool(rows), bad=bool(listed.bad))


command.add_command(list_)
command.add_command(export)


def _product(text: str, market: Marketplace | None) -> tuple[str, str | None]:
    """Return ASIN and marketplace of what was written; None where neither it nor --domain says."""
    from pricecheck.errors import InputError
    from pricecheck.identify import identify

    asin, found = identify(text)
    if found and market and found != market:
        raise InputError(
            f"{text!r} is on amazon.{found.tld}, but --domain says {market.code}",
            remedy="leave --domain out",
        )
    found = found or market
    return asin, found.code if found else None


def _default(settings: Settings, code: str | None = None) -> Watch:
    """Return the line that blanks are filled in from."""
    from pricecheck.watchlist import Watch

    prices = settings.config.prices
    return Watch("", code or prices.domain, prices.weight, None, prices.every, prices.extras)


def _said(item: Item, file: WatchFile, usual: Mapping[str, str]) -> frozenset[str]:
    """Return the columns to write of a list's product: what is as usual needs none of its own."""
    from pricecheck import watchfile

    cells = watchfile.written(item.watch)
    return frozenset(
        name for name in item.given if name in file.layout.columns or cells[name] != usual[name]
    )


def _watch(
    settings: Settings, asin: str, code: str | None, options: dict[str, str | None]
) -> Watch:
    """Read the options as the watchlist's reader will. Raises InputError for a bad one."""
    from pricecheck.importing import plain_price
    from pricecheck.keepa.tables import BY_CODE
    from pricecheck.watchlist import COLUMNS, parse_cells

    default = _default(settings, code)
    cells = {"asin": asin} | {name: text or "" for name, text in options.items()}
    if cells["target_price"]:
        cells["target_price"] = plain_price(cells["target_price"], BY_CODE[default.domain])
    return parse_cells([cells.get(name, "") for name in COLUMNS], default)


def _watched(
    domains: list[str], asin: str, code: str | None, *, everywhere: bool
) -> list[tuple[str, str]]:
    """Return the products meant by an ASIN that is watched on these marketplaces.

    Raises InputError when that is none, or not clear.
    """
    from pricecheck.errors import InputError

    if code is not None and not everywhere:
        domains = [domain for domain in domains if domain == code]
    if not domains:
        raise InputError(f"{f'{code} ' if code else ''}{asin} is not on the watchlist")
    if len(domains) > 1 and not everywhere:
        raise InputError(
            f"{asin} is watched on {', '.join(domains)}",
            remedy="name one with --domain, or all with --everywhere",
        )
    return [(domain, asin) for domain in domains]


def _reject(
    settings: Settings, products: KeysView[Product], discovered: Mapping[Product, Candidate]
) -> None:
    """Note that nobody wants these, where discovery knows them or may find them."""
    from pricecheck.errors import NoStoreError
    from pricecheck.outbox import Candidate

    if not (products & discovered.keys() or settings.config.discovery):
        return
    now_ms = settings.config.time.now_ms()
    rejected = []
    for domain, asin in products:
        known = discovered.get((domain, asin))
        rule, facts = (known.rule, known.body) if known else ("", b"{}")
        rejected.append(Candidate(domain, asin, rule, "rejected", now_ms, facts))
    with suppress(NoStoreError), writable(settings) as outbox:
        outbox.decide(rejected)


def _stop_at_bad(bad: list[str], *, skip_bad: bool) -> None:
    """Say what is bad, and end with nothing changed unless the rest is wanted all the same."""
    for reason in bad:
        click.echo(f"Error: {reason}", err=True)
    if bad and not skip_bad:
        click.echo("Nothing was changed; --skip-bad goes on with the others.", err=True)
        sys.exit(os.EX_DATAERR)


def _show_some(rows: list[tuple[str, ...]]) -> None:
    for cells in rows[:_SHOWN]:
        click.echo("  " + ",".join(cells).rstrip(","))
    if len(rows) > _SHOWN:
        click.echo(f"  and {len(rows) - _SHOWN:,} more")


def _finish(settings: Settings, *, changed: bool, bad: bool) -> None:
    """Let the daemon know of a change; end with a code that tells of what was bad."""
    from pricecheck.cli._reload import reload_daemon

    if changed:
        click.echo(reload_daemon(settings.socket_directory()))
    if bad:
        sys.exit(os.EX_DATAERR)
