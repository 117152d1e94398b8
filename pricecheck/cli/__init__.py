"""The `pricecheck` command: a file for each subcommand, imported when it is called for.

Subcommands import trio, httpx and the like inside their functions, so that `pricecheck status`
and `--help` start as fast as click itself.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from types import TracebackType
from typing import Final

import click

from pricecheck import __version__
from pricecheck.errors import PricecheckError

_COMMANDS: Final = {
    "init": "pricecheck.cli.init",
    "run": "pricecheck.cli.run",
    "status": "pricecheck.cli.status",
    "check": "pricecheck.cli.check",
    "watch": "pricecheck.cli.watch",
    "discover": "pricecheck.cli.discover",
    "plan": "pricecheck.cli.plan",
    "history": "pricecheck.cli.history",
    "compare": "pricecheck.cli.compare",
    "deals": "pricecheck.cli.deals",
    "bestsellers": "pricecheck.cli.bestsellers",
    "report": "pricecheck.cli.report",
    "notify": "pricecheck.cli.notify",
    "outbox": "pricecheck.cli.outbox",
    "kibana": "pricecheck.cli.kibana",
    "config": "pricecheck.cli.config",
    "doctor": "pricecheck.cli.doctor",
    "simulate": "pricecheck.simulator.command",
}
"""The modules that hold the commands, in the order in which people meet them."""


class _LazyGroup(click.Group):
    """A group whose commands are the `command` of a module each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name]).command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="pricecheck")
def _pricecheck() -> None:
    """Watch Amazon prices through the Keepa API on a token budget.

    \b
    Begin with:
      pricecheck init             a config and a watchlist to fill in
      pricecheck config check     is all of it right, and what will it cost?
      pricecheck run              collect; systemd runs just this
      pricecheck status           how it is doing

    \b
    Completion of commands and options, for this shell (bash; or zsh, fish):
      eval "$(_PRICECHECK_COMPLETE=bash_source pricecheck)"
    """


def main() -> None:
    """Run the command line; an operator's fault is a sentence, a remedy and an exit code."""
    sys.excepthook = _tell_bug  # of what is more than an Exception
    if isinstance(sys.stdout, TextIOWrapper):
        # Titles and currencies are of all the world, a terminal's encoding may not be.
        sys.stdout.reconfigure(errors="replace")
    try:
        # click itself knows only whether somebody watches.
        colour = False if os.environ.get("NO_COLOR") else None
        _pricecheck(prog_name="pricecheck", color=colour)
    except PricecheckError as error:
        # systemd reads the priority, where it reads at all.
        priority = "<3>" if "JOURNAL_STREAM" in os.environ and not sys.stderr.isatty() else ""
        remedy = f"\n{priority}  {error.remedy}" if error.remedy else ""
        click.echo(_redacted(f"{priority}Error: {error.message}{remedy}"), err=True)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  # a bug's last border: it is told, with a code of its own
        if not (isinstance(error, OSError) and error.errno == errno.ENOSPC):
            _tell_bug(type(error), error, error.__traceback__)
            sys.exit(os.EX_SOFTWARE)
        where = error.filename or "the output"
        click.echo(_redacted(f"Error: {where} can't be written: {error.strerror}"), err=True)
        # What Python still holds of it goes nowhere, or it would complain at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(os.EX_IOERR)


def _tell_bug(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    """Print what Python itself would of a bug, without the secrets in it."""
    import traceback

    told = "".join(traceback.format_exception(kind, error, error.__traceback__))
    click.echo(_redacted(told), err=True, nl=False)


def _redacted(text: str) -> str:
    from pricecheck.logs import redacted

    return redacted(text)
