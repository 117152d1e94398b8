"""What is watched: the lines of watchlist.csv, and the products that discovery brought.

Those are in the outbox, where the daemon may write: its config directory it may not. The file is
the operator's alone and wins over them, so that a line of it can give such a product a target.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

import msgspec

from pricecheck import watchlist
from pricecheck.config import Settings
from pricecheck.errors import NoStoreError
from pricecheck.keepa.tables import BY_CODE
from pricecheck.outbox import FILE_NAME, Candidate, Outbox, open_readonly
from pricecheck.watchlist import Watch, Watchlist


def listed(settings: Settings, *, strict: bool = False) -> Watchlist:
    """Read the watchlist's file alone. Raises ConfigError as `watchlist.load` does."""
    prices = settings.config.prices
    return watchlist.load(
        settings.watchlist,
        domain=prices.domain,
        weight=prices.weight,
        every_s=prices.every,
        extras=prices.extras,
        strict=strict,
    )


def watched(settings: Settings) -> Watchlist:
    """Read all that is watched. Raises ConfigError, StoreError where discovery's can't be read."""
    return with_discovered(listed(settings), settings, accepted(settings))


def accepted(settings: Settings) -> list[Candidate]:
    """Return the products that discovery brought, none before the first start.

    Raises StoreError for an outbox that can't be read.
    """
    try:
        with closing(open_readonly(settings.state_directory() / FILE_NAME)) as outbox:
            return outbox.candidates("accepted")
    except NoStoreError:
        return []


def grown(watchlist: Watchlist, settings: Settings, outbox: Outbox) -> Watchlist:
    """Return a watchlist with what discovery brought. Raises StoreError."""
    return with_discovered(watchlist, settings, outbox.candidates("accepted"))


def with_discovered(
    watchlist: Watchlist, settings: Settings, accepted: Iterable[Candidate]
) -> Watchlist:
    """Return a watchlist with the products of these that are not on it, after the others."""
    prices = settings.config.prices
    there = {(watch.domain, watch.asin) for watch in watchlist.watches} if accepted else set()
    new = tuple(
        Watch(
            one.asin,
            BY_CODE[one.domain].code,
            prices.weight,
            None,
            prices.every,
            prices.extras,
        )
        for one in accepted
        if (one.domain, one.asin) not in there
    )
    return msgspec.structs.replace(watchlist, watches=watchlist.watches + new)
