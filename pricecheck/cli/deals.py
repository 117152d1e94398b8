"""`pricecheck deals`: the deals collected, from the outbox."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal

import click

from pricecheck.cli._format import amount, print_table
from pricecheck.cli._options import (
    DURATION,
    Figure,
    config_option,
    domain_option,
    json_option,
    say_simulated,
    stored,
)

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.records import Deal

_LOOKED_AT: Final = 10_000


@click.command()
@config_option
@domain_option
@click.option(
    "--within",
    type=DURATION,
    default="1d",
    show_default=True,
    help="Seen within this time: 6h, 2d.",
)
@click.option("--min-discount", type=click.IntRange(0, 100), default=0, help="In per cent.")
@click.option("--max-price", type=Figure(0), help="In the marketplace's currency.")
@click.option("--min-score", type=Figure(0, 100), default=0.0, help="0 to 100.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option("--report", is_flag=True, help="As a report, each product once.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "html"]),
    help="Of the report.  [default: markdown]",
)
@click.option("--send", is_flag=True, help="Send the report to the services of [notify].")
@json_option
def command(
    settings: Settings,
    market: Marketplace | None,
    within: int,
    min_discount: int,
    max_price: float | None,
    min_score: float,
    limit: int,
    report: bool,
    form: Literal["markdown", "html"] | None,
    send: bool,
    as_json: bool,
) -> None:
    """Show the deals last collected, the best score first.

    The score is 50 points for the discount, 20 for the stars, 20 for the number of reviews and
    10 for the sales rank. Reads the outbox and costs no tokens.
    """
    import msgspec

    from pricecheck.keepa.tables import BY_CODE
    from pricecheck.keepa.time import to_rfc3339

    if as_json and (report or send):
        raise click.UsageError("--json or a report, not both.")
    if form and not (report or send):
        raise click.UsageError("--format is of a report: add --report or --send.")
    since = to_rfc3339(settings.config.time.now_ms() // 1000 * 1000 - within * 1000)
    found = [
        deal
        for deal in _newest(settings, market)
        if deal.timestamp >= since
        and (deal.discount_percent or 0) >= min_discount
        and deal.deal_score >= min_score
        and (
            max_price is None
            or (deal.current_price or 0) <= max_price * 10 ** BY_CODE[deal.domain].minor_digits
        )
    ]
    if report or send:
        _report(settings, found, limit, form or "markdown", send=send)
        return
    best = sorted(found, key=attrgetter("deal_score"), reverse=True)[:limit]
    say_simulated(settings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(best), indent=2))
    elif best:
        _show(best)
        click.echo(f"{len(best)} of {len(found)} deals")
    else:
        click.echo("No such deal is stored. Rules for deals are [[deals]] in the config.", err=True)


def _newest(settings: Settings, market: Marketplace | None) -> list[Deal]:
    """Return the newest state of each deal, one a product and price type."""
    import msgspec

    from pricecheck.outbox import lookup
    from pricecheck.records import Deal

    decoder = msgspec.json.Decoder(Deal)
    with stored(settings) as outbox:
        bodies = lookup.latest(
            outbox, "deal", limit=_LOOKED_AT, domain=market.code if market else None
        )
    deals: dict[tuple[str, str, str], Deal] = {}
    for body in bodies:
        deal = decoder.decode(body)
        deals.setdefault((deal.domain, deal.asin, deal.price_type), deal)
    return list(deals.values())


def _report(
    settings: Settings,
    found: list[Deal],
    limit: int,
    form: Literal["markdown", "html"],
    *,
    send: bool,
) -> None:
    """Print the best deals as a report, or send it."""
    from pricecheck.cli import _deals_report as reports
    from pricecheck.cli._telling import tell_all
    from pricecheck.deliver.wording import Message
    from pricecheck.keepa.time import to_rfc3339

    config = settings.config
    language = config.notify.language if config.notify else "en"
    deals = reports.without_doubles(found)
    title = reports.title(
        to_rfc3339(config.time.now_ms())[:10], language, simulated=config.simulated
    )
    write = reports.html if form == "html" else reports.markdown
    body = write(deals[:limit], len(deals), language)
    if send:
        tell_all(settings, lambda _: Message(title, body), form)
    else:
        heading = f"<h1>{title}</h1>" if form == "html" else f"# {title}\n"
        click.echo(f"{heading}\n{body}")


def _show(deals: list[Deal]) -> None:
    rows = [
        (
            deal.domain,
            deal.asin,
            deal.title or "",
            f"{deal.deal_score:.0f}",
            "-" if deal.discount_percent is None else f"{deal.discount_percent} %",
            amount(deal.current_price, deal.currency),
            amount(deal.original_price, deal.currency),
            "-" if deal.rating is None else f"{deal.rating:.1f}",
            "-" if deal.review_count is None else f"{deal.review_count:,}",
        )
        for deal in deals
    ]
    headers = ("Market", "ASIN", "Title", "Score", "Off", "Now", "Usual", "Stars", "Reviews")
    print_table(headers, rows)
