"""`python -m pricecheck.simulator`: the simulator without the rest of the program."""

from __future__ import annotations

import sys

import click

from pricecheck.errors import PricecheckError
from pricecheck.simulator.command import command

if __name__ == "__main__":
    try:
        command(prog_name="pricecheck simulate")
    except PricecheckError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
