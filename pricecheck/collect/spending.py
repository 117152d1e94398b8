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
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec
import trio

from pricecheck.bucket import Bucket, NoRefillError, Reservation
from pricecheck.collect.calls import CallLog
from pricecheck.errors import StoreError
from pricecheck.keepa.client import KeepaClient
from pricecheck.keepa.errors import KeepaError
from pricecheck.keepa.time import to_rfc3339
from pricecheck.keepa.wire import Envelope
from pricecheck.logs import kv
from pricecheck.outbox import Commit, Outbox
from pricecheck.supervisor import Heartbeat
from pricecheck.timescale import TimeScale

log = logging.getLogger(__name__)

GRACE_S: Final = 6.0
"""How long a call under way may go on after its task was cancelled; SIGTERM allows 10 s."""

_STORE_RETRY_S: Final = 5.0
_STORABLE: Final = "storable"
"""The mark that is set to see whether the outbox takes anything again."""


class Priority(IntEnum):
    """Whose turn it is at the bucket; lower goes first."""

    DEALS = 0
    BESTSELLERS = 1
    PRICES = 2
    DISCOVERY = 3


class _Answer(Protocol):
    @property
    def envelope(self) -> Envelope | None: ...


A = TypeVar("A", bound=_Answer)
T = TypeVar("T")


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
        self._asked = 0  # how often /token was asked
        self._unanswered: KeepaError | None = None  # why it did not answer when last asked
        self._no_refill = False
        self._under_way = 0
        self._draining = False
        self._drained = trio.Event()

    async def marks(self) -> dict[str, int]:
        """Return when each task last succeeded, Unix ms by task name. Raises StoreError."""
        return await trio.to_thread.run_sync(self._outbox.marks)

    async def settle_doubts(self) -> None:
        """Ask /token if the bucket is uncertain: once, however many wait. Raises KeepaError."""
        asked = self._asked
        async with self._asking:
            if not (self.bucket.uncertain or self._no_refill):
                return
            if self._asked != asked and self._unanswered is not None:
                raise self._unanswered  # asked while we waited
            self._asked += 1
            doubted = self.bucket.doubted
            try:
                self.bucket.confirm(await self.client.token(), doubted)
            except KeepaError as error:
                self._unanswered = error
                raise
            else:
                self._unanswered = None
                self._no_refill = False
            finally:
                await self._save_metrics()

    async def spare_units(self, operation: str, reserve: float) -> int:
        """Return how many units can be paid for with what nobody else needs.

        That is what is above `reserve`, a share of the bucket, while nobody waits. Raises
        KeepaError.
        """
        await self.settle_doubts()
        state = self.bucket.state()
        if state.waiting:
            return 0
        spare = self.bucket.available() - reserve * (state.capacity or 0)
        cost = max(state.costs[operation], 1e-3)
        return max(0, int(min(spare, self.bucket.limit) / cost))

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

        `keep` runs in a thread and must handle what single items do wrong; when it raises
        StoreError it is called again. Raises KeepaError when the call brought nothing,
        TooExpensiveError and NoRefillError when it may not be made. Cancelled while it waits for
        tokens it leaves no trace; later, the call is brought to its end.
        """
        if self.store_trouble is not None:  # what can't be kept is not to be paid for
            await self.commit(Commit(marks=((_STORABLE, self.time.now_ms()),)), heartbeat)
        await self.settle_doubts()
        cost = self.bucket.estimate(operation, units)

        def declare(wait_s: float) -> None:
            until = self.time.now_ms() + round(wait_s * 1000)
            heartbeat.expect(
                trio.current_time() + wait_s,
                f"waiting for {cost:,} tokens until {to_rfc3339(until)[11:16]}",
            )

        reservation = await self._reserve(cost, priority, declare)

        async def pay() -> A:
            answer = await self._pay(reservation, operation, units, send)
            try:
                await self.commit(await self.insist(partial(keep, answer), heartbeat), heartbeat)
            except trio.Cancelled:
                log.error("answer lost", extra=kv(operation=operation, units=units))
                raise
            return answer

        until = trio.current_time() + self.client.timeouts.call_s
        heartbeat.expect(until, "waiting for Keepa's answer")
        self._under_way += 1
        try:
            answer = await finish(pay, GRACE_S * self.time.factor)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._drained.set()
        heartbeat.beat()
        return answer

    async def drain(self) -> None:
        """Let no further call begin, and wait until what those under way bring is kept."""
        self._draining = True
        self._drained = trio.Event()
        if self._under_way:
            await self._drained.wait()

    async def commit(self, commit: Commit, heartbeat: Heartbeat) -> None:
        """Commit, with the metrics of the calls so far; where that fails, try again and again.

        Cancelled while it waits to try again, it tries one last time.
        """
        metrics = self._calls.drain()
        whole = msgspec.structs.replace(commit, records=(*commit.records, *metrics))
        try:
            await self.insist(partial(self._outbox.commit, whole), heartbeat)
        except trio.Cancelled:
            self._calls.put_back(metrics)
            raise
        self._note_stored()
        self._calls.note_records(len(commit.records))

    async def insist(self, work: Callable[[], T], heartbeat: Heartbeat) -> T:
        """Use the outbox, in a thread; where that raises StoreError, try again and again.

        `work` is never cut off. Cancelled while it waits to try again, it tries one last time,
        and ends as cancelled only where that fails.
        """
        retry_s = _STORE_RETRY_S * self.time.factor
        while (done := await self._attempt(work)) is None:
            heartbeat.expect(trio.current_time() + retry_s, "waiting for the outbox to take more")
            try:
                await trio.sleep(retry_s)
            except trio.Cancelled:
                if (done := await self._attempt(work)) is None:
                    raise
                break
        return done[0]

    async def _attempt(self, work: Callable[[], T]) -> tuple[T] | None:
        """Use the outbox once; None, and the reason in status, where it can't be used."""
        try:
            with trio.CancelScope(shield=True):
                done = await trio.to_thread.run_sync(work)
        except StoreError as error:
            if self.store_trouble is None:
                log.error(
                    "nothing can be stored", extra=kv(reason=error.message, remedy=error.remedy)
                )
            self.store_trouble = str(error)
            return None
        return (done,)

    def _note_stored(self) -> None:
        if self.store_trouble is not None:
            log.info("storing works again")
        self.store_trouble = None

    async def _save_metrics(self) -> None:
        """Commit the metrics of the calls so far; what fails waits for the next commit."""
        metrics = self._calls.drain()
        if await self._attempt(partial(self._outbox.commit, Commit(records=metrics))) is None:
            self._calls.put_back(metrics)
        elif metrics:  # nothing can be stored on a full disk too
            self._note_stored()

    async def _reserve(
        self, cost: int, priority: Priority, on_wait: Callable[[float], None]
    ) -> Reservation:
        """Wait for tokens; whoever is cancelled or draining meanwhile begins no call."""
        try:
            reservation = await self.bucket.take(cost, priority, on_wait)
        except NoRefillError:
            self._no_refill = True  # until /token tells otherwise
            raise
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._draining:
                await trio.sleep_forever()
        except trio.Cancelled:
            reservation.release()
            raise
        return reservation

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
                elif not error.paid:
                    reservation.release()
                await self._save_metrics()
                raise
            if answer.envelope is not None and not answer.envelope.is_blank:
                reservation.settle(answer.envelope)
                self.bucket.learn(operation, units, answer.envelope.tokens_consumed)
        return answer


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
