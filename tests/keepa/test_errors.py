"""What each status and error body amounts to: whether to try again, when, and what it may cost."""

from __future__ import annotations

import os

import pytest

from pricecheck import logs
from pricecheck.keepa import errors
from pricecheck.keepa.errors import KeepaError
from pricecheck.keepa.wire import Envelope, Fault

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
FULL = Envelope(tokens_left=1200, refill_in_ms=30_000, refill_rate=20)
ZEROS = Envelope(timestamp_ms=1_750_000_000_000)
WRONG_KEY = Fault("invalidParameter", "The API key is not known.")


@pytest.mark.parametrize(
    ("status", "fault", "kind", "retry_ms", "paid", "smaller"),
    [
        (400, Fault("invalidParameter"), errors.RejectedError, None, False, True),
        (402, Fault("paymentRequired"), errors.PaymentRequiredError, HOUR, False, False),
        (404, Fault("notFound"), errors.NotInPlanError, DAY, False, False),
        (405, Fault("methodNotAllowed"), errors.MethodNotAllowedError, DAY, False, False),
        (429, Fault("notEnoughToken"), errors.NotEnoughTokensError, 30_100, False, False),
        (500, Fault("internalServerError"), errors.ServerError, 30_000, True, True),
        (503, None, errors.ServerError, 30_000, True, True),
        (403, None, errors.ServerError, 30_000, True, True),
        (301, None, errors.UnreachableError, 5_000, False, False),
        (302, None, errors.UnreachableError, 5_000, False, False),
        (200, Fault("invalidParameter"), errors.RejectedError, None, False, True),
        (200, Fault("somethingNew"), errors.RejectedError, None, False, True),
        (200, Fault(), errors.RejectedError, None, False, True),
        (200, Fault("notEnoughToken"), errors.NotEnoughTokensError, 30_100, False, False),
        (200, Fault("paymentRequired"), errors.PaymentRequiredError, HOUR, False, False),
        (200, Fault("internalServerError"), errors.ServerError, 30_000, True, True),
        (200, Fault("serviceUnavailable"), errors.ServerError, 30_000, True, True),
    ],
)
def test_each_answer_that_is_no_success_has_its_type(
    status: int,
    fault: Fault | None,
    kind: type[KeepaError],
    retry_ms: int | None,
    paid: bool,
    smaller: bool,
) -> None:
    """The type tells when to try again, whether it may have cost, and whether less may help."""
    error = errors.of_answer(status, fault, FULL)

    assert type(error) is kind
    assert (error.retry_after_ms, error.paid, error.smaller) == (retry_ms, paid, smaller)
    assert (error.status, error.envelope) == (status, FULL)
    assert str(status) in error.message
    assert error.remedy


def test_a_success_is_no_error() -> None:
    """200 without an error object."""
    assert errors.of_answer(200, None, FULL) is None
    assert errors.of_answer(200, None, None) is None


@pytest.mark.parametrize("status", [200, 400])
def test_a_wrong_keys_zeros_are_not_the_buckets_state(status: int) -> None:
    """All figures 0 mean that the key is unknown: asked again hourly, no count passed on."""
    error = errors.of_answer(status, WRONG_KEY, ZEROS)

    assert type(error) is errors.KeyRejectedError
    assert (error.envelope, error.retry_after_ms, error.paid) == (None, HOUR, False)
    assert error.exit_code == os.EX_NOPERM
    assert "API key" in error.remedy


@pytest.mark.parametrize("status", [402, 429, 500])
def test_zeros_are_no_count_under_any_status(status: int) -> None:
    """Figures that are all 0 never pass for the bucket's."""
    error = errors.of_answer(status, Fault("x"), ZEROS)

    assert error is not None
    assert error.envelope is None


def test_says_what_keepa_said() -> None:
    """Status, type, message and details of the answer are in the error's message."""
    error = errors.of_answer(400, Fault("invalidParameter", "asin: 'x' is none", "see docs"), FULL)

    assert error is not None
    assert error.message == "Keepa answered 400 invalidParameter: asin: 'x' is none (see docs)"
    assert str(error) == f"{error.message} ({error.remedy})"


@pytest.mark.parametrize(
    ("envelope", "retry_ms"),
    [
        (Envelope(tokens_left=-5, refill_in_ms=1000), 1100),
        (Envelope(tokens_left=-5, refill_in_ms=-3), 100),
        (Envelope(tokens_left=-5, refill_in_ms=10 * DAY), HOUR + 100),
        (None, MINUTE + 100),
    ],
    ids=["as it says", "just over", "absurd", "unknown"],
)
def test_an_empty_bucket_is_waited_for(envelope: Envelope | None, retry_ms: int) -> None:
    """429 waits for the refill that its figures announce, but never longer than an hour."""
    error = errors.of_answer(429, Fault("notEnoughToken"), envelope)

    assert error is not None
    assert error.retry_after_ms == retry_ms


@pytest.mark.parametrize(
    ("kind", "paid", "smaller"),
    [
        (errors.UnreachableError, False, False),
        (errors.TimedOutError, True, True),
        (errors.BadAnswerError, True, True),
    ],
)
def test_calls_without_a_whole_answer_are_tried_again(
    kind: type[KeepaError], paid: bool, smaller: bool
) -> None:
    """What was sent may have been paid for; what was not is free."""
    error = kind("no luck")

    assert (error.retry_after_ms, error.paid, error.smaller) == (5_000, paid, smaller)
    assert error.exit_code == os.EX_UNAVAILABLE


def test_an_error_never_holds_a_secret() -> None:
    """What a server echoes of the key is masked before it becomes an error."""
    logs.redact("s3cret/key+of=mine")
    said = Fault("invalidParameter", "no such key: s3cret/key+of=mine, s3cret%2Fkey%2Bof%3Dmine")

    error = errors.of_answer(400, said, FULL)

    assert "s3cret" not in repr(error) + str(error)


@pytest.mark.parametrize("place", range(475, 505, 5))
def test_what_is_cut_off_leaves_no_half_of_a_secret(place: int) -> None:
    """However long an answer's error is, and wherever in it the secret stands."""
    logs.redact("s3cret/key+of=mine")

    error = errors.of_answer(400, Fault(message="x" * place + "s3cret/key+of=mine"), FULL)

    assert "s3" not in str(error)
    assert len(str(error)) < 1_000
