"""The picture of a price: what can be seen on it, and that every price can be drawn."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pricecheck.deliver import chart
from pricecheck.deliver.wording import Voice
from pricecheck.keepa.time import to_rfc3339
from pricecheck.records import Alert, Change
from tests.deliver.test_wording import alert

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
LINE, AIM, PAPER = (29, 78, 216), (180, 83, 9), (255, 255, 255)


def days_ago(days: float) -> str:
    return to_rfc3339(NOW_MS - int(days * DAY_MS))


def changes(*steps: tuple[float, int | None, int | None], kind: str = "NEW") -> list[Change]:
    """Changes so many days ago, from one price to another."""
    return [
        Change(
            asin="B000000001",
            domain="DE",
            currency="EUR",
            title=None,
            price_type=kind,
            changed_at=days_ago(days),
            observed_at=days_ago(days),
            old_price=old,
            new_price=new,
        )
        for days, old, new in steps
    ]


def rung(days: float = 1, **fields: object) -> Alert:
    return alert(changed_at=days_ago(days), **fields)


def drawn(one: Alert, history: list[Change]) -> Image.Image:
    png = chart.draw(one, history, Voice(), now_ms=NOW_MS)
    assert png is not None
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.size) == ("PNG", chart.SIZE)
    return picture.convert("RGB")


def rows_of(picture: Image.Image, color: tuple[int, int, int], x: int) -> list[int]:
    """Where a column of the plane has a color."""
    near = (sum(abs(a - b) for a, b in zip(at(picture, x, y), color, strict=True)) for y in ROWS)
    return [y for y, distance in zip(ROWS, near, strict=True) if distance < 60]


ROWS = range(40, chart.SIZE[1] - 33)


def at(picture: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    pixel = picture.getpixel((x, y))
    assert isinstance(pixel, tuple)
    red, green, blue = pixel
    return red, green, blue


def test_a_fall_is_seen_as_a_fall() -> None:
    """High on the left, low on the right, and the target's line between them."""
    picture = drawn(
        rung(30, new_price=4_000, reference_price=5_000),
        changes((60, 6_000, 6_000), (30, 6_000, 4_000)),
    )

    [high, *_], [low, *_] = rows_of(picture, LINE, 120), rows_of(picture, LINE, 560)
    aims = {y for x in range(90, 560) for y in rows_of(picture, AIM, x)}
    assert high < min(aims) <= max(aims) < low


def test_where_there_was_no_offer_is_a_gap() -> None:
    """Nothing is drawn there, not even the ground."""
    history = changes((60, 5_000, 5_100), (40, 5_100, None), (20, None, 4_900))
    picture = drawn(rung(20, what="stock", new_price=4_900, reference_price=None), history)

    middle = chart.SIZE[0] // 2 + 30
    assert not rows_of(picture, LINE, middle)
    assert at(picture, middle, ROWS[-5]) == PAPER
    assert rows_of(picture, LINE, 120)


def test_an_alert_alone_is_drawn_from_its_own_change() -> None:
    """Nothing else may be stored yet."""
    picture = drawn(rung(1, old_price=6_000, new_price=4_000, reference_price=None), [])

    assert rows_of(picture, LINE, 120)[0] < rows_of(picture, LINE, 580)[0]


@pytest.mark.parametrize(
    "history", [[], changes((3, 4_000, 5_000), kind="USED"), changes((-3, 4_000, 5_000))]
)
def test_a_price_that_nobody_knows_is_not_drawn(history: list[Change]) -> None:
    """Other price types, and what the clock has not reached, are no price of it."""
    one = rung(1, old_price=None, new_price=None, reference_price=None)

    assert chart.draw(one, history, Voice(), now_ms=NOW_MS) is None


PRICES = st.none() | st.integers(0, 10**9)


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 200), PRICES), max_size=20),
    new=PRICES,
    aim=PRICES,
    market=st.sampled_from([("DE", "EUR"), ("JP", "JPY"), ("IN", "INR")]),
    voice=st.sampled_from([Voice(), Voice("de", None, simulated=True)]),
)
def test_every_price_can_be_drawn(
    steps: list[tuple[float, int | None]],
    new: int | None,
    aim: int | None,
    market: tuple[str, str],
    voice: Voice,
) -> None:
    """Free, or a million euros, in one cent's range or nine digits': a picture or none."""
    history = changes(
        *((days, None, price) for days, price in sorted(steps, key=lambda step: -step[0]))
    )
    one = rung(0.5, new_price=new, reference_price=aim, domain=market[0], currency=market[1])

    png = chart.draw(one, history, voice, now_ms=NOW_MS)

    assert png is None or Image.open(io.BytesIO(png)).size == chart.SIZE


def test_the_example_is_a_picture() -> None:
    """It is what a test message shows."""
    png = chart.example(Voice("de"))

    assert png is not None
    assert Image.open(io.BytesIO(png)).size == chart.SIZE
