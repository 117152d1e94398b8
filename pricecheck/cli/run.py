"""`pricecheck run`: the daemon."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Another pricecheck.toml.",
)
@click.option("--strict", is_flag=True, help="Refuse a watchlist with bad lines.")
def command(config: Path | None, strict: bool) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    SIGHUP reads config and watchlist anew; where they do not hold, the old ones stay.
    """
    from pricecheck import daemon
    from pricecheck.config import find

    daemon.run(config or find(), strict=strict)
