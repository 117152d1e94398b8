"""How every call to Keepa is paid for, and how what it brought is kept.

`Spender.spend` is the whole life of a call: tokens are taken, the request is sent, the server's
count is taken over, and the answer's facts are committed together with the call's metric. From
the first sent byte to the commit it is not cut off: a cancelled task gets a few seconds of
grace to bring home what it has paid for.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Final, Protocol, TypeVar

import msgspec
import trio

from pricecheck.bucket import Bucket, Reservation
from pricecheck.collect.calls import CallLog
from pricecheck.keepa.client import KeepaClient
from pricecheck.keepa.errors import KeepaError, UnreachableError
from pricecheck.keepa.time import to_rfc3339
from pricecheck.keepa.wire import Envelope
from pricecheck.logs import kv
from pricecheck.outbox import Commit, DiskFullError, Outbox
from pricecheck.supervisor import Heartbeat
from pricecheck.timescale import TimeScale

log = logging.getLogger(__name__)

GRACE_S: Final = 6.0
"""How long a call under way may go on after its task was cancelled; SIGTERM allows 10 s."""

_DISK_RETRY_S: Final = 10.0


class Priority(IntEnum):
    """Whose turn it is at the bucket; lower goes first."""

    DEALS = 0
    BESTSELLERS = 1
    PRICES = 2


class _Answer(Protocol):
    @property
    def envelope(self) -> Envelope | None: ...


A = TypeVar("A", bound=_Answer)


class Spender:
    """The one way to spend tokens, shared by all collectors."""

    def __init__(
        self,
        client: KeepaClient,
        bucket: Bucket,
        outbox: Outbox,
        calls: CallLog,
        time: TimeScale,
    ) -> None:
        self.client = client
        self.bucket = bucket
        self.time = time
        self.store_trouble: str | None = None  # why commits fail now, for status
        self._outbox = outbox
        self._calls = calls
        self._asking = trio.Lock()

    async def settle_doubts(self) -> None:
        """Ask /token if the bucket is uncertain: once, however many wait. Raises KeepaError."""
        async with self._asking:
            if not self.bucket.uncertain:
                return
            try:
                self.bucket.confirm(await self.client.token())
            finally:
                await self.commit(Commit())

    async def spend(
        self,
        operation: str,
        units: int,
        priority: Priority,
        heartbeat: Heartbeat,
        *,
        send: Callable[[], Awaitable[A]],
        keep: Callable[[A], Commit],
    ) -> A:
        """Pay for a call of `units` products (or 1), send it, and commit what `keep` makes of it.

        `keep` runs in a thread and must handle what single items do wrong. Raises KeepaError
        when the call brought nothing, TooExpensiveError when it may not be made. Cancelled while
        it waits for tokens it leaves no trace; later, the call is brought to its end.
        """
        await self.settle_doubts()
        cost = self.bucket.estimate(operation, units)
        wait_s = self.bucket.expected_wait_s(cost)
        if wait_s > 0:
            until = self.time.now_ms() + round(wait_s * 1000)
            heartbeat.expect(
                trio.current_time() + wait_s,
                f"waiting for {cost:,} tokens until {to_rfc3339(until)[11:16]}",
            )
        reservation = await self.bucket.take(cost, priority)

        async def pay() -> A:
            answer = await self._pay(reservation, operation, units, send)
            with trio.CancelScope(shield=True):
                commit = await trio.to_thread.run_sync(keep, answer)
            await self.commit(commit)
            return answer

        answer = await finish(pay, GRACE_S * self.time.factor)
        heartbeat.beat()
        return answer

    async def commit(self, commit: Commit) -> None:
        """Commit, with the metrics of the calls so far; while the disk is full, wait for room.

        Never cut off: cancelled while it waits for room, it tries one last time.
        """
        learned = len(commit.records)
        records = (*commit.records, *self._calls.drain())
        commit = msgspec.structs.replace(commit, records=records)
        while True:
            try:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._outbox.commit, commit)
            except DiskFullError as error:
                if self.store_trouble is None:
                    log.error("disk full", extra=kv(reason=str(error), unsaved=len(records)))
                self.store_trouble = error.message
                try:
                    await trio.sleep(_DISK_RETRY_S)
                except trio.Cancelled:
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(self._outbox.commit, commit)
                    raise
            else:
                self.store_trouble = None
                self._calls.note_records(learned)
                return

    async def _pay(
        self,
        reservation: Reservation,
        operation: str,
        units: int,
        send: Callable[[], Awaitable[A]],
    ) -> A:
        """Send, and settle the reservation by what the answer says of the bucket."""
        with reservation:
            try:
                answer = await send()
            except KeepaError as error:
                if error.envelope is not None:
                    reservation.settle(error.envelope)
                elif isinstance(error, UnreachableError) or not error.paid:
                    reservation.release()
                await self.commit(Commit())
                raise
            if answer.envelope is not None:
                reservation.settle(answer.envelope)
                self.bucket.learn(operation, units, answer.envelope.tokens_consumed)
        return answer


T = TypeVar("T")


async def finish(work: Callable[[], Awaitable[T]], grace_s: float) -> T:
    """Run `work`; cancelled meanwhile, let it go on for up to `grace_s` seconds before it ends."""
    result: list[T] = []
    shield = trio.CancelScope(shield=True)

    async def shorten() -> None:
        try:
            await trio.sleep_forever()
        finally:
            shield.deadline = min(shield.deadline, trio.current_time() + grace_s)

    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shorten)
        with shield:
            try:
                result.append(await work())
            except Exception as error:  # noqa: BLE001  # carried out of the nursery ungrouped
                failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not result:
        # The grace ran out: only an outer cancellation shortens it, and that is under way.
        await trio.lowlevel.checkpoint()
    return result[0]
