"""The rhythm that answers teach: from when it is known, and what of it outlasts a short answer."""

from __future__ import annotations

import pytest

from pricecheck.collect.products import Known, learn, recall, remember
from pricecheck.keepa.client import ProductQuery
from pricecheck.keepa.tables import BY_CODE
from pricecheck.keepa.time import to_unix_ms
from pricecheck.rhythm import Rhythm, follow

from .answers import NOON, answer, only, product, watch

DAY = 1440


def known_after(
    new: list[int], known: Known | None = None, *, at: int = NOON, days: int | None = None
) -> Known:
    """What is known after an answer with these changes of NEW, their prices all different."""
    flat = [number for i, minute in enumerate(new) for number in (minute, 1_000 + i)]
    found = only(answer(product({"NEW": flat}, lastUpdate=at), minute=at))
    lesson = learn(
        found,
        watch(),
        BY_CODE["DE"],
        known,
        query=ProductQuery(days=days),
        observed_ms=to_unix_ms(at),
        lookback_s=90 * 86_400,
    )
    return lesson.known


@pytest.mark.parametrize(("first", "days"), [(NOON - 10 * DAY, 10), (NOON - 300 * DAY, 90)])
def test_a_first_check_learns_from_the_history_within_the_look_back(first: int, days: int) -> None:
    """A young product's time counts from its first price, an old one's for the look-back."""
    minutes = [first, NOON - 5 * DAY, NOON - 2 * DAY]

    rhythm = known_after(minutes).rhythm

    counted = [minute for minute in minutes if minute >= NOON - 90 * DAY]
    assert rhythm == follow(Rhythm(NOON - days * DAY), counted, NOON)


def test_a_second_check_adds_what_is_new() -> None:
    """Though its answer is short, nothing is counted twice or lost."""
    minutes = [NOON - 20 * DAY, NOON - 5 * DAY, NOON + 3 * DAY]

    first = known_after(minutes[:2])
    second = known_after(minutes[1:], recall(remember(first)), at=NOON + 4 * DAY, days=6)

    whole = follow(Rhythm(NOON - 20 * DAY), minutes, NOON + 4 * DAY)
    assert second.rhythm is not None
    assert second.rhythm.changes == pytest.approx(whole.changes)
    assert second.rhythm.days == pytest.approx(whole.days)


def test_an_answer_that_reaches_not_far_enough_teaches_no_rhythm() -> None:
    """Its changes are told with the next that does, and are counted then."""
    first = known_after([NOON - 20 * DAY])

    second = known_after([NOON + 29 * DAY], first, at=NOON + 30 * DAY, days=2)

    assert second.rhythm == first.rhythm
