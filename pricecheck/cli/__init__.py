"""The `pricecheck` command: a file for each subcommand, imported when it is called for.

Subcommands import trio, httpx and the like inside their functions, so that `pricecheck status`
and `--help` start as fast as click itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

import click

from pricecheck import __version__
from pricecheck.errors import PricecheckError

_COMMANDS: Final = ("run",)


class _LazyGroup(click.Group):
    """A group whose commands live in modules of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which people meet them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"pricecheck.cli.{cmd_name}").command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pricecheck")
def _pricecheck() -> None:
    """Watch Amazon prices through the Keepa API on a token budget."""


def main() -> None:
    """Run the command line; an operator's fault is a sentence, a remedy and an exit code."""
    try:
        _pricecheck(prog_name="pricecheck")
    except PricecheckError as error:
        click.echo(f"Error: {error.message}", err=True)
        if error.remedy:
            click.echo(f"  -> {error.remedy}", err=True)
        sys.exit(error.exit_code)
