"""The page as `pricecheck report` writes it and the daemon serves it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from pricecheck.config import Settings
from pricecheck.outbox import FILE_NAME, open_readonly
from pricecheck.page.facts import Facts, gather
from pricecheck.page.write import write_page
from pricecheck.snapshot import Snapshot
from pricecheck.watchlist import Watch

SINCE_S = 90 * 86_400
"""How far back charts go, unless somebody says otherwise."""

PRODUCTS = 1_000
"""How many products are shown, unless somebody says otherwise."""


def whole_page(
    settings: Settings,
    watches: Sequence[Watch],
    snapshot: Snapshot | None,
    *,
    since_s: int = SINCE_S,
    limit: int = PRODUCTS,
) -> tuple[str, Facts]:
    """Read the store of these settings, and return the page and what it tells.

    `snapshot` is the running daemon's, None when it does not run. Raises StoreError when there is
    no store that can be read. Takes about a second for a thousand products.
    """
    config = settings.config
    with closing(open_readonly(settings.state_directory() / FILE_NAME)) as outbox:
        facts = gather(
            outbox,
            watches,
            now_ms=config.time.now_ms(),
            since_s=since_s,
            whole_s=min(config.prices.lookback, config.outbox.retention),
            limit=limit,
        )
    return write_page(facts, snapshot, simulated=config.simulated, since_s=since_s), facts
