"""`pricecheck init`: a config and a watchlist to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Final

import click

from pricecheck.errors import InputError

_FILES: Final = ("pricecheck.toml", "watchlist.csv")


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
def command(directory: Path) -> None:
    """Write a commented pricecheck.toml and watchlist.csv to DIRECTORY, here by default.

    In /etc/pricecheck and its folders, where a service reads them, also an empty file for the
    API key, that root alone can read. Files that exist are never overwritten.
    """
    from pricecheck.config import Config, Settings
    from pricecheck.config.settings import KEY_CREDENTIAL

    config, watchlist = (directory / name for name in _FILES)
    for path in (config, watchlist):
        _write(path, files("pricecheck").joinpath("examples", path.name).read_text("utf-8"))
    named = quote(str(config))
    key, start = "export KEEPA_API_KEY=...", f"pricecheck run --config {named}"
    if unit := Settings(Config(), config).unit:
        _write(directory / KEY_CREDENTIAL, "", mode=0o600)
        key = f"put the API key into {directory / KEY_CREDENTIAL}"
        start = f"systemctl enable --now {unit.removesuffix('.service')}"
    click.echo("\nNext:")
    for step in (f"put ASINs into {watchlist}", key, f"pricecheck config check {named}", start):
        click.echo(f"  {step}")


def _write(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file that is not there yet, and say so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode, exist_ok=False)
        path.write_text(text, encoding="utf-8")
    except FileExistsError:
        click.echo(f"{path} exists and stays as it is")
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {error.strerror}", remedy="name a directory of yours"
        ) from None
    else:
        click.echo(f"{path} written")
