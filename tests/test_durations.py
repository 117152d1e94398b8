"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.durations import format_duration, parse_duration
from pricecheck.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("6h", 21_600),
        ("1d", 86_400),
        ("2w", 1_209_600),
        ("1h30m", 5400),
        (" 1H 30M ", 5400),
        ("3650d", 315_360_000),
    ],
)
def test_reads_the_units_people_use(text: str, seconds: int) -> None:
    """A number with its unit, or several from the largest down, is read as seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "6", "h", "6x", "6.5h", "-6h", "30m1h", "1h1h", "6 h", "0s", "3651d", "٦h"]
)
def test_refuses_what_could_be_misread(text: str) -> None:
    """Without a unit, out of order, nothing at all or out of range: an error that says how."""
    with pytest.raises(InputError) as caught:
        parse_duration(text)

    assert caught.value.remedy


@given(st.integers(1, 315_360_000))
def test_reads_back_what_it_writes(seconds: int) -> None:
    """Every duration survives being written and read."""
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.4, "0s"), (59.6, "1m"), (5400, "1h30m"), (1_209_600, "2w")]
)
def test_writes_whole_seconds_in_the_largest_units(seconds: float, text: str) -> None:
    """Fractions are rounded away, and units that are zero left out."""
    assert format_duration(seconds) == text
