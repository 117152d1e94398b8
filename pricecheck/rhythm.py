"""How often a product's price changes: learned from its own history, the recent past first.

Keepa hands over every change with its time, so none is hidden however rarely we look, and the
rate is changes by time watched. Both are forgotten exponentially, in two memories: a long one,
which is best while a product goes on as it did, and a short one for when it does not. Times are
Keepa minutes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

HALF_LIFE_DAYS: Final = 30.0
"""After how long a change counts half."""

RECENT_DAYS: Final = 8.0
"""The same in the short memory, which is believed where it foretells better."""

_DOUBT: Final = 2.0
"""How much better that must be, in the logarithm of the odds, for both to count alike."""

_MOST_ODDS: Final = 10.0
"""Proof does not pile up beyond this: or a life that changes would be noticed late."""

TYPICAL_RATE: Final = 0.75
"""Changes a day to expect of a product while nothing is known of any."""

_BURST_MINUTES: Final = 60
"""Changes within an hour count once: what one check sees of them is the last."""

_PRIOR_CHANGES: Final = 0.5
_ODDS_DECAY: Final = math.log(2) / HALF_LIFE_DAYS
_DAY: Final = 24 * 60


class Rhythm(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of a product's changes: a short list in its stored state."""

    minute: int  # until when it was followed
    changes: float = 0.0  # as many, each worth half after every half-life
    days: float = 0.0  # as long, forgotten likewise
    last: int = 0  # the last change that counted
    recent_changes: float = 0.0  # the same in the short memory
    recent_days: float = 0.0
    odds: float = 0.0  # by how much the short memory has foretold better: a natural logarithm

    def rate(self, prior: float) -> float:
        """Return changes a day; `prior` is the mean rate of the products beside it.

        What is known of the product outweighs the prior as soon as a change or two could have
        been seen: a gamma prior worth half a change. To the short memory the long one is what
        the prior is to that; each of the two counts as far as it has proved itself.
        """
        rate = (_PRIOR_CHANGES + self.changes) / (_PRIOR_CHANGES / prior + self.days)
        shape = _PRIOR_CHANGES + self.recent_changes
        recent = shape / (_PRIOR_CHANGES / rate + self.recent_days)
        return rate + (recent - rate) / (1 + math.exp(_DOUBT - self.odds))


def follow(
    rhythm: Rhythm, changes: Iterable[int], until: int, half_life_days: float = HALF_LIFE_DAYS
) -> Rhythm:
    """Return what is remembered at `until` after some more changes, oldest first.

    Changes that Keepa adds late, from before `rhythm.minute`, count by their age. A new product
    starts with Rhythm(the minute from which on its history is known).
    """
    minute, count, days, last, recent, recent_days, odds = msgspec.structs.astuple(rhythm)
    decay, recent_decay = math.log(2) / half_life_days, math.log(2) / RECENT_DAYS
    ends = [*changes, until]
    for number, end in enumerate(ends, start=1):
        changed = number < len(ends)
        if changed and not last + _BURST_MINUTES <= end <= until:
            continue
        if end > minute:
            passed = (end - minute) / _DAY
            minute = end
            odds *= math.exp(-_ODDS_DECAY * passed)
            odds += _foretold(count, days, recent, recent_days, passed, changed=changed)
            odds = min(max(odds, -_MOST_ODDS), _MOST_ODDS)
            # What the passing of time adds, itself being forgotten: the integral of the decay.
            kept, recent_kept = math.exp(-decay * passed), math.exp(-recent_decay * passed)
            count, days = count * kept, days * kept + (1 - kept) / decay
            recent, recent_days = (
                recent * recent_kept,
                recent_days * recent_kept + (1 - recent_kept) / recent_decay,
            )
        if changed:
            late = (minute - end) / _DAY
            count += math.exp(-decay * late)
            recent += math.exp(-recent_decay * late)
            last = end
    return Rhythm(minute, count, days, last, recent, recent_days, odds)


def _foretold(
    count: float, days: float, recent: float, recent_days: float, passed: float, *, changed: bool
) -> float:
    """Return how much better the short memory has foretold some days without a change.

    At their end there was one, or not yet. It is the logarithm of the ratio of likelihoods: a
    waiting time is Lomax distributed when its rate is known as a gamma distribution.
    """
    shape, span = _PRIOR_CHANGES + count, _PRIOR_CHANGES / TYPICAL_RATE + days
    recent_shape, recent_span = _PRIOR_CHANGES + recent, _PRIOR_CHANGES * span / shape + recent_days
    ratio = shape * math.log1p(passed / span) - recent_shape * math.log1p(passed / recent_span)
    if changed:
        ratio += math.log(recent_shape / (recent_span + passed) * (span + passed) / shape)
    return ratio
