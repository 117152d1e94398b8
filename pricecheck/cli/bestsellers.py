"""`pricecheck bestsellers`: the lists last collected, from the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._format import amount, print_table
from pricecheck.cli._options import (
    config_option,
    domain_option,
    json_option,
    say_simulated,
    stored,
)

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.outbox import Outbox
    from pricecheck.records import Bestsellers

_LOOKED_AT: Final = 1_000


@click.command()
@config_option
@domain_option
@click.option("--category", metavar="ID", help="Only this browse node or product group.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@json_option
def command(
    settings: Settings,
    market: Marketplace | None,
    category: str | None,
    top: int,
    as_json: bool,
) -> None:
    """Show the best sellers last collected, the best first, one list a category.

    Titles and prices are those of watched products. Reads the outbox and costs no tokens.
    """
    import msgspec

    with stored(settings) as outbox:
        lists = [
            msgspec.structs.replace(found, asins=found.asins[:top])
            for found in _newest(outbox, market)
            if category in (None, found.category)
        ]
        say_simulated(settings)
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(lists), indent=2))
        for found in () if as_json else lists:
            click.secho(
                f"{found.domain} {found.category}, {found.observed_at}, "
                f"{len(found.asins)} of {found.total:,}",
                bold=True,
            )
            _show(outbox, found)
    if not lists and not as_json:
        click.echo("No such list is stored. Rules are [[bestsellers]] in the config.", err=True)


def _newest(outbox: Outbox, market: Marketplace | None) -> list[Bestsellers]:
    """Return the newest list of each category."""
    import msgspec

    from pricecheck.outbox import lookup
    from pricecheck.records import Bestsellers

    decoder = msgspec.json.Decoder(Bestsellers)
    lists: dict[tuple[str, str], Bestsellers] = {}
    domain = market.code if market else None
    for body in lookup.latest(outbox, "bestseller", limit=_LOOKED_AT, domain=domain):
        found = decoder.decode(body)
        lists.setdefault((found.domain, found.category), found)
    return [lists[key] for key in sorted(lists)]


def _show(outbox: Outbox, found: Bestsellers) -> None:
    import msgspec

    from pricecheck.outbox import lookup
    from pricecheck.records import Price

    rows = []
    for place, asin in enumerate(found.asins, start=1):
        known = lookup.latest_prices(outbox, asin, domain=found.domain)
        price = msgspec.json.decode(known[0], type=Price) if known else None
        rows.append(
            (
                f"{place}",
                asin,
                (price.title or "") if price else "",
                amount(price.current_price, price.currency) if price else "-",
            )
        )
    print_table(("Place", "ASIN", "Title", "Price"), rows)
