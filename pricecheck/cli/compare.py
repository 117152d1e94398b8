"""`pricecheck compare`: the same product in several marketplaces, side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from pricecheck.cli._format import amount, percent, print_table
from pricecheck.cli._options import (
    check_price_type,
    config_option,
    json_option,
    say_simulated,
    stored,
)

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.exchange import Rates
    from pricecheck.outbox import Outbox
    from pricecheck.records import Price

_OFFER: Final = ("domain", "price", "currency", "converted", "percent", "checked_at")
"""What is told of a product in one marketplace; `percent` is against the cheapest."""


@click.command()
@click.argument("asin", required=False)
@config_option
@click.option("--type", "price_type", default="NEW", show_default=True, metavar="NAME")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many.")
@json_option
def command(
    settings: Settings, asin: str | None, price_type: str, limit: int, as_json: bool
) -> None:
    """Compare what a product costs in several marketplaces.

    Without an ASIN: all products that were ever checked in more than one, the widest spread first.
    Prices are compared in the currency of the config's own marketplace, by the rates of its
    section exchange. Reads the outbox and costs no tokens.
    """
    import msgspec

    from pricecheck.errors import InputError
    from pricecheck.exchange import read_rates
    from pricecheck.watchlist import parse_asin

    price_type = check_price_type(price_type)
    asins = [parse_asin(asin)] if asin else None
    rates = read_rates(settings)
    with stored(settings) as outbox:
        rows = [
            row
            for each in asins or _in_several(outbox)
            if (row := _compared(outbox, each, price_type, rates, settings)) is not None
        ]
    if asin and not rows:
        raise InputError(
            f"no price {price_type} of {asin} is stored",
            remedy=f"`pricecheck check {asin}` asks Keepa now",
        )
    say_simulated(settings)
    rows.sort(key=lambda row: -(row["spread_percent"] or 0))
    rows = rows[:limit]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
    elif not rows:
        click.echo("No product has been checked in several marketplaces.", err=True)
    elif asin:
        _print_one(rows[0])
    else:
        _print_many(rows)
    if any(offer["converted"] is None for row in rows for offer in row["offers"]):
        click.echo("Rates are missing: set exchange.url or exchange.rates in the config.", err=True)
    elif rates.day is not None:
        click.echo(f"Rates of the European Central Bank of {rates.day}.", err=True)


def _in_several(outbox: Outbox) -> Iterator[str]:
    """Yield the products that have been checked in more than one marketplace."""
    seen: dict[str, int] = defaultdict(int)
    for _, asin, _ in outbox.checked_at():
        seen[asin] += 1
    return (asin for asin, count in seen.items() if count > 1)


def _compared(
    outbox: Outbox, asin: str, price_type: str, rates: Rates, settings: Settings
) -> dict[str, Any] | None:
    """Return what a product costs where; None when no marketplace offers it."""
    import msgspec

    from pricecheck.keepa.tables import BY_CODE
    from pricecheck.outbox import lookup
    from pricecheck.records import Price

    home = settings.config.prices.domain.market
    prices = [msgspec.json.decode(body, type=Price) for body in lookup.latest_prices(outbox, asin)]
    offers = [
        (price, whole, rates.convert(whole, BY_CODE[price.domain], home))
        for price in prices
        if (whole := price.prices.get(price_type)) is not None
    ]
    if not offers:
        return None
    known = [converted for _, _, converted in offers if converted is not None]
    least = min(known, default=0)
    offers.sort(key=lambda offer: (offer[2] is None, offer[2], offer[0].domain))
    return {
        "asin": asin,
        "title": next((price.title for price in prices if price.title), None),
        "price_type": price_type,
        "currency": home.currency,
        "spread_percent": _above(max(known), least) if len(known) > 1 else None,
        "offers": [
            dict(zip(_OFFER, _offer(price, whole, converted, least), strict=True))
            for price, whole, converted in offers
        ],
    }


def _offer(price: Price, whole: int, converted: int | None, least: int) -> tuple[Any, ...]:
    above = None if converted is None else _above(converted, least)
    return price.domain, whole, price.currency, converted, above, price.timestamp


def _above(price: int, least: int) -> float | None:
    return round((price / least - 1) * 100, 1) if least else None


def _print_one(row: dict[str, Any]) -> None:
    click.echo(f"{row['asin']} {row['title'] or ''}")
    print_table(
        ("Market", "Price", "", f"In {row['currency']}", "Above the cheapest", "Checked (UTC)"),
        [
            (
                offer["domain"],
                amount(offer["price"], offer["currency"]),
                offer["currency"],
                amount(offer["converted"], row["currency"]),
                percent(offer["percent"]) if offer["percent"] else "-",
                offer["checked_at"][:16].replace("T", " "),
            )
            for offer in row["offers"]
        ],
    )


def _print_many(rows: list[dict[str, Any]]) -> None:
    print_table(
        ("ASIN", "Title", f"Cheapest in {rows[0]['currency']}", "Dearest", "Spread"),
        [
            (
                row["asin"],
                row["title"] or "",
                _place(row, 0),
                _place(row, -1),
                percent(row["spread_percent"]) or "-",
            )
            for row in rows
        ],
    )


def _place(row: dict[str, Any], which: int) -> str:
    known = [offer for offer in row["offers"] if offer["converted"] is not None]
    if len(known) < 2:
        return "-"
    offer = known[which]
    return f"{amount(offer['converted'], row['currency'])} {offer['domain']}"
