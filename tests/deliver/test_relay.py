"""Tests of pricecheck/deliver/relay.py: a real outbox, a scripted sink, and no real waiting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from pricecheck import logs
from pricecheck.deliver.relay import Relay
from pricecheck.deliver.sink import (
    Limits,
    Receipt,
    SinkAwayError,
    SinkBusyError,
    SinkError,
    SinkUnsureError,
)
from pricecheck.errors import StoreError
from pricecheck.outbox import Commit, DiskFullError, Outbox
from pricecheck.supervisor import Supervisor
from pricecheck.timescale import TimeScale
from tests.deliver.conftest import ScriptedSink, change, drained, put, running, until

AWAY = SinkAwayError("nobody there")
BUSY = SinkBusyError("too much")
UNSURE = SinkUnsureError("no answer")


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outbox is asked in place: the clock would jump ahead while a thread is at work."""

    async def run_here(work: Callable[..., Any], *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_here)


def fill(outbox: Outbox, count: int) -> list[str]:
    """Put that many records into the outbox and return their ids."""
    records = [change(number) for number in range(count)]
    put(outbox, *records)
    return [record.id for record in records]


def waiting(outbox: Outbox) -> list[str]:
    """What is after the cursor, as a new start would read it."""
    return [one.record.id for one in outbox.read("scripted", limit=10_000, max_bytes=1 << 30)]


def pauses(sink: ScriptedSink) -> list[float]:
    """The seconds between one call of the sink and the next."""
    return [later - before for (before, _), (later, _) in pairwise(sink.calls)]


async def test_a_sink_that_rests_is_given_nothing_and_then_all_at_once(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """Nor what failed before; it is no trouble, and the supervisor hears why it takes long."""
    sink = ScriptedSink(BUSY, None)
    relay = Relay(sink, outbox)
    takes, sink.limits = sink.limits, Limits(0, 0)

    async with running(relay):
        fill(outbox, 3)
        await trio.sleep(4 * 3_600)
        assert sink.calls == []
        resting = await relay.status()
        sink.limits = takes
        await until(lambda: sink.calls)
        sink.limits = Limits(0, 0)
        await trio.sleep(4 * 3_600)
        assert len(sink.calls) == 1
        sink.limits = takes
        await drained(relay)

    assert (resting.state, resting.trouble, resting.backlog) == ("resting", None, 3)
    assert sink.calls[0][1] == sink.calls[1][1]
    assert len(sink.calls) == 2


async def test_everything_arrives_in_its_order(outbox: Outbox, autojump_clock: MockClock) -> None:
    """Batches no larger than the sink's limit, none twice, and the cursor at the end."""
    ids = fill(outbox, 250)
    sink = ScriptedSink()
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)

    assert sink.arrived == ids
    assert [len(batch) for _, batch in sink.calls] == [100, 100, 50]


async def test_what_comes_later_is_found_within_a_second(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """A record stored while nothing waits needs nobody to announce it."""
    sink = ScriptedSink()
    relay = Relay(sink, outbox)

    async with running(relay):
        await trio.sleep(10)
        began = trio.current_time()
        fill(outbox, 1)
        await until(lambda: sink.calls)

    assert sink.calls[0][0] - began <= 1.0


@pytest.mark.parametrize("error", [AWAY, BUSY], ids=["away", "busy"])
async def test_a_failed_batch_is_tried_again_until_it_arrives(
    outbox: Outbox, autojump_clock: MockClock, error: SinkBusyError
) -> None:
    """Nothing is skipped and nothing overtakes, however often the sink fails."""
    ids = fill(outbox, 150)
    sink = ScriptedSink(error, error, error, None)
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)

    assert [batch for _, batch in sink.calls] == [ids[:100]] * 4 + [ids[100:]]


async def test_an_unreachable_sink_is_knocked_at_until_it_answers(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """The start-up race: the sink comes up a minute after us and misses nothing."""
    ids = fill(outbox, 3)
    sink = ScriptedSink()
    sink.connects = [AWAY] * 30
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)

    assert sink.arrived == ids
    assert sink.connected == 1


async def test_only_what_did_not_arrive_is_sent_again(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """Of a batch that arrived in part, the rest alone goes once more, in its order."""
    ids = fill(outbox, 4)
    sink = ScriptedSink(Receipt(again={3: "429", 1: "429"}), Receipt(again={0: "429"}), None)
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)

    assert [batch for _, batch in sink.calls] == [ids, [ids[1], ids[3]], [ids[1]]]


async def test_the_cursor_moves_over_the_unbroken_run_only(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """After a kill, what follows the first record that is missing is delivered once more."""
    ids = fill(outbox, 5)
    sink = ScriptedSink(Receipt(again={2: "429"}))
    sink.answers.append(Receipt(again={0: "429"}))
    relay = Relay(sink, outbox)

    async with running(relay):
        await until(lambda: len(sink.calls) > 2)
        left = waiting(outbox)

    assert left == ids[2:]


async def test_a_refused_record_becomes_a_dead_letter_and_the_rest_goes_on(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """It is kept with its body and the sink's own reason, and holds nobody up."""
    ids = fill(outbox, 120)
    sink = ScriptedSink(Receipt(refused={7: "mapper_parsing: no number"}), None)
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)
        status = await relay.status()

    [letter] = outbox.dead_letters(source="scripted")
    assert (letter.kind, letter.id, letter.reason) == (
        "change",
        ids[7],
        "mapper_parsing: no number",
    )
    assert letter.body == change(7).body
    assert sink.arrived == ids
    assert (status.delivered, status.refused) == (119, 1)


@pytest.mark.parametrize(
    ("error", "first", "most"), [(AWAY, 0.25, 2), (BUSY, 0.25, 30), (UNSURE, 60, 300)]
)
async def test_pauses_grow_with_jitter_up_to_a_limit(
    outbox: Outbox, autojump_clock: MockClock, error: SinkError, first: float, most: float
) -> None:
    """Whoever is away is asked again within seconds; whoever is overloaded is left in peace.

    And people most of all, who may see each attempt.
    """
    fill(outbox, 1)
    sink = ScriptedSink(error)
    relay = Relay(sink, outbox)

    async with running(relay):
        await trio.sleep(20 * most)

    waits = pauses(sink)
    assert first / 2 <= waits[0] <= first
    assert all(most / 2 <= wait <= most for wait in waits[12:])
    assert len(set(waits[12:])) > 1


async def test_after_a_success_the_first_pause_is_short_again(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """An outage yesterday does not slow down the answer to one today."""
    fill(outbox, 101)
    sink = ScriptedSink(*[BUSY] * 9, None, BUSY, None)
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)

    assert pauses(sink)[8] > 10
    assert pauses(sink)[-1] <= 0.25


async def test_status_tells_of_an_outage_and_of_its_end(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """State, backlog, the error in words, when the next try is; afterwards no trouble."""
    fill(outbox, 5)
    sink = ScriptedSink(BUSY)
    relay = Relay(sink, outbox)

    async with running(relay):
        await until(lambda: sink.calls)
        await trio.sleep(60)
        during = await relay.status()
        sink.answers = [None]
        await drained(relay)
        await trio.sleep(5)
        after = await relay.status()

    assert (during.state, during.backlog, during.trouble) == ("backing off", 5, "too much")
    assert during.next_try_s is not None
    assert 0 <= during.next_try_s <= 30
    assert during.failures > 3
    assert (after.state, after.backlog, after.lag_s, after.trouble) == ("idle", 0, 0, None)
    assert (after.delivered, after.last_error, after.peer) == (5, "too much", "a script")


async def test_lag_is_the_age_of_the_oldest_that_waits(
    outbox: Outbox, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from its commit, not from Keepa's time."""
    fill(outbox, 2)
    created_ms = outbox.backlog("scripted").oldest_ms
    assert created_ms is not None
    monkeypatch.setattr(TimeScale, "now_ms", lambda _: created_ms + 90_000)

    status = await Relay(ScriptedSink(), outbox).status()

    assert (status.state, status.backlog, status.lag_s) == ("starting", 2, 90)


async def test_a_cancelled_batch_is_delivered_by_the_next_run(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """Nothing that was under way counts as delivered, and the sink is closed."""
    ids = fill(outbox, 3)
    sink = ScriptedSink()
    sink.open = trio.Event()
    relay = Relay(sink, outbox)

    async with running(relay):
        await until(lambda: sink.calls)
    sink.open.set()
    async with running(relay):
        await drained(relay)

    assert [batch for _, batch in sink.calls] == [ids, ids]
    assert sink.closed == 2


async def test_one_batch_is_in_memory_at_most(
    outbox: Outbox, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the sink hangs, only the batch that is with it was read, whatever the backlog."""
    fill(outbox, 1_000)
    read: list[int] = []
    plain = outbox.read

    def noted(*args: Any, **kwargs: Any) -> Any:
        batch = plain(*args, **kwargs)
        read.append(len(batch))
        return batch

    monkeypatch.setattr(outbox, "read", noted)
    sink = ScriptedSink()
    sink.open = trio.Event()
    relay = Relay(sink, outbox)

    async with running(relay):
        await until(lambda: sink.calls)
        await trio.sleep(600)

    assert read == [100]


async def test_a_full_disk_of_ours_holds_delivery_up_and_loses_nothing(
    outbox: Outbox, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused record stays with us until its dead letter can be stored."""
    ids = fill(outbox, 2)
    full = [True] * 3
    plain = outbox.commit

    def commit(what: Commit) -> int:
        if full:
            full.pop()
            raise DiskFullError("no room")
        return plain(what)

    monkeypatch.setattr(outbox, "commit", commit)
    sink = ScriptedSink(Receipt(refused={1: "bad"}), None)
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)

    assert [letter.id for letter in outbox.dead_letters()] == [ids[1]]
    assert len(sink.calls) == 1


async def test_a_locked_outbox_lets_nothing_be_told_twice(
    outbox: Outbox, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been delivered is noted as soon as that can be, and not delivered again."""
    fill(outbox, 2)
    locked = [True] * 3
    plain = outbox.acknowledge

    def acknowledge(relay: str, seq: int) -> None:
        if locked:
            locked.pop()
            raise StoreError("another process has kept the outbox locked")
        plain(relay, seq)

    monkeypatch.setattr(outbox, "acknowledge", acknowledge)
    sink = ScriptedSink()
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)

    assert locked == []
    assert len(sink.calls) == 1


async def test_a_bug_in_a_sink_stops_the_relay_for_a_moment_only(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """The supervisor starts it again, and it goes on at its cursor."""
    ids = fill(outbox, 101)
    sink = ScriptedSink(None, ZeroDivisionError(), None)
    relay = Relay(sink, outbox)

    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(nursery)
        supervisor.start("relay", relay.run, stall_after=60)
        await drained(relay)
        [task] = supervisor.statuses()
        nursery.cancel_scope.cancel()

    assert [batch for _, batch in sink.calls] == [ids[:100], ids[100:], ids[100:]]
    assert task.restarts == 1


@pytest.mark.parametrize("records", [0, 1], ids=["idle", "sink away"])
async def test_a_relay_that_waits_is_not_taken_for_stalled(
    outbox: Outbox, autojump_clock: MockClock, records: int
) -> None:
    """Hours without a record, or without the sink, are declared waits."""
    fill(outbox, records)
    relay = Relay(ScriptedSink(AWAY), outbox)

    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(nursery)
        supervisor.start("relay", relay.run, stall_after=10)
        await trio.sleep(3_600)
        [task] = supervisor.statuses()
        nursery.cancel_scope.cancel()

    assert task.restarts == 0
    assert task.state == "waiting"
    assert task.why in ("nothing to deliver", "not delivering: nobody there")


async def test_pauses_are_real_time_in_a_simulation(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    """A sink does not live in simulated time: at 1,000 times the speed a second has 1,000."""
    fill(outbox, 1)
    sink = ScriptedSink(AWAY)
    relay = Relay(sink, outbox, time=TimeScale(factor=1_000))

    async with running(relay):
        await trio.sleep(40_000)

    assert len(sink.calls) > 10
    assert all(1_000 <= wait <= 2_000 for wait in pauses(sink)[6:])


async def test_no_secret_reaches_dead_letters_log_or_status(
    outbox: Outbox, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What a sink quotes of our credentials is masked before anybody sees it."""
    logs.redact("s3cret")
    fill(outbox, 1)
    sink = ScriptedSink(SinkBusyError("no s3cret"), Receipt(refused={0: "s3cret!"}), None)
    relay = Relay(sink, outbox)

    with caplog.at_level(logging.INFO):
        async with running(relay):
            await drained(relay)
            status = await relay.status()

    [letter] = outbox.dead_letters()
    assert letter.reason == "***!"
    assert status.last_error == "no ***"


@pytest.mark.parametrize(
    ("outage", "levels"),
    [
        ([AWAY] * 5, ["INFO"]),
        ([AWAY] * 80, ["INFO", "WARNING"]),
        ([BUSY] * 5, ["WARNING"]),
        ([BUSY] * 20, ["WARNING"]),
    ],
)
async def test_an_outage_is_few_lines_in_the_log(
    outbox: Outbox,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    outage: list[Any],
    levels: list[str],
) -> None:
    """One when it begins and one when it is over, and a warning as soon as it needs a person."""
    fill(outbox, 1)
    relay = Relay(ScriptedSink(*outage, None), outbox)

    with caplog.at_level(logging.INFO, logger="pricecheck.deliver"):
        async with running(relay):
            await drained(relay)
            await trio.sleep(1)

    said = _events(caplog.records)
    told = [one.levelname for one in caplog.records if one.getMessage() == "not delivering"]
    assert told == levels
    assert said.count("delivering again") == said.count("sink connected") == 1


def _events(records: Iterable[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]
