"""`pricecheck init`: a config and a watchlist to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

import click

from pricecheck.errors import InputError

_FILES: Final = ("pricecheck.toml", "watchlist.csv")


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
def command(directory: Path) -> None:
    """Write a commented pricecheck.toml and watchlist.csv to DIRECTORY, here by default.

    Files that exist are never overwritten.
    """
    for name in _FILES:
        path = directory / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(files("pricecheck").joinpath("examples", name).read_text("utf-8"))
        except FileExistsError:
            click.echo(f"{path} exists and stays as it is")
        except OSError as error:
            raise InputError(
                f"{path} can't be written: {error.strerror}", remedy="name a directory of yours"
            ) from None
        else:
            click.echo(f"{path} written")
    click.echo(
        "\nNext:\n"
        f"  put ASINs into {directory / _FILES[1]}\n"
        "  export KEEPA_API_KEY=...\n"
        f"  pricecheck config check {directory / _FILES[0]}\n"
        f"  pricecheck run --config {directory / _FILES[0]}"
    )
