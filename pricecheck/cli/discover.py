"""`pricecheck discover`: the products that discovery found, to be accepted or rejected."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

from pricecheck.cli._format import amount, print_table
from pricecheck.cli._options import (
    config_option,
    domain_option,
    json_option,
    say_simulated,
    stored,
    writable,
)

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.outbox import Candidate, CandidateState, Outbox

_DAY_S: Final = 86_400


@click.group("discover", invoke_without_command=True)
@config_option
@click.option("--rule", help="Only of this [[discovery]] rule.")
@click.option("--refused", is_flag=True, help="Those that do not fit or were rejected, and why.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="So many.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    settings: Settings,
    rule: str | None,
    refused: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the products that were found, by [[discovery]] rules, and wait to be accepted.

    Reads the outbox, costs no tokens, and needs no running daemon. What is accepted is watched
    beside watchlist.csv, which stays as it is; `pricecheck watch remove` ends that.
    """
    if context.invoked_subcommand is not None:
        if rule or refused:
            raise click.UsageError(f"Write options behind {context.invoked_subcommand}.")
        return
    import msgspec

    with stored(settings) as outbox:
        _check_rule(settings, outbox, rule)
        found = _refused(outbox, rule) if refused else _waiting(settings, outbox, rule)
        undecided = outbox.candidate_counts(rule)["found"]
    rows = [_row(settings, one) for one in found[:limit]]
    say_simulated(settings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    _show(rows)
    more = f"; {undecided:,} more are to be looked at" if undecided else ""
    click.echo(f"{len(rows):,} of {len(found):,} candidates{more}")
    if found and not refused:
        tokens = sum(_row(settings, one)["tokens_a_day"] for one in found)
        click.echo(
            f"All of them cost {tokens:,.0f} tokens a day to watch, each checked as often as it "
            "asks for.\n`pricecheck discover accept --all` takes them, or name some."
        )


@command.command()
@click.argument("products", metavar="ASIN...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that wait, up to each rule's `most`.")
@click.option("--rule", help="With --all: only of this rule.")
@config_option
@domain_option
def accept(
    settings: Settings,
    products: tuple[str, ...],
    everything: bool,
    rule: str | None,
    market: Marketplace | None,
) -> None:
    """Watch candidates from now on. A named one may be one that did not fit."""
    _check_choice(products, rule, everything=everything)
    with writable(settings) as outbox:
        _check_rule(settings, outbox, rule)
        if everything:
            chosen = _up_to_most(settings, outbox, rule, market)
        else:
            chosen = _named(outbox, products, market)
        _decide(settings, outbox, chosen, "accepted")
    tokens = sum(_row(settings, one)["tokens_a_day"] for one in chosen)
    click.echo(f"{len(chosen):,} products are watched, for {tokens:,.0f} tokens a day")
    _tell(settings, chosen)


@command.command()
@click.argument("products", metavar="ASIN...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--rule", help="With --all: only of this rule.")
@config_option
@domain_option
def reject(
    settings: Settings,
    products: tuple[str, ...],
    everything: bool,
    rule: str | None,
    market: Marketplace | None,
) -> None:
    """Let candidates not be found again."""
    _check_choice(products, rule, everything=everything)
    with writable(settings) as outbox:
        _check_rule(settings, outbox, rule)
        if everything:
            chosen = _of_market(_waiting(settings, outbox, rule), market)
        else:
            chosen = _named(outbox, products, market)
        _decide(settings, outbox, chosen, "rejected")
    click.echo(f"{len(chosen):,} candidates are rejected")
    _tell(settings, chosen)


def _check_choice(products: tuple[str, ...], rule: str | None, *, everything: bool) -> None:
    if everything == bool(products):
        raise click.UsageError("Name ASINs, or --all; one of both.")
    if rule and not everything:
        raise click.UsageError("--rule goes with --all.")


def _check_rule(settings: Settings, outbox: Outbox, rule: str | None) -> None:
    """Raise InputError for a rule that is not in the config and never found anything."""
    from pricecheck.errors import InputError

    names = [each.name for each in settings.config.discovery]
    if rule and rule not in names and not any(outbox.candidate_counts(rule).values()):
        there = ", ".join(names) or "none"
        raise InputError(f"{rule!r} is no [[discovery]] rule", remedy=f"the config has {there}")


def _waiting(settings: Settings, outbox: Outbox, rule: str | None) -> list[Candidate]:
    """Return what waits and is not watched meanwhile, each product once."""
    from pricecheck.watched import watched

    there = {(watch.domain, watch.asin) for watch in watched(settings).watches}
    found: dict[tuple[str, str], Candidate] = {}
    for one in outbox.candidates("waiting", rule=rule):
        if (one.domain, one.asin) not in there:
            found.setdefault((one.domain, one.asin), one)
    return list(found.values())


def _refused(outbox: Outbox, rule: str | None) -> list[Candidate]:
    return [*outbox.candidates("rejected", rule=rule), *outbox.candidates("unfit", rule=rule)]


def _up_to_most(
    settings: Settings, outbox: Outbox, rule: str | None, market: Marketplace | None
) -> list[Candidate]:
    """Return what waits, of each rule no more than it may have on the watchlist."""
    room = Counter({each.name: each.most for each in settings.config.discovery})
    room.subtract(one.rule for one in outbox.candidates("accepted"))
    chosen = []
    waiting = _of_market(_waiting(settings, outbox, rule), market)
    for one in waiting:
        if room[one.rule] > 0:
            room[one.rule] -= 1
            chosen.append(one)
    if len(chosen) < len(waiting):
        left = len(waiting) - len(chosen)
        click.echo(f"{left:,} go on waiting: their rules have their `most`", err=True)
    return chosen


def _of_market(found: list[Candidate], market: Marketplace | None) -> list[Candidate]:
    return [one for one in found if market is None or one.domain == market.code]


def _named(
    outbox: Outbox, products: tuple[str, ...], market: Marketplace | None
) -> list[Candidate]:
    """Return the candidates of these ASINs. Raises InputError when one is none, or not clear."""
    from pricecheck.errors import InputError
    from pricecheck.identify import identify

    states: tuple[CandidateState, ...] = ("waiting", "unfit", "found", "rejected")
    known: dict[str, dict[str, Candidate]] = {}
    for one in (one for state in states for one in outbox.candidates(state)):
        known.setdefault(one.asin, {}).setdefault(one.domain, one)
    chosen = []
    for text in products:
        asin, said = identify(text)
        of = _of_market(list(known.get(asin, {}).values()), said or market)
        if not of:
            raise InputError(
                f"{asin} does not wait to be decided upon",
                remedy="`pricecheck watch add` watches any product, `watch remove` ends that",
            )
        if len(of) > 1:
            there = ", ".join(one.domain for one in of)
            raise InputError(f"{asin} was found on {there}", remedy="name one with --domain")
        chosen += [one for one in of if one not in chosen]
    return chosen


def _decide(
    settings: Settings, outbox: Outbox, chosen: list[Candidate], state: CandidateState
) -> None:
    import msgspec

    now_ms = settings.config.time.now_ms()
    outbox.decide([msgspec.structs.replace(one, state=state, at_ms=now_ms) for one in chosen])


def _tell(settings: Settings, chosen: list[Candidate]) -> None:
    from pricecheck.cli._reload import reload_daemon

    if chosen:
        click.echo(reload_daemon(settings.socket_directory()))


def _row(settings: Settings, one: Candidate) -> dict[str, Any]:
    from pricecheck.collect.candidates import facts_of
    from pricecheck.collect.products import product_url
    from pricecheck.keepa.tables import BY_CODE
    from pricecheck.keepa.time import to_rfc3339

    market, facts, config = BY_CODE[one.domain], facts_of(one), settings.config
    return {
        "asin": one.asin,
        "domain": one.domain,
        "currency": market.currency,
        "title": facts.title,
        "price": facts.price,
        "rating": facts.rating,
        "reviews": facts.reviews,
        "brand": facts.brand,
        "rule": one.rule,
        "state": one.state,
        "reason": facts.reason or ("rejected" if one.state == "rejected" else None),
        "at": to_rfc3339(one.at_ms),
        "tokens_a_day": config.costs.check(config.prices.extras) * _DAY_S / config.prices.every,
        "url": product_url(market, one.asin),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = [
        (
            row["domain"],
            row["asin"],
            row["title"] or "",
            amount(row["price"], row["currency"]),
            f"{row['rating']:.1f}" if row["rating"] is not None else "-",
            f"{row['reviews']:,}" if row["reviews"] is not None else "-",
            row["rule"],
            row["reason"] or "",
        )
        for row in rows
    ]
    if table:
        print_table(
            ("Market", "ASIN", "Title", "Price", "Stars", "Reviews", "Rule", "Reason"), table
        )
