"""How often a product's price changes: learned from its own history, the recent past first.

Keepa hands over every change with its time, so none is hidden however rarely we look, and the
rate is changes by time watched. Both are forgotten exponentially. Times are Keepa minutes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

HALF_LIFE_DAYS: Final = 30.0
"""After how long a change counts half."""

TYPICAL_RATE: Final = 0.75
"""Changes a day to expect of a product while nothing is known of any."""

_BURST_MINUTES: Final = 60
"""Changes within an hour count once: what one check sees of them is the last."""

_PRIOR_CHANGES: Final = 0.5
_DAY: Final = 24 * 60


class Rhythm(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of a product's changes: a short list in its stored state."""

    minute: int  # until when it was followed
    changes: float = 0.0  # as many, each worth half after every half-life
    days: float = 0.0  # as long, forgotten likewise
    last: int = 0  # the last change that counted

    def rate(self, prior: float) -> float:
        """Return changes a day; `prior` is the mean rate of the products beside it.

        What is known of the product outweighs the prior as soon as a change or two could have
        been seen: a gamma prior worth half a change.
        """
        return (_PRIOR_CHANGES + self.changes) / (_PRIOR_CHANGES / prior + self.days)


def follow(
    rhythm: Rhythm, changes: Iterable[int], until: int, half_life_days: float = HALF_LIFE_DAYS
) -> Rhythm:
    """Return what is remembered at `until` after some more changes, oldest first.

    Changes that Keepa adds late, from before `rhythm.minute`, count by their age. A new product
    starts with Rhythm(the minute from which on its history is known).
    """
    until = max(until, rhythm.minute)
    decay = math.log(2) / (half_life_days * _DAY)
    kept = math.exp(-decay * (until - rhythm.minute))
    count, last = rhythm.changes * kept, rhythm.last
    for change in changes:
        if change >= last + _BURST_MINUTES and change <= until:
            count += math.exp(-decay * (until - change))
            last = change
    # What the passing of time adds, itself being forgotten: the integral of the decay.
    days = rhythm.days * kept - math.expm1(-decay * (until - rhythm.minute)) / decay / _DAY
    return Rhythm(until, count, days, last)
