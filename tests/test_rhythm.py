"""What is learned of a product's rate of changes, against sums over its whole history."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.rhythm import Rhythm, follow

DAY = 1440
START = 7_000_000
HALF_LIFE = 30.0

histories = st.lists(st.integers(START + 1, START + 200 * DAY), max_size=40).map(sorted)


def naive(changes: list[int], until: int) -> tuple[float, float]:
    """Sum over all changes that count, and over all minutes, each by its age."""
    counted: list[int] = []
    for change in changes:
        if not counted or change - counted[-1] >= 60:
            counted.append(change)
    count = sum(0.5 ** ((until - change) / DAY / HALF_LIFE) for change in counted)
    days = sum(0.5 ** ((until - minute - 0.5) / DAY / HALF_LIFE) for minute in range(START, until))
    return count, days / DAY


def test_what_is_remembered_is_a_forgetful_count() -> None:
    """Changes and time are weighed by 2^(-age / half-life); a burst is one change."""
    changes = [START + 10, START + 40, START + 69, START + 70, START + 9 * DAY]
    until = START + 20 * DAY

    found = follow(Rhythm(START), changes, until)

    count, days = naive(changes, until)
    assert found.changes == pytest.approx(count)
    assert found.changes < 3
    assert found.days == pytest.approx(days, rel=1e-6)


@given(histories, st.lists(st.integers(START, START + 200 * DAY), max_size=10).map(sorted))
def test_many_small_steps_remember_what_one_large_one_does(
    changes: list[int], looks: list[int]
) -> None:
    """How often we look does not change what we know."""
    end = START + 201 * DAY
    whole = follow(Rhythm(START), changes, end)

    seen = Rhythm(START)
    for begin, until in pairwise([START, *looks, end]):
        seen = follow(seen, [change for change in changes if begin < change <= until], until)

    assert seen.changes == pytest.approx(whole.changes, rel=1e-9)
    assert seen.days == pytest.approx(whole.days, rel=1e-9)
    assert (seen.last, seen.minute) == (whole.last, whole.minute)


@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0])
def test_an_even_history_gives_its_rate(rate: float) -> None:
    """After a year of changes at one distance the prior hardly counts."""
    step = round(DAY / rate)
    changes = list(range(START + step // 2, START + 365 * DAY, step))

    found = follow(Rhythm(START), changes, START + 365 * DAY)

    assert found.rate(prior=rate * 3) == pytest.approx(rate, rel=0.15)


def test_without_a_history_the_rate_is_the_prior() -> None:
    """A new product changes as often as the others do, until more is known."""
    assert Rhythm(START).rate(prior=0.7) == pytest.approx(0.7)


def test_silence_lowers_the_rate() -> None:
    """A product that has not changed for long is expected to change seldom, but not never."""
    rates = [follow(Rhythm(START), [], START + n * DAY).rate(0.7) for n in (0, 1, 10, 100)]

    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.02


def test_the_recent_past_outweighs_the_distant() -> None:
    """After three half-lives of a ten times faster life most of the old one is forgotten."""
    slow = range(START, START + 200 * DAY, 4 * DAY)
    fast = range(START + 200 * DAY, START + 290 * DAY, DAY // 3)

    found = follow(Rhythm(START), [*slow, *fast], START + 290 * DAY)

    assert 2.4 < found.rate(prior=0.7) < 3.0


@pytest.mark.parametrize(("before", "after"), [(1.0, 8.0), (4.0, 0.25)])
def test_another_life_is_noticed_before_the_old_is_forgotten(before: float, after: float) -> None:
    """The short memory foretells better then; while life goes on as it did, it hardly counts."""
    change = START + 200 * DAY
    old = list(range(START, change, round(DAY / before)))
    new = list(range(change, change + 20 * DAY, round(DAY / after)))

    steady = follow(Rhythm(START), old, change)
    moved = follow(steady, new, change + 20 * DAY)

    assert steady.rate(0.7) == pytest.approx(before, rel=0.1)
    long = moved.changes / moved.days
    assert abs(math.log(moved.rate(0.7) / after)) < 0.6 * abs(math.log(long / after))


def test_what_an_older_version_remembered_is_read() -> None:
    """Without a short memory the long one goes on alone, and a short one begins."""
    old = msgspec.json.decode(b"[7000000,3.5,12.25,6999000]", type=Rhythm)

    seen = follow(old, [], old.minute + DAY)

    assert old.rate(0.7) == pytest.approx((0.5 + 3.5) / (0.5 / 0.7 + 12.25))
    assert 0 < seen.recent_days < 1


def test_late_additions_count_and_a_clock_set_back_forgets_nothing() -> None:
    """A change Keepa adds late weighs by its age; an earlier `until` leaves the minute alone."""
    seen = follow(Rhythm(START), [], START + 30 * DAY)

    late = follow(seen, [START + DAY], START + 30 * DAY)
    back = follow(seen, [], START + 10 * DAY)

    assert late.changes == pytest.approx(0.5 ** (29 / 30))
    assert back == seen


def test_what_is_remembered_is_small_and_survives_storing() -> None:
    """It is a short list in the stored state, and comes back equal."""
    seen = follow(Rhythm(START), [START + DAY], START + 45 * DAY + 7)

    body = msgspec.json.encode(seen)

    assert len(body) < 130
    assert msgspec.json.decode(body, type=Rhythm) == seen
    assert math.isfinite(seen.rate(1e-6))
