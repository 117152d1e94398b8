"""Keepa minutes, Unix milliseconds and RFC 3339, one into the other."""

from __future__ import annotations

from datetime import UTC, datetime

# unix_ms = (keepa_minutes + 21564000) * 60000, Keepa's own KeepaTime class.
_OFFSET_MINUTES = 21_564_000


def to_unix_ms(keepa_minutes: int) -> int:
    """Return the Unix time in milliseconds of a Keepa time in minutes."""
    return (keepa_minutes + _OFFSET_MINUTES) * 60_000


def from_unix_ms(unix_ms: int) -> int:
    """Return the Keepa time in whole minutes that holds a Unix time in milliseconds."""
    return unix_ms // 60_000 - _OFFSET_MINUTES


def to_rfc3339(unix_ms: int) -> str:
    """Write a Unix time in milliseconds as RFC 3339 UTC; the fraction only where there is one."""
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = unix_ms % 1000
    return f"{moment}.{fraction:03d}Z" if fraction else f"{moment}Z"
