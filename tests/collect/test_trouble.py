"""How long a task waits after failures, and what is said of them."""

from __future__ import annotations

import pytest

from pricecheck import logs
from pricecheck.bucket import NoRefillError
from pricecheck.collect.trouble import Trouble
from pricecheck.errors import PricecheckError
from pricecheck.keepa import errors
from pricecheck.keepa.wire import Envelope

MINUTE = 60_000


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.UnreachableError("no route"), [5, 10, 20, 40, 80, 160, 300, 300]),
        (errors.ServerError("500"), [30, 60, 120, 240, 300, 300]),
        (errors.KeyRejectedError("400"), [60, 120, 240, 480, 960, 1920, 3600, 3600]),
        (errors.MethodNotAllowedError("405"), [60, 120, 240, 480, 960, 1920, 3600, 3600]),
        (NoRefillError(), [60, 120, 240, 300, 300]),
        (
            errors.NotEnoughTokensError("429", envelope=Envelope(refill_in_ms=7_000)),
            [7.1, 14.2, 28.4],
        ),
    ],
)
def test_waits_begin_as_the_error_asks_and_grow(
    error: PricecheckError, seconds: list[float]
) -> None:
    """Up to five minutes; up to an hour where the error asks for long."""
    trouble = Trouble("prices")

    assert [trouble.begin(error) / 1000 for _ in seconds] == seconds


def test_however_long_it_lasts_it_is_tried_again() -> None:
    """The doubling does not overflow."""
    trouble = Trouble("prices")

    assert {trouble.begin(errors.ServerError("500")) for _ in range(5_000)} <= {
        30_000,
        60_000,
        120_000,
        240_000,
        300_000,
    }


def test_a_success_ends_it() -> None:
    """The next failure is a first one."""
    trouble = Trouble("prices")
    trouble.begin(errors.ServerError("500"))
    trouble.begin(errors.ServerError("500"))

    trouble.end()

    assert trouble.reason is None
    assert trouble.begin(errors.ServerError("500")) == 30_000


@pytest.mark.parametrize(
    ("error", "levels"),
    [
        (errors.UnreachableError("no route"), ["INFO", *[""] * 4, "WARNING", *[""] * 4]),
        (errors.ServerError("500"), ["INFO", "", "", "WARNING", *[""] * 6]),
        (errors.KeyRejectedError("400"), ["WARNING", *[""] * 9]),
        (errors.RejectedError("400"), ["WARNING", *[""] * 9]),
        (NoRefillError(), ["WARNING", *[""] * 9]),
    ],
)
def test_what_passes_by_itself_is_a_warning_only_when_it_lasts(
    caplog: pytest.LogCaptureFixture, error: PricecheckError, levels: list[str]
) -> None:
    """For five minutes; what a person has to mend is one at once. Each is said once."""
    caplog.set_level("INFO")
    trouble = Trouble("prices")

    said = []
    for _ in levels:
        caplog.clear()
        trouble.begin(error)
        said.append("".join(one.levelname for one in caplog.records))

    assert said == levels


def test_the_same_reason_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """And its end, with how often it failed; another reason is said anew."""
    caplog.set_level("INFO")
    trouble = Trouble("prices")

    for error in ("500", "500", "500", "503"):
        trouble.begin(errors.ServerError(error, remedy="tried again"))
    assert trouble.reason == "503 (tried again)"
    trouble.end()
    trouble.end()

    said = [(one.getMessage(), one.__dict__["fields"]) for one in caplog.records]
    assert [one.levelname for one in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert [event for event, _ in said] == [*["collecting fails"] * 2, "collecting works again"]
    assert said[0][1] == {"task": "prices", "reason": "500", "remedy": "tried again", "again_s": 30}
    assert said[2][1] == {"task": "prices", "failures": 4}


def test_no_secret_gets_into_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may repeat the key that it refuses; the reason goes to status."""
    monkeypatch.setattr(logs, "_secrets", {})
    logs.redact("s3cret")
    trouble = Trouble("prices")

    trouble.begin(errors.RejectedError("the key s3cret is unknown"))

    assert trouble.reason == "the key *** is unknown"
