"""`pricecheck watch list` and `export`: what is watched, and what is known of it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from pricecheck.cli._format import amount, percent, print_table
from pricecheck.cli._options import (
    config_option,
    domain_option,
    json_option,
    say_simulated,
    stored,
)
from pricecheck.durations import format_duration

if TYPE_CHECKING:
    from pricecheck.config import Costs, Settings
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.records import Change, Price
    from pricecheck.watchlist import Watch

_SORTS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "file": lambda row: 0,
    "asin": lambda row: (row["asin"], row["domain"]),
    "title": lambda row: _last(row["title"] and row["title"].lower()),
    "price": lambda row: _last(row["current_price"]),
    "change": lambda row: _last(row["price_change_percent"]),
    "checked": lambda row: _last(row["checked_at"]),
    "next": lambda row: row["next_check_by"] or "",
}
"""What rows are sorted by; what is not known comes last, and a product never checked is due."""


@click.command("list")
@config_option
@domain_option
@click.option("--filter", "text", default="", help="Only with this in title or ASIN.")
@click.option("--on-target", is_flag=True, help="Only at or below their target price.")
@click.option("--unchecked", is_flag=True, help="Only those never checked.")
@click.option("--sort", type=click.Choice(list(_SORTS)), default="file", show_default=True)
@click.option("--reverse", is_flag=True, help="Sort the other way round.")
@click.option("--limit", type=click.IntRange(1), help="So many at most.  [default: all]")
@json_option
def list_(
    settings: Settings,
    market: Marketplace | None,
    text: str,
    on_target: bool,
    unchecked: bool,
    sort: str,
    reverse: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """List what is watched: the last price, its last change, the next check, and its tokens.

    Reads watchlist and outbox, and costs no tokens. The next check comes by that time when the
    daemon runs and tokens suffice, often before.
    """
    import msgspec

    wanted = [
        row
        for row in _rows(settings, market)
        if text.lower() in f"{row['asin']} {row['title'] or ''}".lower()
        and (not unchecked or row["checked_at"] is None)
        and (not on_target or _is_on_target(row))
    ]
    found = sorted(wanted, key=_SORTS[sort])
    found = (found[::-1] if reverse else found)[:limit]
    say_simulated(settings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif found:
        _show(found, settings.config.time.now_ms())
        click.echo(f"{len(found):,} of {len(wanted):,} products")
    else:
        click.echo("No such product is watched.", err=True)


@click.command()
@config_option
def export(settings: Settings) -> None:
    """Print the watchlist as CSV, with every blank filled in."""
    from pricecheck.watchfile import written
    from pricecheck.watchlist import COLUMNS

    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(written(watch) for watch in _watches(settings))


def _watches(settings: Settings) -> tuple[Watch, ...]:
    """Read the watchlist; bad lines are told on standard error."""
    from pricecheck.watched import watched

    found = watched(settings)
    for line in found.bad:
        click.echo(f"{settings.watchlist}: line {line.line}: {line.reason}", err=True)
    return found.watches


def _rows(settings: Settings, market: Marketplace | None) -> list[dict[str, Any]]:
    """Return a row of each watched product, in the order of the watchlist."""
    import msgspec

    from pricecheck.collect.products import recall
    from pricecheck.errors import NoStoreError
    from pricecheck.outbox import lookup
    from pricecheck.records import Change, Price
    from pricecheck.watched import accepted

    costs = settings.config.costs
    brought = {(one.domain, one.asin): one.rule for one in accepted(settings)}
    watches = [
        watch for watch in _watches(settings) if market is None or watch.domain == market.code
    ]
    read_price, read_change = msgspec.json.Decoder(Price), msgspec.json.Decoder(Change)
    try:
        with stored(settings) as outbox:
            checked = {(domain, asin): at_ms for domain, asin, at_ms in outbox.checked_at()}
            rows = []
            for watch in watches:
                domain, asin = watch.domain, watch.asin
                at_ms = checked.get((domain, asin))
                bodies = lookup.latest_prices(outbox, asin, domain=domain) if at_ms else []
                price = read_price.decode(bodies[0]) if bodies else None
                shown = "AMAZON" if price and "NEW" not in price.prices else "NEW"
                body = lookup.last_change(outbox, domain, asin, shown) if price else None
                change = read_change.decode(body) if body else None
                row = _row(watch, costs, at_ms, price, change, brought.get((domain, asin)))
                if at_ms and not price:
                    known = recall(outbox.states(domain, [asin]).get(asin))
                    row["absent"] = known.absent if known else None
                rows.append(row)
            return rows
    except NoStoreError as error:
        click.echo(f"Nothing is known of their prices: {error}", err=True)
        return [_row(watch, costs) for watch in watches]


def _row(
    watch: Watch,
    costs: Costs,
    checked_ms: int | None = None,
    price: Price | None = None,
    change: Change | None = None,
    rule: str | None = None,
) -> dict[str, Any]:
    from pricecheck.keepa.tables import BY_CODE
    from pricecheck.keepa.time import to_rfc3339

    # Both planners check a product after `every` at the latest, and only they know how much before.
    next_ms = None if checked_ms is None else checked_ms + watch.every_s * 1000
    return {
        "asin": watch.asin,
        "domain": watch.domain,
        "currency": BY_CODE[watch.domain].currency,
        "title": price.title if price else None,
        "absent": None,
        "current_price": price.current_price if price else None,
        "price_change_percent": change.change_percent if change else None,
        "price_changed_at": change.changed_at if change else None,
        "target_price": watch.target_price,
        "weight": watch.weight,
        "every_s": int(watch.every_s),  # which is a Duration, where it is the default
        "buybox": watch.extras.buybox,
        "offers": watch.extras.offers,
        "update": watch.extras.update,
        "tokens": costs.check(watch.extras),
        "discovered_by": rule,
        "checked_at": None if checked_ms is None else to_rfc3339(checked_ms),
        "next_check_by": None if next_ms is None else to_rfc3339(next_ms),
    }


def _is_on_target(row: dict[str, Any]) -> bool:
    price, target = row["current_price"], row["target_price"]
    return price is not None and target is not None and price <= target


def _last(value: Any) -> tuple[bool, Any]:
    return (value is None, value if value is not None else 0)


def _minutes_ahead(when: str, now_ms: int) -> int:
    return round(datetime.fromisoformat(when).timestamp() / 60 - now_ms / 60_000)


def _ago(when: str | None, now_ms: int) -> str:
    """Write a time in the past, to the minute: `2h5m ago`."""
    if when is None:
        return "never"
    return f"{format_duration(max(0, -_minutes_ahead(when, now_ms)) * 60)} ago"


def _ahead(when: str | None, now_ms: int) -> str:
    """Write a time to come, to the minute: `in 40m`; what should have been is due."""
    minutes = _minutes_ahead(when, now_ms) if when else 0
    return f"in {format_duration(minutes * 60)}" if minutes > 0 else "due"


def _show(rows: list[dict[str, Any]], now_ms: int) -> None:
    table = [
        (
            row["domain"],
            row["asin"],
            row["title"] or (f"({row['absent']})" if row["absent"] else ""),
            amount(row["current_price"], row["currency"]),
            percent(row["price_change_percent"]),
            amount(row["target_price"], row["currency"]),
            _ago(row["checked_at"], now_ms),
            _ahead(row["next_check_by"], now_ms),
            f"{row['tokens']:g}",
            row["discovered_by"] or "",
        )
        for row in rows
    ]
    headers = ("Market", "ASIN", "Title", "Price", "Change", "Target", "Checked", "Next by")
    print_table((*headers, "Tokens", "Rule"), table)
