"""`pricecheck config check`: whether all of it is right, and what it will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._options import find_config

if TYPE_CHECKING:
    from pricecheck.outbox import Candidate

_BAD_LINES_SHOWN: Final = 20


@click.group("config")
def command() -> None:
    """Look at the config."""


@command.command()
@click.argument("file", required=False)
@click.option("--strict", is_flag=True, help="Refuse a watchlist with bad lines.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing when all is right.")
@click.option("--no-key", is_flag=True, help="Look for no API key: a running daemon has one.")
def check(file: str | None, strict: bool, quiet: bool, no_key: bool) -> None:
    """Read config, watchlist and API key as `run` would, and say what they come to.

    FILE is a pricecheck.toml; without it the usual places are searched. Nothing is spent, and
    Keepa is not asked. Exits with 78 when `run` would refuse to start.
    """
    from pricecheck.daemon import read_plan
    from pricecheck.deliver.configured import configured_sinks
    from pricecheck.errors import StoreError
    from pricecheck.needs import discovery_a_day, most_for_prices, tokens_a_day
    from pricecheck.silence import silent_rules
    from pricecheck.status import socket_path
    from pricecheck.watched import accepted, with_discovered

    plan = read_plan(find_config(file), strict=strict, key="not looked for" if no_key else None)
    sinks = configured_sinks(plan.settings)
    socket_path(plan.settings.socket_directory())
    if quiet:
        return
    found: list[Candidate] = []
    try:
        found = accepted(plan.settings)
    except StoreError as error:
        click.echo(f"What discovery brought is not counted: {error}", err=True)
    watched = with_discovered(plan.watchlist, plan.settings, found)
    discovered = len(watched.watches) - len(plan.watchlist.watches)
    click.echo(f"config     {plan.settings.path or 'embedded defaults'}: right")
    bad = f", {watched.bad_count:,} bad lines are skipped" if watched.bad_count else ""
    brought = f", {discovered:,} of them discovered" if discovered else ""
    click.echo(
        f"watchlist  {plan.settings.watchlist}: {len(watched.watches):,} products{brought}{bad}"
    )
    for line in watched.bad[:_BAD_LINES_SHOWN]:
        click.secho(f"           line {line.line}: {line.reason}", fg="yellow")
    for silent in silent_rules(plan.settings.config, watched.watches):
        click.secho(f"alerts     {silent}", fg="yellow")
    simulated = plan.settings.config.simulated
    key = "not looked for" if no_key else "there"
    click.echo(f"key        {'not needed, SIMULATED' if simulated else key}")
    for sink in sinks:
        click.echo(f"delivers   to {sink.name}")
    click.echo(f"state      {plan.settings.state_directory()}")
    needs = tokens_a_day(plan.settings.config, watched)
    total = sum(needs.values())
    for name, tokens in needs.items():
        click.echo(f"spends     {tokens:10,.0f} tokens a day for {name}")
    click.echo(f"           {total:10,.0f} in all")
    for name, most in discovery_a_day(plan.settings.config).items():
        click.echo(
            f"           and of what is left up to {most:,.0f} a day for discovery {name},\n"
            "           as far as its list holds products that were not there before"
        )
    if plan.settings.config.prices.mode == "adaptive":
        most = most_for_prices(plan.settings.config, watched)
        click.echo(
            f"           and what is left, up to {most:,.0f} a day for prices, goes where prices "
            "change:\n           `pricecheck plan` shows what comes of it"
        )
