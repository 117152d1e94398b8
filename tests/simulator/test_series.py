"""Histories as step functions: clipping, averages, and how the types relate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.keepa.tables import SERIES
from pricecheck.simulator.series import Integral, Series, histories
from pricecheck.simulator.world import DAY, ORIGIN, find

NOW = ORIGIN + 100 * DAY


def series_of(asin: str, name: str, *, buy_box: bool = False) -> Series | None:
    listing = find(1, 0.0, 3, asin, NOW)
    assert listing is not None
    return histories(listing, NOW, buy_box=buy_box).get(SERIES[name].index)


@pytest.mark.parametrize(
    ("begin", "minutes"),
    [(0, [10, 20, 30]), (10, [10, 20, 30]), (19, [10, 20, 30]), (20, [20, 30]), (99, [30])],
)
def test_clipping_keeps_the_point_in_force(begin: int, minutes: list[int]) -> None:
    """The point that held when the window begins stays, with its own time."""
    assert Series([10, 20, 30], [1, 2, 3]).since(begin).minutes == minutes


def test_flat_form_has_shipping_as_a_third() -> None:
    """Pairs for plain types, triples with shipping last."""
    assert Series([10, 20], [1, 2]).flat() == [10, 1, 20, 2]
    assert Series([10, 20], [1, -1], [5, -1]).flat() == [10, 1, 5, 20, -1, -1]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(-1, 50)), min_size=1, max_size=12),
    st.integers(1, 60),
    st.integers(0, 200),
)
def test_averages_are_those_of_every_minute_in_stock(
    steps: list[tuple[int, int]], rest: int, begin: int
) -> None:
    """The sums give what adding up minute by minute gives, minutes without an offer left out."""
    minutes = [sum(gap for gap, _ in steps[: i + 1]) for i in range(len(steps))]
    series = Series(minutes, [value for _, value in steps])
    now = minutes[-1] + rest
    begin = min(begin, now - 1)
    each = [series.since(minute).values[0] for minute in range(max(begin, minutes[0]), now)]
    offered = [value for value in each if value >= 0]

    integral = Integral(series, begin, now)

    expected = sum(offered) // len(offered) if offered else -1
    assert integral.average(begin) == expected
    assert integral.out_of_stock_percent(begin) == round(
        100 * (len(each) - len(offered)) / len(each)
    )


def test_amazon_is_never_below_the_lowest_new_price() -> None:
    """NEW includes Amazon's own offer, at every moment."""
    compared = 0
    for number in range(200):
        asin = f"B0AMZN{number:04d}"
        new, amazon = series_of(asin, "NEW"), series_of(asin, "AMAZON")
        assert new is not None
        assert amazon is not None
        for minute, price in zip(amazon.minutes, amazon.values, strict=True):
            lowest = new.values[list(new.minutes).index(minute)]
            assert price == -1 or price >= lowest >= 0
            compared += price > 0

    assert compared > 1000


def test_the_buy_box_comes_only_when_asked_and_then_with_shipping() -> None:
    """BUY_BOX_SHIPPING is absent from a plain call."""
    plain = series_of("B000000001", "BUY_BOX_SHIPPING")
    asked = series_of("B000000001", "BUY_BOX_SHIPPING", buy_box=True)

    assert plain is None
    assert asked is not None
    assert asked.shippings is not None
    assert set(asked.shippings) <= {-1, 0, 299, 499}
