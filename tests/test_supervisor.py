"""The supervisor, on a virtual clock (pytest-trio takes it only from the test's own arguments)."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pricecheck import logs
from pricecheck.errors import StoreError
from pricecheck.snapshot import TaskStatus
from pricecheck.supervisor import (
    STUCK_AFTER_S,
    Heartbeat,
    RestartPolicy,
    Run,
    Supervisor,
)

NEVER = float("inf")


class LongestWait(Random):
    """Jitter that always draws the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.fixture
def supervisor(nursery: trio.Nursery) -> Supervisor:
    """A supervisor that waits 1, 2, 4 ... 300 s, without jitter."""
    return Supervisor(nursery, random=LongestWait())


def only(supervisor: Supervisor) -> TaskStatus:
    """Return the status of the only task."""
    (status,) = supervisor.statuses()
    return status


async def forever(heartbeat: Heartbeat) -> None:
    """Run in silence."""
    await trio.sleep_forever()


async def busily(heartbeat: Heartbeat) -> None:
    """Finish something every second."""
    while True:
        heartbeat.beat()
        await trio.sleep(1)


async def crash(heartbeat: Heartbeat) -> None:
    """Crash at once."""
    raise ValueError("no such luck")


async def test_a_crash_is_restarted_after_growing_delays(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """The delay doubles with every crash, up to the policy's most, and never ends."""
    starts = []

    async def run(heartbeat: Heartbeat) -> None:
        starts.append(trio.current_time())
        raise ValueError

    supervisor.start("t", run, RestartPolicy(first_s=1, most_s=10), stall_after=60)
    await trio.sleep(40)

    assert starts == [0, 1, 3, 7, 15, 25, 35]


async def test_a_task_is_still_restarted_after_thousands_of_crashes(
    supervisor: Supervisor,
    autojump_clock: MockClock,
) -> None:
    """The doubling doesn't overflow: a task isn't given up on after a week either."""
    supervisor.start("t", crash, RestartPolicy(most_s=5), stall_after=60)

    await trio.sleep(10_000)

    assert only(supervisor).restarts > 1900
    assert only(supervisor).state == "backing off"


@pytest.mark.parametrize("seed", range(20))
async def test_jitter_stays_in_the_upper_half_of_the_delay(
    nursery: trio.Nursery, autojump_clock: MockClock, seed: int
) -> None:
    """Each delay lies between half the longest wait and the whole of it."""
    supervisor = Supervisor(nursery, random=Random(seed))
    starts = []

    async def run(heartbeat: Heartbeat) -> None:
        starts.append(trio.current_time())
        raise ValueError

    supervisor.start("t", run, RestartPolicy(first_s=8, most_s=32), stall_after=60)
    await trio.sleep(100)

    delays = [later - earlier for earlier, later in pairwise(starts[:4])]
    shares = [delay / longest for delay, longest in zip(delays, (8, 16, 32), strict=True)]
    assert all(0.5 <= share <= 1 for share in shares)
    assert len(set(shares)) == 3


async def test_quiet_running_resets_the_delay(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """After a run of the policy's quiet time the next delay is the first one again."""
    starts = []

    async def run(heartbeat: Heartbeat) -> None:
        starts.append(trio.current_time())
        if len(starts) == 4:
            await trio.sleep(100)
        raise ValueError

    supervisor.start("t", run, RestartPolicy(quiet_s=100), stall_after=NEVER)
    await trio.sleep(111)

    assert starts == [0, 1, 3, 7, 108, 110]


async def test_a_crash_is_logged_with_its_traceback_and_shown(
    supervisor: Supervisor, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the traceback; the status has the last error and the time of the next start."""
    supervisor.start("prices", crash, RestartPolicy(first_s=4), stall_after=60)

    await trio.sleep(1)

    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "task crashed")
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError
    status = only(supervisor)
    assert (status.name, status.state, status.restarts) == ("prices", "backing off", 1)
    assert status.last_error == "ValueError: no such luck"
    assert (status.since, status.next_start) == (1, 3)


async def test_the_last_error_is_kept_while_the_task_runs_again(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """Someone who looks later still sees why a task was restarted."""
    runs = iter([crash, busily])

    async def run(heartbeat: Heartbeat) -> None:
        await next(runs)(heartbeat)

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(9.5)

    status = only(supervisor)
    assert (status.state, status.last_error) == ("running", "ValueError: no such luck")
    assert (status.since, status.last_beat, status.next_start) == (8.5, 0.5, None)


async def test_the_last_error_holds_no_secret(
    supervisor: Supervisor, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status leaves the process, so that secrets are hidden there as in the log."""
    monkeypatch.setattr(logs, "_secrets", {})
    logs.redact("luck")

    supervisor.start("t", crash, stall_after=60)
    await trio.sleep(0.5)

    assert only(supervisor).last_error == "ValueError: no such ***"


async def test_an_operators_error_is_one_warning_with_its_remedy(
    supervisor: Supervisor, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A PricecheckError is told without a traceback, even out of the task's own nursery."""

    async def fail() -> None:
        raise StoreError("the disk is full", remedy="make room")

    async def run(heartbeat: Heartbeat) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(0.5)

    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    fields = record.__dict__["fields"]
    assert (fields["error"], fields["remedy"]) == ("the disk is full", "make room")
    assert only(supervisor).last_error == "the disk is full (make room)"


async def test_a_group_of_errors_is_a_crash(
    supervisor: Supervisor, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Several errors at once are logged together and restarted like one."""

    async def run(heartbeat: Heartbeat) -> None:
        raise ExceptionGroup("two", [ValueError("a"), OSError("b")])

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(1.5)

    assert only(supervisor).restarts == 2
    error = caplog.records[0].exc_info and caplog.records[0].exc_info[1]
    assert isinstance(error, ExceptionGroup)
    assert len(error.exceptions) == 2


async def test_an_early_return_is_restarted(
    supervisor: Supervisor, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that returns is treated like one that crashed."""

    async def run(heartbeat: Heartbeat) -> None:
        await trio.sleep(5)

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(6.5)

    status = only(supervisor)
    assert (status.state, status.restarts, status.stalls) == ("running", 1, 0)
    assert status.last_error == "returned early"
    assert [record.getMessage() for record in caplog.records] == ["task returned early"]


async def test_a_silent_task_is_cancelled_and_restarted(
    supervisor: Supervisor, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Silence of stall_after seconds after the start is a stall; it waits out the backoff too."""
    starts = []

    async def run(heartbeat: Heartbeat) -> None:
        starts.append(trio.current_time())
        await trio.sleep_forever()

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(125)

    assert starts == [0, 61, 123]
    status = only(supervisor)
    assert (status.restarts, status.stalls, status.last_error) == (2, 2, "stalled")
    assert {record.getMessage() for record in caplog.records} == {"task stalled"}
    assert supervisor.alive()


async def test_beats_keep_a_task_from_stalling(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """The silence is counted from the last beat."""
    supervisor.start("t", busily, stall_after=2)

    await trio.sleep(1000)

    assert only(supervisor).restarts == 0


async def test_a_stall_is_counted_from_the_last_beat(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """A task that beat at 10 s and fell silent is stalled at 10 s plus stall_after."""

    async def run(heartbeat: Heartbeat) -> None:
        await trio.sleep(10)
        heartbeat.beat()
        await trio.sleep_forever()

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(69.5)
    before = only(supervisor).stalls
    await trio.sleep(1)

    assert (before, only(supervisor).stalls) == (0, 1)


async def test_a_declared_wait_prolongs_the_silence(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """Until the declared time plus stall_after, silence is no stall; the status says why."""

    async def run(heartbeat: Heartbeat) -> None:
        heartbeat.expect(trio.current_time() + 1000, "waiting for 1,500 tokens")
        await trio.sleep_forever()

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(1059.5)
    before = only(supervisor)
    await trio.sleep(1)

    assert (before.state, before.why) == ("waiting", "waiting for 1,500 tokens")
    after = only(supervisor)
    assert (before.stalls, after.stalls) == (0, 1)
    assert (after.state, after.why) == ("backing off", "")
    assert after.last_error == "stalled while waiting for 1,500 tokens"


async def test_a_beat_ends_a_declared_wait(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """After a beat the old declaration no longer protects a silent task."""

    async def run(heartbeat: Heartbeat) -> None:
        heartbeat.expect(NEVER, "waiting for work")
        await trio.sleep(10)
        heartbeat.beat()
        await trio.sleep_forever()

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(69.5)
    before = only(supervisor)
    await trio.sleep(1)

    assert (before.state, before.why, before.stalls) == ("running", "", 0)
    assert only(supervisor).stalls == 1


async def test_a_declared_wait_can_be_shortened(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """A second declaration counts, even one that ends sooner."""

    async def run(heartbeat: Heartbeat) -> None:
        heartbeat.expect(1000, "long")
        await trio.sleep(1)
        heartbeat.expect(20, "short")
        await trio.sleep_forever()

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(80.5)

    assert only(supervisor).stalls == 1


async def test_a_run_does_not_inherit_the_wait_of_the_one_before(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """A crash ends a declared wait as well: the next run is stalled after stall_after."""

    async def run(heartbeat: Heartbeat) -> None:
        if only(supervisor).restarts == 0:
            heartbeat.expect(NEVER, "for ever")
            raise ValueError
        await trio.sleep_forever()

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(61.5)

    assert only(supervisor).stalls == 1


async def test_a_silent_worker_is_not_hidden_by_a_busy_one(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """Each of several workers has a heartbeat of its own; the whole run is cancelled."""

    async def run(heartbeat: Heartbeat) -> None:
        silent, busy = heartbeat.part(), heartbeat.part()
        silent.beat()
        await busily(busy)

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(59.5)
    before = only(supervisor)
    await trio.sleep(1)

    assert (before.stalls, before.last_beat) == (0, 0.5)
    assert only(supervisor).stalls == 1


async def test_a_workers_wait_ends_with_its_own_beat_alone(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """What one declares holds, whatever the others finish."""

    async def run(heartbeat: Heartbeat) -> None:
        waiting, busy = heartbeat.part(), heartbeat.part()
        waiting.expect(1000, "waiting for 1,500 tokens")
        await busily(busy)

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(1059.5)
    before = only(supervisor).stalls
    await trio.sleep(1)

    assert (before, only(supervisor).stalls) == (0, 1)


async def test_a_run_waits_while_all_its_workers_do(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """The reason shown is the one of the worker that goes on first."""

    async def run(heartbeat: Heartbeat) -> None:
        first, second = heartbeat.part(), heartbeat.part()
        second.expect(2000, "waiting for long")
        await trio.sleep(10)
        first.expect(1000, "waiting for less")
        await trio.sleep(10)
        second.beat()
        await trio.sleep(10)
        first.expect(25, "waiting for least")
        second.beat()
        await trio.sleep_forever()

    supervisor.start("t", run, stall_after=60)
    seen = []
    for _ in range(4):
        await trio.sleep(9)
        seen.append((only(supervisor).state, only(supervisor).why))
        await trio.sleep(1)

    working = ("running", "")
    assert seen == [working, ("waiting", "waiting for less"), working, working]


async def test_workers_of_the_run_before_are_forgotten(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """They have ended with it, and their silence is none of the next run's."""

    async def run(heartbeat: Heartbeat) -> None:
        worker = heartbeat.part()
        worker.beat()
        if only(supervisor).restarts == 0:
            raise ValueError
        await busily(worker)

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(1000)

    assert (only(supervisor).restarts, only(supervisor).stalls) == (1, 0)


async def test_a_task_that_defies_its_cancel_is_stuck(
    supervisor: Supervisor, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A shielded task turns alive() False, logs one ERROR, and restarts should it end at last."""

    async def run(heartbeat: Heartbeat) -> None:
        if only(supervisor).restarts:
            await busily(heartbeat)
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(60 + STUCK_AFTER_S - 0.5)
    before = supervisor.alive()
    await trio.sleep(1)
    meanwhile = (supervisor.alive(), only(supervisor).state)
    logged = [record.getMessage() for record in caplog.records]
    await trio.sleep(1000)

    assert before
    assert meanwhile == (False, "stuck")
    assert logged == ["task stuck"]
    assert supervisor.alive()
    assert (only(supervisor).state, only(supervisor).stalls) == ("running", 1)


async def test_beats_of_a_cancelled_task_do_not_make_it_less_stuck(
    supervisor: Supervisor,
    autojump_clock: MockClock,
) -> None:
    """Once cancelled, a task can't talk itself out of it."""
    shield = trio.CancelScope(shield=True)

    async def run(heartbeat: Heartbeat) -> None:
        with shield:
            await trio.sleep(70)
            await busily(heartbeat)

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(100)
    alive = supervisor.alive()
    shield.shield = False

    assert not alive


async def test_a_task_that_crashes_out_of_its_cancel_is_stalled(
    supervisor: Supervisor, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An error on the way out is logged, and the end still counts as a stall."""

    async def run(heartbeat: Heartbeat) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while closing")

    supervisor.start("t", run, stall_after=60)
    await trio.sleep(60.5)

    assert (only(supervisor).restarts, only(supervisor).stalls) == (1, 1)
    assert caplog.records[0].exc_info is not None
    assert str(caplog.records[0].exc_info[1]) == "while closing"


async def test_a_crashing_task_never_disturbs_its_neighbour(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """One task crashes, stalls or returns over and over while the other just goes on."""

    async def misbehave(heartbeat: Heartbeat) -> None:
        nth = supervisor.statuses()[0].restarts % 3
        if nth == 0:
            await crash(heartbeat)
        if nth == 1:
            await forever(heartbeat)

    supervisor.start("bad", misbehave, stall_after=60)
    supervisor.start("good", busily, stall_after=60)
    await trio.sleep(5000)

    bad, good = supervisor.statuses()
    assert bad.restarts > bad.stalls > 3
    assert (good.restarts, good.state, good.since) == (0, "running", 5000)


async def test_cancelling_the_nursery_ends_all_tasks(autojump_clock: MockClock) -> None:
    """Running, silent and backing-off tasks all end, each after its own clean-up, unrestarted."""
    ended = []

    async def clean_up(heartbeat: Heartbeat) -> None:
        try:
            await forever(heartbeat)
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(nursery)
        supervisor.start("silent", clean_up, stall_after=60)
        supervisor.start("busy", busily, stall_after=60)
        supervisor.start("backing off", crash, stall_after=60)
        await trio.sleep(10.1)
        restarts = [status.restarts for status in supervisor.statuses()]
        nursery.cancel_scope.cancel()

    assert nursery.cancel_scope.cancelled_caught
    assert ended == ["cancelled"]
    assert [status.restarts for status in supervisor.statuses()] == restarts


async def test_an_error_beside_a_cancellation_is_logged_and_the_cancellation_passes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that breaks while being shut down neither escapes nor goes unseen."""

    async def break_on_the_way_out() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while closing")

    async def run(heartbeat: Heartbeat) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(break_on_the_way_out)
            inner.start_soon(trio.sleep_forever)

    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(nursery)
        supervisor.start("t", run, stall_after=60)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()

    assert [record.getMessage() for record in caplog.records] == ["task crashed"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_is_not_swallowed(
    autojump_clock: MockClock, error: type[BaseException]
) -> None:
    """KeyboardInterrupt and SystemExit leave the supervisor and end the nursery."""

    async def run(heartbeat: Heartbeat) -> None:
        raise error

    with pytest.RaisesGroup(error, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            supervisor = Supervisor(nursery)
            supervisor.start("t", run, stall_after=60)
            supervisor.start("neighbour", forever, stall_after=60)


async def test_started_once_every_task_was_entered(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """wait_started returns when all tasks have run, even those that crashed at once."""
    entered = []

    def task(name: str) -> None:
        async def run(heartbeat: Heartbeat) -> None:
            entered.append(name)
            await trio.sleep_forever()

        supervisor.start(name, run, stall_after=60)

    supervisor.start("crashing", crash, stall_after=60)
    task("a")
    task("b")
    await supervisor.wait_started()
    await wait_all_tasks_blocked()

    assert sorted(entered) == ["a", "b"]


async def test_each_change_of_state_is_announced(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """on_change comes after each change and finds the new state; a mere beat is none."""
    seen: list[str] = []

    def look() -> None:
        seen.append(only(watched).state)

    watched = Supervisor(nursery, random=LongestWait(), on_change=look)

    async def run(heartbeat: Heartbeat) -> None:
        heartbeat.expect(trio.current_time() + 5, "waiting for tokens")
        await trio.sleep(1)
        heartbeat.beat()
        heartbeat.beat()
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    watched.start("t", run, stall_after=60)
    await trio.sleep(101.5)

    assert seen == ["running", "waiting", "running", "stuck", "backing off"]


async def test_a_task_that_has_not_begun_yet_is_shown_like_one_that_has(
    supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    """Status may be asked for in that moment."""
    supervisor.start("t", forever, stall_after=60)

    assert only(supervisor) == TaskStatus(
        name="t",
        state="running",
        why="",
        restarts=0,
        stalls=0,
        last_error=None,
        since=0,
        last_beat=None,
        next_start=None,
    )


async def test_the_next_start_is_told_to_the_end(
    supervisor: Supervisor, mock_clock: MockClock
) -> None:
    """In seconds from now, and never less than none."""
    supervisor.start("t", crash, stall_after=60)
    await wait_all_tasks_blocked()

    told = []
    for seconds in (0.75, 0.25):
        mock_clock.jump(seconds)
        told.append(only(supervisor).next_start)

    assert told == [0.25, 0.0]


async def fail(heartbeat: Heartbeat) -> None:
    """Fail in a way that has a remedy."""
    raise StoreError("the disk is full", remedy="make room")


async def return_early(heartbeat: Heartbeat) -> None:
    """Have nothing to do."""


async def wait_in_vain(heartbeat: Heartbeat) -> None:
    """Declare a wait, and outlive it."""
    heartbeat.expect(trio.current_time() + 5, "tokens")
    await trio.sleep_forever()


async def hang(heartbeat: Heartbeat) -> None:
    """Not even end when cancelled."""
    with trio.CancelScope(shield=True):
        await trio.sleep(1_000)


@pytest.mark.parametrize(
    ("run", "event", "fields"),
    [
        (crash, "task crashed", {}),
        (fail, "task failed", {"error": "the disk is full", "remedy": "make room"}),
        (return_early, "task returned early", {}),
        (wait_in_vain, "task stalled", {"wait": "tokens"}),
        (forever, "task stalled", {"wait": None}),
    ],
)
async def test_each_end_is_logged_with_who_how_often_and_when_again(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    run: Run,
    event: str,
    fields: dict[str, object],
) -> None:
    """What an operator reads in the journal."""
    supervisor = Supervisor(nursery, random=LongestWait())

    supervisor.start("deals", run, RestartPolicy(first_s=1.25), stall_after=10)
    await trio.sleep(15.5)

    first = next(record for record in caplog.records if record.name.endswith("supervisor"))
    about = {"task": "deals", "restarts": 1, "restart_in_s": 1.2}
    assert first.getMessage() == event
    assert first.__dict__["fields"] == about | fields


async def test_a_task_that_cannot_be_ended_is_logged_by_name(
    supervisor: Supervisor, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With how long it has outlived its cancel."""
    supervisor.start("deals", hang, stall_after=10)
    await trio.sleep(10 + STUCK_AFTER_S + 1)

    (told,) = caplog.records
    assert told.getMessage() == "task stuck"
    assert told.__dict__["fields"] == {
        "task": "deals",
        "error": f"still running {STUCK_AFTER_S:g} s after its cancel",
    }
