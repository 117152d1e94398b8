"""Whether the prices of a marketplace change more often than usual: a sales day, noticed by all.

A single product tells of a sale too late: in the one day that it lasts, most have changed a time
or two. All products of a marketplace together tell within an hour. What is seen is how long ago
each one's last change was when it was checked, which does not depend on how often it is checked.
"""

from __future__ import annotations

from typing import Final

from pricecheck.rhythm import Rhythm

_WINDOW: Final = 120
"""Only changes of the last so many minutes before a check count: older ones say nothing new."""

_HALF_LIFE: Final = 90
"""Minutes after which what was seen counts half."""

_USUAL_HALF_LIFE: Final = 14 * 24 * 60
"""The same for what is usual: burst-like changes are fewer there than by their rate."""

_LEARNED_MEANWHILE: Final = 0.1
"""By so much what is seen during a rush counts as usual; for good, it would seem to be."""

_PRIOR: Final = 10.0
"""So many changes must have been expected for what was seen to count as much as nothing."""

_BEGINS: Final = 2.0
_ENDS: Final = 1.4
"""A sale is noticed at so many times the usual changes, and over under the second figure: what
comes and goes with the hours of the day is none."""

_NOTICED_AFTER: Final = 1 / 24
"""By so many days a rush is older than its notice."""

_DAY: Final = 24 * 60


class Rush:
    """How often the products of one marketplace change now, by how often they use to."""

    def __init__(self) -> None:
        self.factor = 1.0  # 1 unless more than usual
        self.days = 0.0  # for how long it has been more
        self._minute = 0
        self._seen = self._expected = 0.0
        self._usually_seen = self._usually_expected = 0.0

    def observe(self, rhythm: Rhythm, rate: float) -> None:
        """Take in a checked product: its new rhythm, and the rate that it was planned with."""
        passed = max(0, rhythm.minute - self._minute) if self._minute else 0
        self._minute = max(self._minute, rhythm.minute)
        quiet = min(max(0, rhythm.minute - rhythm.last), _WINDOW)
        seen, expected = float(quiet < _WINDOW), rate * quiet / _DAY
        kept, usually_kept = 0.5 ** (passed / _HALF_LIFE), 0.5 ** (passed / _USUAL_HALF_LIFE)
        self._seen = self._seen * kept + seen
        self._expected = self._expected * kept + expected
        share = 1.0 if self.factor == 1 else _LEARNED_MEANWHILE
        self._usually_seen = self._usually_seen * usually_kept + seen * share
        self._usually_expected = self._usually_expected * usually_kept + expected * share
        usual = (_PRIOR + self._usually_seen) / (_PRIOR + self._usually_expected)
        ratio = (_PRIOR + self._seen) / (_PRIOR + self._expected * usual)
        lasts = self.factor > 1
        self.factor = ratio if ratio >= (_ENDS if lasts else _BEGINS) else 1.0
        self.days = self.days + passed / _DAY if lasts and self.factor > 1 else 0.0

    def speed(self, wait: float) -> float:
        """Return the factor over the last so many days: of a longer wait only the rush counts."""
        return 1 + (self.factor - 1) * min(1.0, (self.days + _NOTICED_AFTER) / wait)
