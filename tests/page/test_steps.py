"""Histories cut to what a page can carry, without losing what a chart shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.page.steps import Point, even_cap, flat, price_at, thin

SERIES = st.dictionaries(
    st.integers(0, 100_000), st.none() | st.integers(0, 10_000), min_size=1, max_size=200
).map(lambda found: sorted(found.items()))


@given(SERIES, st.integers(5, 100))
def test_a_thinned_series_keeps_what_the_eye_sees(series: list[Point], cap: int) -> None:
    """Its lowest and highest price, where it begins, what it ends with; and it fits."""
    found = thin(series, cap)

    prices = [price for _, price in series if price is not None]
    kept = [price for _, price in found if price is not None]
    assert len(found) <= cap
    assert set(found) <= set(series)
    assert found == sorted(found, key=lambda point: point[0])
    assert found[0] == series[0]
    assert found[-1][1] == series[-1][1]
    assert (min(prices, default=0), max(prices, default=0)) == (
        min(kept, default=0),
        max(kept, default=0),
    )
    assert (len(prices) < len(series)) == (len(kept) < len(found))


def test_a_short_series_stays_whole() -> None:
    """Nothing is cut that fits."""
    series: list[Point] = [(0, 5), (1, 5), (7, None)]

    assert thin(series, 5) == series


@given(st.lists(st.integers(0, 500), max_size=50), st.integers(0, 5_000))
def test_the_room_is_shared_out_and_never_exceeded(sizes: list[int], budget: int) -> None:
    """Short series stay whole, and one point more for each long one would be too many."""
    cap = even_cap(sizes, budget)

    assert sum(min(size, cap) for size in sizes) <= budget or cap == max(sizes, default=0) == 0
    if cap < max(sizes, default=0):
        assert sum(min(size, cap + 1) for size in sizes) > budget


@pytest.mark.parametrize(
    ("minute", "price"), [(-1, None), (0, 10), (4, 10), (5, None), (9, 7), (99, 7)]
)
def test_a_price_holds_until_the_next(minute: int, price: int | None) -> None:
    """Before the first point and in a gap there is none."""
    assert price_at([(0, 10), (5, None), (9, 7)], minute) == price


@given(SERIES)
def test_a_packed_series_holds_all_of_it(series: list[Point]) -> None:
    """The distances add up to the minutes."""
    packed = flat(series)

    minutes = [sum(packed[: place + 1 : 2]) for place in range(0, len(packed), 2)]  # type: ignore[arg-type]
    assert list(zip(minutes, packed[1::2], strict=True)) == series
