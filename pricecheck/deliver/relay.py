"""The loop that brings the outbox's records to a sink, whatever happens to the sink.

At least once, in order, with one batch in memory at most however long the backlog is. The
relay never gives up and never asks anybody: while the sink is away the backlog grows, and once it
is back, delivery goes on by itself. It knows neither collectors nor the sink's protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Final

import trio

from pricecheck.deliver.sink import (
    Receipt,
    Sink,
    SinkAwayError,
    SinkBusyError,
    SinkError,
    SinkUnsureError,
)
from pricecheck.deliver.state import RelayState, RelayStatus
from pricecheck.errors import StoreError
from pricecheck.logs import kv, redacted
from pricecheck.outbox import Commit, DeadLetter, Outbox, Stored
from pricecheck.supervisor import Heartbeat
from pricecheck.timescale import TimeScale

log = logging.getLogger(__name__)

# Asked for once a second rather than told by each commit: no wake-up can be lost, what another
# process puts there (`pricecheck outbox retry`) is found as well, and an empty answer costs some
# 0.1 ms. While there is a backlog, nothing waits for it.
POLL_S: Final = 1.0

FIRST_PAUSE_S: Final = 0.25
FIRST_PAUSE_UNSURE_S: Final = 60.0
# Knocking costs next to nothing, and a sink that is back should not wait.
LONGEST_PAUSE_AWAY_S: Final = 2.0
LONGEST_PAUSE_BUSY_S: Final = 30.0
LONGEST_PAUSE_UNSURE_S: Final = 300.0
WARN_AFTER_S: Final = 60.0
"""A sink that is away is a matter for people when it has been away for so long."""

CLOSE_WITHIN_S: Final = 5.0


class Relay:
    """Brings everything after its cursor to one sink; runs under the supervisor."""

    def __init__(
        self,
        sink: Sink,
        outbox: Outbox,
        *,
        time: TimeScale | None = None,
        random: Random | None = None,
    ) -> None:
        self.name = sink.name
        self._sink = sink
        self._outbox = outbox
        self._time = time or TimeScale()
        self._random = random or Random()
        self._peer: str | None = None  # who answered; None while there is no connection
        self._state: RelayState = "starting"
        self._delivered = self._refused = self._failures = 0
        self._pause = FIRST_PAUSE_S
        self._trouble: str | None = None
        self._trouble_since = 0.0
        self._warned = False  # of this trouble
        self._told: set[str] = set()  # the sink's notes that are in the log already
        self._last_error: str | None = None
        self._last_error_at: float | None = None
        self._last_delivery_at: float | None = None
        self._next_try_at: float | None = None

    async def run(self, heartbeat: Heartbeat) -> None:
        """Deliver until cancelled; what is under way then is delivered again at the next run.

        Raises StoreError when the outbox can't be read; the supervisor starts it again.
        """
        try:
            await self._connect(heartbeat)  # with nothing to deliver, too: trouble shows early
            self._note_success()
            while True:
                # Not read ahead: with a batch under way, both would only wait for Python's lock.
                batch = await self._read()
                if batch:
                    self._state = "delivering"
                    await self._deliver(batch, heartbeat)
                    self._note_success()
                else:
                    heartbeat.expect(self._in(POLL_S), "nothing to deliver")
                    await trio.sleep_until(self._in(POLL_S))
        finally:
            self._peer = self._next_try_at = None
            self._state = "starting"
            with trio.CancelScope(shield=True, deadline=self._in(CLOSE_WITHIN_S)):
                await self._sink.close()

    async def status(self) -> RelayStatus:
        """Return how delivery is going; the outbox is asked in a thread."""
        backlog = await trio.to_thread.run_sync(self._outbox.backlog, self.name)
        waits_ms = 0 if backlog.oldest_ms is None else self._time.now_ms() - backlog.oldest_ms
        now = trio.current_time()
        error_at, delivery_at, try_at = (
            self._last_error_at,
            self._last_delivery_at,
            self._next_try_at,
        )
        resting = self._state in ("idle", "delivering") and not self._sink.limits.records
        return RelayStatus(
            name=self.name,
            state="resting" if resting and backlog.count else self._state,
            peer=self._peer,
            backlog=backlog.count,
            lag_s=max(0.0, waits_ms / 1000),
            delivered=self._delivered,
            refused=self._refused,
            failures=self._failures,
            trouble=self._trouble,
            last_error=self._last_error,
            last_error_s=None if error_at is None else now - error_at,
            last_delivery_s=None if delivery_at is None else now - delivery_at,
            next_try_s=None if try_at is None else max(0.0, try_at - now),
            notes=tuple(self._sink.notes),
        )

    async def _read(self) -> list[Stored]:
        """Return what comes next, as much as the sink takes at once."""
        limits = self._sink.limits
        read = partial(self._outbox.read, self.name, limit=limits.records, max_bytes=limits.bytes)
        return await trio.to_thread.run_sync(read)

    async def _connect(self, heartbeat: Heartbeat) -> None:
        """Reach the sink, however long that takes."""
        while self._peer is None:
            try:
                self._peer = await self._sink.connect()
            except SinkError as error:
                await self._back_off(error, heartbeat)
        if self._trouble is None:  # or it is told when a batch has got through
            log.info("sink connected", extra=kv(relay=self.name, sink=self._peer))
        for note in sorted(set(self._sink.notes) - self._told):
            self._told.add(note)
            log.warning("sink differs", extra=kv(relay=self.name, note=note))
        heartbeat.beat()

    async def _deliver(self, batch: list[Stored], heartbeat: Heartbeat) -> None:
        """Bring a batch to the sink, however often that takes."""
        pending: Sequence[Stored] = batch
        while pending:
            await self._await_opening(heartbeat)
            try:
                receipt = await self._sink.send(pending)
            except SinkError as error:
                # Whoever answers next may be another, or have lost what was made there.
                self._peer = None
                await self._back_off(error, heartbeat)
                await self._connect(heartbeat)
                continue
            left = [pending[place] for place in sorted(receipt.again)]
            # Only the run before the first that is left: after a crash the rest goes once more.
            done = left[0].seq - 1 if left else batch[-1].seq
            await self._settle(self._dead_letters(pending, receipt), done, heartbeat)
            self._delivered += len(pending) - len(left) - len(receipt.refused)
            self._refused += len(receipt.refused)
            if len(left) < len(pending):
                self._last_delivery_at = trio.current_time()
                heartbeat.beat()
            if left:
                reason = next(iter(receipt.again.values()))
                await self._back_off(SinkBusyError(f"{len(left)} records: {reason}"), heartbeat)
            pending = left

    async def _await_opening(self, heartbeat: Heartbeat) -> None:
        """Wait while the sink takes nothing."""
        while not self._sink.limits.records:
            heartbeat.expect(self._in(POLL_S), "the sink takes nothing now")
            await trio.sleep_until(self._in(POLL_S))

    def _dead_letters(self, batch: Sequence[Stored], receipt: Receipt) -> tuple[DeadLetter, ...]:
        now_ms = self._time.now_ms()
        letters = tuple(
            DeadLetter(
                source=self.name,
                kind=batch[place].record.kind,
                id=batch[place].record.id,
                key=batch[place].record.key,
                reason=redacted(reason),
                body=batch[place].record.body,
                at_ms=now_ms,
            )
            for place, reason in receipt.refused.items()
        )
        if letters:
            first, count = letters[0], len(letters)
            about = kv(
                relay=self.name, count=count, first=f"{first.kind} {first.id}", reason=first.reason
            )
            log.warning("records refused", extra=about)
        return letters

    async def _settle(
        self, letters: tuple[DeadLetter, ...], done: int, heartbeat: Heartbeat
    ) -> None:
        """Keep the dead letters, then move the cursor; where that fails, try again and again.

        Or all that has just been delivered would be so once more.
        """
        while True:
            try:
                if letters:
                    await trio.to_thread.run_sync(self._outbox.commit, Commit(dead_letters=letters))
                await trio.to_thread.run_sync(self._outbox.acknowledge, self.name, done)
            except StoreError as error:
                await self._back_off(error, heartbeat)
            else:
                return

    async def _back_off(self, error: SinkError | StoreError, heartbeat: Heartbeat) -> None:
        first, most = _pauses(error)
        longest = min(max(self._pause, first), most)
        self._pause = 2 * longest
        self._note_error(error)
        self._failures += 1
        before, self._state = self._state, "backing off"
        self._next_try_at = self._in(self._random.uniform(longest / 2, longest))
        heartbeat.expect(self._next_try_at, f"not delivering: {redacted(error.message)}")
        await trio.sleep_until(self._next_try_at)
        self._next_try_at = None
        self._state = before

    def _note_error(self, error: SinkError | StoreError) -> None:
        said, now = redacted(str(error)), trio.current_time()
        self._last_error, self._last_error_at = said, now
        if self._trouble is None:
            self._trouble_since = now
        lasts = self._trouble_since + WARN_AFTER_S * self._time.factor
        # A sink that restarts is no matter for a person.
        passes = isinstance(error, SinkAwayError) and now < lasts
        if said != self._trouble or not (passes or self._warned):
            self._trouble, self._warned = said, not passes
            level = logging.INFO if passes else logging.WARNING
            fields = kv(relay=self.name, error=error.message, remedy=error.remedy or None)
            log.log(level, "not delivering", extra=fields)

    def _note_success(self) -> None:
        self._pause = FIRST_PAUSE_S
        self._state = "idle"
        if self._trouble is not None:
            self._trouble, self._warned = None, False
            log.info("delivering again", extra=kv(relay=self.name, sink=self._peer))

    def _in(self, seconds: float) -> float:
        """Return the trio time in so many real seconds: a sink's time is never simulated."""
        return trio.current_time() + seconds * self._time.factor


def _pauses(error: SinkError | StoreError) -> tuple[float, float]:
    """Return how many seconds the first and the longest pause after such errors last."""
    if isinstance(error, SinkAwayError):
        return FIRST_PAUSE_S, LONGEST_PAUSE_AWAY_S
    if isinstance(error, SinkUnsureError):
        return FIRST_PAUSE_UNSURE_S, LONGEST_PAUSE_UNSURE_S
    return FIRST_PAUSE_S, LONGEST_PAUSE_BUSY_S
