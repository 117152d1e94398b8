"""What brings a product to real size: long series and texts, the same for every product.

A recorded product had 208 kB of JSON, 60 % of it csv. The price series stay each product's own.
Each part is made once, as JSON: a hundred products are 20 MB.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from random import Random

import msgspec

from pricecheck.simulator.world import DAY, ORIGIN

_BEGIN = ORIGIN - 720 * DAY
_OFFER_UPDATES = 10_600
_CATEGORY_RANKS = 3_000
_TEXT_BYTES = 33_000
_WORDS = ("key", "switch", "cap", "board", "wireless", "quiet", "light", "layout", "cable", "firm")


@lru_cache(maxsize=8)
def offer_updates(since: int | None) -> msgspec.Raw:
    """Return the csv series EXTRA_INFO_UPDATES, clipped to what was after a Keepa minute."""
    return _history(_OFFER_UPDATES, 9, since)


@lru_cache(maxsize=1)
def category_ranks() -> msgspec.Raw:
    """Return a long history of sales ranks in a category."""
    return _history(_CATEGORY_RANKS, 900_000, None)


@lru_cache(maxsize=1)
def text() -> msgspec.Raw:
    """Return a long text."""
    words = Random(0).choices(_WORDS, k=_TEXT_BYTES // 4)
    return msgspec.Raw(msgspec.json.encode(" ".join(words)[:_TEXT_BYTES]))


def _history(points: int, limit: int, since: int | None) -> msgspec.Raw:
    rng = Random(points)
    minutes = sorted(rng.sample(range(_BEGIN, ORIGIN), points))
    flat = [number for minute in minutes for number in (minute, rng.randrange(1, limit))]
    first = 0 if since is None else max(0, bisect_right(minutes, since) - 1)
    return msgspec.Raw(msgspec.json.encode(flat[2 * first :]))
