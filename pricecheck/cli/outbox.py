"""`pricecheck outbox`: what waits to be delivered, and what was refused for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._format import print_table, size
from pricecheck.cli._options import config_option, json_option, say_simulated, stored, writable

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.outbox import DeadLetter, Outbox

_ALL: Final = 1_000_000
_REASON: Final = 100


@click.group("outbox", invoke_without_command=True)
@config_option
@click.pass_context
def command(context: click.Context, settings: Settings) -> None:
    """Look at the outbox: records kept, backlogs, dead letters.

    A dead letter is something refused for good: by Keepa's own format, by Elasticsearch or by
    Kafka. It is named SOURCE/KIND/ID, as `list` shows it. Works beside a running daemon.
    """
    if context.invoked_subcommand is None:
        _status(settings)


@command.command("list")
@click.option("--source", help="Only of this source: keepa, elasticsearch, kafka.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
@config_option
def list_letters(settings: Settings, source: str | None, limit: int, as_json: bool) -> None:
    """List the dead letters, newest first."""
    import msgspec

    from pricecheck.keepa.time import to_rfc3339

    with stored(settings) as outbox:
        letters = outbox.dead_letters(source=source, limit=limit)
        count = sum(outbox.dead_letter_counts().values())
    if as_json:
        told = [
            {**msgspec.structs.asdict(x), "body": x.body.decode(errors="replace")} for x in letters
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
        return
    rows = [
        (_name(letter), to_rfc3339(letter.at_ms)[:19], f"{letter.count}", letter.reason[:_REASON])
        for letter in letters
    ]
    if rows:
        print_table(("Letter", "When", "Times", "Reason"), rows)
    click.echo(f"{len(letters)} of {count:,} dead letters")


@command.command("show")
@click.argument("letter")
@config_option
def show_letter(settings: Settings, letter: str) -> None:
    """Show a dead letter whole: who refused it, why, and its content."""
    from pricecheck.keepa.time import to_rfc3339

    with stored(settings) as outbox:
        found = _find(outbox, letter)
    click.echo(f"{_name(found)}, refused {found.count} times, last {to_rfc3339(found.at_ms)}")
    click.echo(f"reason: {found.reason}\n")
    click.echo(_pretty(found.body))


@command.command("retry")
@click.argument("letters", nargs=-1)
@click.option("--source", help="All of this source.")
@config_option
def retry_letters(settings: Settings, letters: tuple[str, ...], source: str | None) -> None:
    """Put dead letters back at the end of the outbox, to be delivered again."""
    with writable(settings) as outbox:
        chosen = _chosen(outbox, letters, source)
        for letter in chosen:
            outbox.retry(letter.source, letter.kind, letter.id)
    click.echo(f"{len(chosen):,} will be delivered again")


@command.command("drop")
@click.argument("letters", nargs=-1)
@click.option("--source", help="All of this source.")
@config_option
def drop_letters(settings: Settings, letters: tuple[str, ...], source: str | None) -> None:
    """Delete dead letters for good."""
    with writable(settings) as outbox:
        chosen = _chosen(outbox, letters, source)
        for letter in chosen:
            outbox.drop(letter.source, letter.kind, letter.id)
    click.echo(f"{len(chosen):,} dropped")


def _status(settings: Settings) -> None:
    sinks = [name for name in ("elasticsearch", "kafka") if getattr(settings.config, name)]
    say_simulated(settings)
    with stored(settings) as outbox:
        sinks += outbox.enlisted() if settings.config.notify else []
        click.echo(f"{outbox.path}, {size(outbox.size_bytes())}")
        for kind, count in sorted(outbox.counts().items()):
            click.echo(f"  {count:12,} {kind}")
        for sink in sinks:
            click.echo(f"{outbox.backlog(sink).count:,} records wait for {sink}")
        if not sinks:
            click.echo("no sink is configured: the outbox is the store")
        letters = outbox.dead_letter_counts()
        told = ", ".join(f"{count:,} of {source}" for source, count in sorted(letters.items()))
        click.echo(f"dead letters: {told or 'none'}")


def _chosen(outbox: Outbox, letters: tuple[str, ...], source: str | None) -> list[DeadLetter]:
    """Return the letters named, or all of a source."""
    if source is not None and letters:
        raise click.UsageError("Name letters, or a --source for all of it, not both.")
    if source is not None:
        return outbox.dead_letters(source=source, limit=_ALL)
    if not letters:
        raise click.UsageError("Name letters, or a --source for all of it.")
    return [_find(outbox, letter) for letter in dict.fromkeys(letters)]


def _find(outbox: Outbox, name: str) -> DeadLetter:
    from pricecheck.errors import InputError

    source = name.partition("/")[0]
    for letter in outbox.dead_letters(source=source, limit=_ALL):
        if _name(letter) == name:
            return letter
    raise InputError(
        f"there is no dead letter {name}", remedy="`pricecheck outbox list` shows their names"
    )


def _name(letter: DeadLetter) -> str:
    return f"{letter.source}/{letter.kind}/{letter.id}"


def _pretty(body: bytes) -> str:
    import msgspec

    try:
        return msgspec.json.format(body, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="backslashreplace")
