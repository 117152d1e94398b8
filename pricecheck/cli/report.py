"""`pricecheck report`: what is known, as one HTML file to look at."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import click

from pricecheck.cli._format import size
from pricecheck.cli._options import DURATION, config_option, say_simulated

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.snapshot import Snapshot


@click.command()
@config_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default="pricecheck.html",
    show_default=True,
    metavar="FILE",
    help="Write it there; - is standard output.",
)
@click.option(
    "--since", type=DURATION, default="90d", show_default=True, help="How far back charts go."
)
@click.option(
    "--limit", type=click.IntRange(1), default=1_000, show_default=True, help="So many products."
)
def command(settings: Settings, output: Path, since: int, limit: int) -> None:
    """Write one HTML file: deals, drops, budget, tasks, and a price chart for each product.

    It opens in any browser, needs no server and asks nobody for anything. Reads watchlist, outbox
    and the running daemon's state, and costs no tokens.
    """
    from pricecheck.page.whole import whole_page
    from pricecheck.watched import watched

    page, facts = whole_page(
        settings, watched(settings).watches, _snapshot(settings), since_s=since, limit=limit
    )
    say_simulated(settings)
    if str(output) == "-":
        sys.stdout.buffer.write(page.encode())
        return
    _write(output, page.encode())
    click.echo(f"{output}: {len(facts.products):,} products, {size(len(page.encode()))}")


def _snapshot(settings: Settings) -> Snapshot | None:
    from pricecheck.errors import NotRunningError, StoreError
    from pricecheck.status import ask

    try:
        return ask(settings.socket_directory())
    except NotRunningError:
        return None
    except StoreError as error:  # it runs, but is not ours to ask
        click.echo(f"The tasks are left out: {error}", err=True)
        return None


def _write(path: Path, content: bytes) -> None:
    """Put the file there in one step: a browser that reloads it never sees half a page.

    A link stays one, and a pipe or device is written to.
    """
    from pricecheck.errors import InputError

    temporary = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        path = path.resolve()
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise InputError(
            f"{path} can't be written: {error.strerror}", remedy="name another: --output FILE"
        ) from None
