"""Keepa minutes, Unix milliseconds and RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.keepa.time import from_unix_ms, to_rfc3339, to_unix_ms


def test_keepa_time_begins_in_2011() -> None:
    """Minute 0 is the first of 2011, as in Keepa's own KeepaTime class."""
    assert to_rfc3339(to_unix_ms(0)) == "2011-01-01T00:00:00Z"
    assert to_rfc3339(to_unix_ms(7_588_800)) == "2025-06-06T00:00:00Z"


@given(st.integers(-21_564_000, 2**31 - 1))
def test_minutes_survive_the_way_there_and_back(minute: int) -> None:
    """Every instant within a minute belongs to it."""
    assert from_unix_ms(to_unix_ms(minute)) == minute
    assert from_unix_ms(to_unix_ms(minute) + 59_999) == minute


@pytest.mark.parametrize(
    ("unix_ms", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_750_000_000_000, "2025-06-15T15:06:40Z"),
        (1_750_000_000_007, "2025-06-15T15:06:40.007Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_writes_rfc_3339(unix_ms: int, text: str) -> None:
    """UTC with a Z, and milliseconds only where there are some."""
    assert to_rfc3339(unix_ms) == text


@given(st.integers(0, 253_402_300_799_999))
def test_what_is_written_reads_as_the_same_instant(unix_ms: int) -> None:
    """Python's own reader finds the millisecond again."""
    read = datetime.fromisoformat(to_rfc3339(unix_ms))

    since = read - datetime(1970, 1, 1, tzinfo=UTC)
    assert (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000 == unix_ms
