"""A task that does one thing every so often, on a virtual clock."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from pricecheck.bucket import Bucket, TooExpensiveError
from pricecheck.collect.calls import CallLog
from pricecheck.collect.periodic import periodically
from pricecheck.collect.spending import Spender
from pricecheck.collect.trouble import Trouble
from pricecheck.keepa import errors
from pricecheck.outbox import Commit, Outbox
from pricecheck.supervisor import Heartbeat

from .conftest import MockTime

HOUR = 3600


class Rounds:
    """A task's rounds: what happens in each, and when they were."""

    def __init__(self, *outcomes: int | Exception) -> None:
        self.times: list[float] = []
        self._outcomes = iter(outcomes)

    async def once(self) -> int:
        self.times.append(round(trio.current_time()))
        await trio.lowlevel.checkpoint()
        outcome = next(self._outcomes, HOUR)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def trouble() -> Trouble:
    return Trouble("deals:DE")


class Treasurer(Spender):
    """A spender whom nobody lets spend, and whose marks take no virtual time."""

    async def marks(self) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        return self._outbox.marks()


def spender(outbox: Outbox, clock: Any) -> Spender:
    time = MockTime(clock=clock)
    bucket = Bucket(max_call_cost=1, costs={})
    return Treasurer(cast("Any", None), bucket, outbox, CallLog(time), time)


async def run_for(
    seconds: float,
    rounds: Rounds,
    outbox: Outbox,
    clock: Any,
    trouble: Trouble,
    heartbeat: Heartbeat | None = None,
) -> None:
    """Let the task run for some virtual time."""
    with trio.move_on_after(seconds):
        await periodically(
            heartbeat or Heartbeat(float("inf")),
            rounds.once,
            every_s=HOUR,
            spender=spender(outbox, clock),
            trouble=trouble,
        )


async def test_it_runs_at_once_and_then_every_so_often(
    outbox: Outbox, trouble: Trouble, autojump_clock: MockClock
) -> None:
    """As long after each round as the round says."""
    rounds = Rounds(HOUR, 5 * HOUR)

    await run_for(7.5 * HOUR, rounds, outbox, autojump_clock, trouble)

    assert rounds.times == [0, HOUR, 6 * HOUR, 7 * HOUR]


@pytest.mark.parametrize(
    ("mark_s", "first"),
    [(-600, HOUR - 600), (-2 * HOUR, 0), (10 * HOUR, HOUR)],
    ids=["soon due", "overdue", "set by a clock that ran ahead"],
)
async def test_a_restart_remembers_when_it_last_succeeded(
    outbox: Outbox,
    trouble: Trouble,
    autojump_clock: MockClock,
    mark_s: int,
    first: int,
) -> None:
    """The mark is in the store; another task's is not its own."""
    now_ms = MockTime(clock=autojump_clock).now_ms()
    marks = (("deals:DE", now_ms + mark_s * 1000), ("deals:FR", now_ms))
    outbox.commit(Commit(marks=marks))
    rounds = Rounds()

    await run_for(1.5 * HOUR, rounds, outbox, autojump_clock, trouble)

    assert rounds.times[0] == first


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (errors.ServerError("500"), [0, 30, 90, 210]),
        (errors.TimedOutError("no answer"), [0, 5, 15, 35]),
        (errors.PaymentRequiredError("402"), [0, 60, 180, 420]),
        (errors.RejectedError("400"), [0, HOUR, 2 * HOUR, 3 * HOUR]),
        (TooExpensiveError(300, 200), [0, 60, 180, 420]),
    ],
)
async def test_a_failure_is_tried_again_ever_more_seldom(
    outbox: Outbox,
    trouble: Trouble,
    autojump_clock: MockClock,
    error: Exception,
    times: list[int],
) -> None:
    """As the error says; a call that is refused for what it asks waits for its regular time."""
    rounds = Rounds(error, error, error)

    await run_for(times[-1] + 10, rounds, outbox, autojump_clock, trouble)

    assert rounds.times == times
    assert trouble.reason is None


async def test_while_it_fails_the_trouble_says_why(
    outbox: Outbox, trouble: Trouble, autojump_clock: MockClock
) -> None:
    """For status."""
    rounds = Rounds(errors.ServerError("500"))

    await run_for(20, rounds, outbox, autojump_clock, trouble)

    assert trouble.reason == "500"


async def test_a_mistake_of_ours_is_the_supervisors_business(
    outbox: Outbox, trouble: Trouble, autojump_clock: MockClock
) -> None:
    """It restarts the task, with its traceback in the log."""
    with pytest.raises(ZeroDivisionError):
        await run_for(20, Rounds(ZeroDivisionError()), outbox, autojump_clock, trouble)


async def test_its_wait_is_declared(
    outbox: Outbox, trouble: Trouble, autojump_clock: MockClock
) -> None:
    """With the time of the next round, for status."""
    heartbeat = Heartbeat(float("inf"))

    await run_for(60, Rounds(), outbox, autojump_clock, trouble, heartbeat)

    assert heartbeat.why == "next at 2027-01-15T09:00Z"
    assert heartbeat.last_beat == pytest.approx(0, abs=1)


async def test_a_clock_that_jumps_ahead_is_noticed(
    outbox: Outbox, trouble: Trouble, autojump_clock: MockClock
) -> None:
    """Within ten minutes: the machine slept, or its clock was put right."""

    class Jumping:
        """The clock, a day ahead from the first minute on."""

        def current_time(self) -> float:
            seconds = autojump_clock.current_time()
            return seconds + (24 * HOUR if seconds > 60 else 0)

    rounds = Rounds()

    await run_for(700, rounds, outbox, Jumping(), trouble)

    assert rounds.times == [0, 600]


class PutRight(MockTime, frozen=True):
    """A wall clock that runs thirty days ahead, and is put right after a minute."""

    def now_ms(self) -> int:
        ahead_ms = 30 * 24 * HOUR * 1000 if self.clock.current_time() < 60 else 0
        return super().now_ms() + ahead_ms


async def test_a_clock_that_is_put_back_delays_no_round_for_long(
    outbox: Outbox,
    trouble: Trouble,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was planned by the wrong clock is not waited for."""
    monkeypatch.setitem(globals(), "MockTime", PutRight)
    rounds = Rounds()

    await run_for(5 * HOUR, rounds, outbox, autojump_clock, trouble)

    assert len(rounds.times) == 5


async def test_what_was_paid_for_in_vain_is_not_bought_again_and_again(
    outbox: Outbox, trouble: Trouble, autojump_clock: MockClock
) -> None:
    """An answer that can't be read costs its tokens each time: the waits grow to the interval."""
    unreadable = errors.BadAnswerError("no JSON")
    rounds = Rounds(*[unreadable] * 40)

    await run_for(24 * HOUR, rounds, outbox, autojump_clock, trouble)

    assert len(rounds.times) < 40
    assert rounds.times[-1] - rounds.times[-2] == HOUR
