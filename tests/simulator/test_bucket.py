"""The server's token bucket, on figures alone."""

from __future__ import annotations

import pytest

from pricecheck.simulator.bucket import ServerBucket

MINUTE = 60_000


def make_bucket(rate: int = 20, tokens: int | None = None) -> ServerBucket:
    return ServerBucket(rate=rate, tokens=tokens, now_ms=0)


def test_starts_full_at_an_hours_worth() -> None:
    """Without another figure the bucket holds 60 times its rate."""
    assert make_bucket(rate=20).left == 1200


@pytest.mark.parametrize(
    ("now_ms", "left", "refill_in_ms"),
    [(0, 5, 60_000), (59_999, 5, 1), (60_000, 25, 60_000), (150_000, 45, 30_000)],
)
def test_refills_once_a_minute(now_ms: int, left: int, refill_in_ms: int) -> None:
    """Tokens come at the tick and not between, and refillIn counts down to it."""
    bucket = make_bucket(tokens=5)

    until_next = bucket.advance(now_ms)

    assert (bucket.left, until_next) == (left, refill_in_ms)


def test_tokens_above_the_capacity_expire() -> None:
    """However long nobody calls, no more than 60 minutes' worth is kept."""
    bucket = make_bucket(tokens=1195)

    bucket.advance(500 * MINUTE)

    assert bucket.left == 1200


def test_admits_while_positive_and_goes_below_zero() -> None:
    """The last token admits a call of any cost; the next waits until the debt is refilled."""
    bucket = make_bucket(tokens=1)

    assert bucket.admits()
    bucket.charge(31)

    assert bucket.left == -30
    bucket.advance(MINUTE)
    assert not bucket.admits()
    bucket.advance(2 * MINUTE)
    assert bucket.admits()


def test_rate_zero_never_ends() -> None:
    """An endless bucket shows a huge figure that no call lessens."""
    bucket = make_bucket(rate=0, tokens=3)

    bucket.charge(100_000)
    bucket.sink()

    assert bucket.left == bucket.capacity == 60 * bucket.rate > 1_000_000
