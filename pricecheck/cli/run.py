"""`pricecheck run`: the daemon."""

from __future__ import annotations

import click

from pricecheck.cli._options import find_config


@click.command()
@click.option("--config", "file", metavar="FILE", help="Read this file instead of the usual ones.")
@click.option("--strict", is_flag=True, help="Refuse a watchlist with bad lines.")
def command(file: str | None, strict: bool) -> None:
    """Collect prices, deals and bestsellers until SIGTERM or Ctrl-C.

    The API key comes from KEEPA_API_KEY, from a systemd credential keepa-api-key, or from the
    file that keepa.key_file names. SIGHUP reads config and watchlist anew; where they do not
    hold, the old ones stay and the log says why.

    Exits with 78 when config or watchlist are wrong, before anything is started.
    """
    from pricecheck import daemon

    daemon.run(find_config(file), strict=strict)
