"""`pricecheck status`: what the running daemon says of itself.

Nothing heavy is imported here: an operator in a hurry, or a monitoring system each minute, asks
with a new process every time.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._format import size
from pricecheck.cli._options import asking_config_option, json_option
from pricecheck.durations import format_duration

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.deliver.state import RelayStatus
    from pricecheck.snapshot import Snapshot, TaskStatus

_DEGRADED: Final = 1
_BAR: Final = 30
_COLOURS: Final = {"running": "green", "waiting": "cyan", "backing off": "yellow", "stuck": "red"}
_CLEAR: Final = "\x1b[H\x1b[J"


@click.command()
@asking_config_option
@json_option
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until Ctrl-C.")
def command(settings: Settings, as_json: bool, watch: bool) -> None:
    """Show how the running daemon is doing.

    A degraded daemon says why below its name. The shape of --json is that of
    pricecheck/snapshot.py; its `shape` is raised when a field changes its meaning or goes.

    \b
    Exit codes, for scripts:
      0  healthy
      1  degraded: the reasons need a person
      3  not running
    """
    from pricecheck.status import ask

    directory = settings.socket_directory()
    snapshot = ask(directory)
    with suppress(KeyboardInterrupt):
        while watch:
            show(snapshot, as_json=as_json, clear=not as_json and sys.stdout.isatty())
            time.sleep(2)
            snapshot = ask(directory)
    if not watch:
        show(snapshot, as_json=as_json)
    sys.exit(0 if snapshot.health == "ok" else _DEGRADED)


def show(snapshot: Snapshot, *, as_json: bool = False, clear: bool = False) -> None:
    """Print a snapshot, as JSON or for people."""
    if as_json:
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(snapshot), indent=2).decode()
    else:
        text = "\n".join(lines(snapshot))
    click.echo((_CLEAR if clear else "") + text)


def lines(snapshot: Snapshot) -> list[str]:
    """Return the state as lines for people, in colour (click takes it off where none is)."""
    return [
        *_headline(snapshot),
        "",
        *_figures(snapshot),
        "",
        *_tasks(snapshot),
        *_relays(snapshot),
    ]


def _headline(snapshot: Snapshot) -> list[str]:
    healthy = snapshot.health == "ok"
    name = click.style(f"pricecheck {snapshot.version}", bold=True)
    health = click.style("healthy" if healthy else "degraded", fg="green" if healthy else "yellow")
    simulated = click.style("  SIMULATED", fg="magenta", bold=True) if snapshot.simulated else ""
    return [
        f"{name}  {health}{simulated}",
        f"up {format_duration(snapshot.uptime_s)}, pid {snapshot.pid}, {snapshot.now}, "
        f"config {snapshot.config or 'embedded defaults'}",
        *(click.style(f"! {reason}", fg="yellow") for reason in snapshot.reasons),
        *(click.style(f"- {note}", dim=True) for note in snapshot.notes),
    ]


def _figures(snapshot: Snapshot) -> list[str]:
    tokens, watched, store = snapshot.tokens, snapshot.watchlist, snapshot.store
    totals = snapshot.totals
    if tokens.tokens is None or not tokens.capacity:
        held = "not known yet"
    else:
        share = min(max(tokens.tokens, 0) / tokens.capacity, 1)
        bar = "#" * round(share * _BAR)
        held = (
            f"[{bar:.<{_BAR}}] {tokens.tokens:,} of {tokens.capacity:,}, "
            f"{tokens.refill_rate:+g} a minute"
        )
    if tokens.reserved or tokens.waiting:
        held += f", {tokens.reserved:,} reserved, {tokens.waiting} waiting"
    failed = f", {totals.failed_calls:,} failed" if totals.failed_calls else ""
    upcoming = (
        "" if watched.next_due_s is None else f", next in {format_duration(watched.next_due_s)}"
    )
    odd = [
        (watched.absent, "answers without data"),
        (watched.set_aside, "set aside"),
        (watched.bad_lines, "bad lines"),
    ]
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(store.records.items()))
    letters = sum(store.dead_letters.values())
    return [
        f"tokens     {held}",
        f"spent      {totals.tokens:,} tokens in {totals.calls:,} calls{failed}; "
        f"{totals.products:,} products checked",
        f"watchlist  {watched.products:,} products, {watched.due:,} due{upcoming}; "
        f"{watched.changes:,} changes found"
        + "".join(f", {count:,} {what}" for count, what in odd if count),
        f"stored     {sum(store.records.values()):,} records, {size(store.bytes)}"
        + (f" ({kinds})" if kinds else "")
        + (click.style(f", {letters:,} dead letters", fg="yellow") if letters else ""),
    ]


def _tasks(snapshot: Snapshot) -> list[str]:
    width = max((len(task.name) for task in snapshot.tasks), default=0)
    return [f"{task.name:<{width}}  {_task(task)}" for task in snapshot.tasks]


def _relays(snapshot: Snapshot) -> list[str]:
    return ["", *map(_relay, snapshot.relays)] if snapshot.relays else []


def _relay(relay: RelayStatus) -> str:
    if relay.trouble:
        again = "" if relay.next_try_s is None else f", again in {relay.next_try_s:.0f}s"
        said = click.style(f"not delivering{again}: {relay.trouble}", fg="yellow")
    else:
        said = f"{relay.state}, {relay.peer or 'not connected yet'}"
    lag = f", the oldest for {format_duration(relay.lag_s)}" if relay.backlog else ""
    refused = f", {relay.refused:,} refused" if relay.refused else ""
    return (
        f"-> {relay.name}: {said}\n"
        f"   {relay.delivered:,} delivered{refused}, {relay.backlog:,} waiting{lag}"
    )


def _task(task: TaskStatus) -> str:
    state = click.style(f"{task.state:<11}", fg=_COLOURS[task.state])
    said = task.why
    if task.next_start is not None:
        said = f"again in {format_duration(task.next_start)}: {task.last_error}"
    elif task.state == "stuck":
        said = f"does not end: {task.last_error}"
    restarts = f"  ({task.restarts} restarts)" if task.restarts else ""
    return f"{state} {said}{restarts}".rstrip()
