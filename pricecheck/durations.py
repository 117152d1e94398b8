"""Durations as people write them: 90s, 30m, 6h, 1d, 2w or 1h30m."""

from __future__ import annotations

import re
from typing import Final

from pricecheck.errors import InputError, brief

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LONGEST_S: Final = 3_650 * _UNITS["d"]
_FORM: Final = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit}\s*)?" for unit in _UNITS))


def parse_duration(text: str) -> int:
    """Return the seconds of a duration such as 6h or 1h30m.

    Raises InputError for any other form, and for less than a second or more than ten years.
    """
    found = _FORM.fullmatch(text.strip().lower())
    if found is None or not any(found.groups()):
        raise InputError(
            f"{brief(text.strip())!r} is not a duration",
            remedy="write a number and its unit, largest first: 90s, 30m, 6h, 1d, 2w or 1h30m",
        )
    counts = zip(found.groups(default="0"), _UNITS.values(), strict=True)
    seconds = sum(int(count) * unit for count, unit in counts)
    if not 0 < seconds <= _LONGEST_S:
        raise InputError(
            f"{brief(text.strip())!r} is out of range", remedy="a duration is between 1s and 3650d"
        )
    return seconds


def format_duration(seconds: float) -> str:
    """Write a number of seconds, rounded to whole ones, as `parse_duration` reads it."""
    left = round(seconds)
    parts = []
    for unit, size in _UNITS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
