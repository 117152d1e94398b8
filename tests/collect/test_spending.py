"""What a call costs is paid once, and what it brought is kept, whoever is cancelled when."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from pricecheck.bucket import Bucket, NoRefillError
from pricecheck.collect.calls import CallLog
from pricecheck.collect.spending import GRACE_S, Priority, Spender, finish
from pricecheck.keepa import errors
from pricecheck.keepa.client import BestsellersAnswer, Call, KeepaClient, ProductQuery, Timeouts
from pricecheck.keepa.tables import BY_CODE
from pricecheck.keepa.wire import Envelope
from pricecheck.outbox import Outbox
from pricecheck.supervisor import Heartbeat

from ..daemons import until
from .conftest import MockTime, OpenDesk, keep_as, refuse_writes

FULL = 10_000


class Till:
    """Keepa's side of the bucket: what it has charged, and what it says of that.

    Also the client's `token`. No refill comes within a test.
    """

    def __init__(self, calls: CallLog | None = None, rate: int = 20) -> None:
        self.left = FULL
        self.rate = rate
        self.token_calls = 0
        self.timeouts = Timeouts()
        self.failure: errors.KeepaError | None = None
        self._stamps = itertools.count(1_800_000_000_000)
        self._calls = calls

    def envelope(self, consumed: int = 0) -> Envelope:
        return Envelope(
            timestamp_ms=next(self._stamps),
            tokens_left=self.left,
            refill_in_ms=1_000_000_000,
            refill_rate=self.rate,
            tokens_consumed=consumed,
        )

    async def token(self) -> Envelope:
        self.token_calls += 1
        await trio.sleep(1)
        if self.failure is not None:
            self.note("token", str(self.failure))
            raise self.failure
        return self.envelope()

    def charge(self, cost: int) -> BestsellersAnswer:
        self.left -= cost
        return BestsellersAnswer(self.envelope(cost), None)

    def note(self, operation: str, error: str | None) -> None:
        """Report a call's figures, as the client does."""
        assert self._calls is not None
        self._calls.note(
            Call(
                operation=operation,
                domain=None,
                asin_count=0,
                response_time_ms=1,
                envelope=None,
                status=None,
                error=error,
            )
        )


Shop = tuple[Till, Spender, Bucket]


@pytest.fixture
def shop(outbox: Outbox, autojump_clock: MockClock) -> Shop:
    """A spender on a virtual clock, and the till that it pays at."""
    return open_shop(outbox, autojump_clock)


def open_shop(outbox: Outbox, clock: MockClock) -> Shop:
    time = MockTime(clock=clock)
    calls = CallLog(time)
    till = Till(calls)
    bucket = Bucket(max_call_cost=200, costs={"product": 1.0})
    return till, Spender(cast("KeepaClient", till), bucket, outbox, calls, time), bucket


def silent() -> Heartbeat:
    return Heartbeat(float("inf"))


async def buy(spender: Spender, send: Callable[[], Awaitable[Any]], id_: str = "one") -> None:
    await spender.spend("product", 10, Priority.PRICES, silent(), send=send, keep=keep_as(id_))


def ids(outbox: Outbox, kind: str = "price") -> set[str]:
    stored = outbox.read("tests", limit=1_000, max_bytes=1 << 30)
    return {one.record.id for one in stored if one.record.kind == kind}


FAILURES: dict[str, tuple[type[errors.KeepaError], bool, bool]] = {
    # name: type, charged, with an envelope
    "unreachable": (errors.UnreachableError, False, False),
    "timed out": (errors.TimedOutError, True, False),
    "bad answer": (errors.BadAnswerError, True, True),
    "unreadable answer": (errors.BadAnswerError, True, False),
    "refused": (errors.RejectedError, False, True),
    "429": (errors.NotEnoughTokensError, False, True),
    "503": (errors.ServerError, False, False),
}


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["answered", *FAILURES]),
            st.integers(0, 20),  # seconds until the answer
            st.one_of(st.none(), st.integers(0, 30)),  # seconds until the cancel
            st.integers(1, 100),  # products, a token each
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_was_paid_for_is_kept_whoever_is_cancelled_when(
    buys: list[tuple[str, int, int | None, int]],
) -> None:
    """Every answer that comes within the grace is in the outbox; no token is lost or spent twice.

    Afterwards nothing is reserved, and the bucket never holds more than Keepa says.
    """
    answered: set[str] = set()

    async def main(outbox: Outbox, clock: MockClock) -> None:
        till, spender, bucket = open_shop(outbox, clock)

        async def one(number: int, outcome: str, wait_s: int, cancel_s: int | None, n: int) -> None:
            async def send() -> BestsellersAnswer:
                if outcome == "answered":
                    answer = till.charge(n)
                    await trio.sleep(wait_s)
                    answered.add(str(number))
                    return answer
                kind, charged, enveloped = FAILURES[outcome]
                till.left -= n if charged else 0
                await trio.sleep(wait_s)
                raise kind("no luck", envelope=till.envelope() if enveloped else None)

            with trio.move_on_after(cancel_s if cancel_s is not None else 1_000):
                try:
                    await spender.spend(
                        "product",
                        n,
                        Priority.PRICES,
                        silent(),
                        send=send,
                        keep=keep_as(str(number)),
                    )
                except errors.KeepaError:
                    assert outcome != "answered"

        async with trio.open_nursery() as nursery:
            for number, buy in enumerate(buys):
                nursery.start_soon(one, number, *buy)

        state = bucket.state()
        assert (state.reserved, state.waiting) == (0, 0)
        assert bucket.uncertain or bucket.available() <= till.left
        await spender.settle_doubts()
        assert bucket.available() == till.left
        assert ids(outbox) == answered

    clock = MockClock(autojump_threshold=0.001)
    with (
        TemporaryDirectory() as directory,
        closing(Outbox.open(Path(directory) / "outbox.sqlite")) as outbox,
    ):
        trio.run(main, outbox, clock, clock=clock)


async def test_a_call_under_way_is_brought_home_when_its_task_is_cancelled(
    shop: Shop, autojump_clock: MockClock, outbox: Outbox
) -> None:
    """An answer that comes within the grace is kept; the task ends only then."""
    till, spender, _ = shop

    async def send() -> BestsellersAnswer:
        await trio.sleep(GRACE_S)
        return till.charge(10)

    await spender.settle_doubts()
    began = trio.current_time()
    with trio.move_on_after(0.5) as scope:
        await buy(spender, send)

    assert scope.cancelled_caught
    assert GRACE_S <= trio.current_time() - began <= 0.5 + GRACE_S
    assert ids(outbox) == {"one"}


async def test_beyond_the_grace_a_call_is_given_up_and_counted_as_spent(
    shop: Shop, autojump_clock: MockClock, outbox: Outbox
) -> None:
    """SIGTERM allows ten seconds; what was probably paid for is in doubt until /token tells."""
    till, spender, bucket = shop
    await spender.settle_doubts()

    began = trio.current_time()
    with trio.move_on_after(1) as scope:
        await buy(spender, trio.sleep_forever)

    assert scope.cancelled_caught
    assert trio.current_time() - began == pytest.approx(1 + GRACE_S, abs=0.2)
    assert bucket.uncertain
    assert bucket.available() == till.left - 10


async def test_whoever_is_cancelled_before_a_call_begins_sends_none(
    shop: Shop, autojump_clock: MockClock
) -> None:
    """Not even when the tokens come at the very moment of the cancel."""
    till, spender, bucket = shop
    sent = []
    await spender.settle_doubts()

    async def send() -> BestsellersAnswer:
        sent.append(1)
        return till.charge(10)

    held = await bucket.take(150, 0)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            till.left = 150
            bucket.observe(till.envelope())
            nursery.start_soon(buy, spender, send)
            await wait_all_tasks_blocked()
            held.release()
            scope.cancel()

    assert sent == []
    assert bucket.state().reserved == 0


class TestToken:
    async def test_it_is_asked_once_however_many_wait(
        self, shop: Shop, autojump_clock: MockClock
    ) -> None:
        """All of a start's tasks share one answer."""
        till, spender, _ = shop

        async with trio.open_nursery() as nursery:
            for number in range(10):
                send = lambda: _at_once(till)  # noqa: E731
                nursery.start_soon(buy, spender, send, str(number))

        assert till.token_calls == 1

    async def test_its_failure_is_shared_too(self, shop: Shop, autojump_clock: MockClock) -> None:
        """Ten tasks do not wait for ten time-outs in a row; the next one asks anew."""
        till, spender, _ = shop
        till.failure = errors.TimedOutError("no answer")
        failed = []

        async def ask() -> None:
            with pytest.raises(errors.TimedOutError):
                await spender.settle_doubts()
            failed.append(1)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
        assert (len(failed), till.token_calls) == (10, 1)

        till.failure = None
        await spender.settle_doubts()
        assert till.token_calls == 2

    async def test_it_is_not_asked_while_there_is_no_doubt(
        self, shop: Shop, autojump_clock: MockClock
    ) -> None:
        """Every answer tells as much; Keepa does not like to be polled."""
        till, spender, _ = shop

        for number in range(5):
            await buy(spender, lambda: _at_once(till), str(number))

        assert till.token_calls == 1

    async def test_it_is_asked_after_a_call_whose_answer_never_came(
        self, shop: Shop, autojump_clock: MockClock
    ) -> None:
        """The call has usually been paid for: the server's count decides."""
        till, spender, bucket = shop

        with pytest.raises(errors.TimedOutError):
            await buy(spender, _times_out)
        assert bucket.available() == FULL - 10
        await spender.settle_doubts()

        assert till.token_calls == 2
        assert bucket.available() == FULL

    async def test_it_is_asked_again_when_no_tokens_arrive(
        self, shop: Shop, autojump_clock: MockClock
    ) -> None:
        """Else nobody would ever hear that the plan was renewed."""
        till, spender, bucket = shop
        till.left, till.rate = 5, 0
        with pytest.raises(NoRefillError):
            await buy(spender, lambda: _at_once(till))

        till.left, till.rate = 100, 20
        await buy(spender, lambda: _at_once(till))

        assert till.token_calls == 2
        assert bucket.available() == 90


async def _at_once(till: Till) -> BestsellersAnswer:
    return till.charge(10)


async def _times_out() -> BestsellersAnswer:
    raise errors.TimedOutError("no answer")


class TestMetrics:
    async def test_a_failed_call_leaves_one_too(self, open_desk: OpenDesk) -> None:
        """At once, not with the next success, which may be hours away."""
        desk = await open_desk()
        market, client = BY_CODE["DE"], desk.spender.client

        with pytest.raises(errors.RejectedError):
            await desk.spender.spend(
                "product",
                1,
                Priority.PRICES,
                desk.heartbeat,
                send=lambda: client.products(market, ["none"], ProductQuery()),
                keep=keep_as("one"),
            )

        product, token = desk.kept("metric")
        assert (token["operation"], token["success"], token["tokens_left"]) == ("token", True, 1200)
        assert (product["operation"], product["success"], product["status"]) == (
            "product",
            False,
            400,
        )
        assert "invalidParameter" in product["error"]

    async def test_what_can_not_be_stored_fails_no_call(
        self, shop: Shop, autojump_clock: MockClock, outbox: Outbox
    ) -> None:
        """A failed call is told as what it is; its metric waits for the next commit."""
        till, spender, _ = shop
        await spender.settle_doubts()
        refuse_writes(outbox)

        async def send() -> BestsellersAnswer:
            till.note("product", "no answer")
            raise errors.TimedOutError("no answer")

        with pytest.raises(errors.TimedOutError):
            await buy(spender, send)
        assert spender.store_trouble is not None
        assert ids(outbox, "metric") == set()

        refuse_writes(outbox, False)
        await spender.settle_doubts()
        assert len(ids(outbox, "metric")) == 1
        assert spender.store_trouble is None


@asynccontextmanager
async def one_unstored(shop: Shop, outbox: Outbox) -> AsyncIterator[trio.Nursery]:
    """Buy once, and let what that brings not be stored before the end of the block."""
    till, spender, _ = shop
    await spender.settle_doubts()
    refuse_writes(outbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buy, spender, lambda: _at_once(till))
        await until(lambda: spender.store_trouble)
        yield nursery
        refuse_writes(outbox, False)


class TestStoring:
    async def test_what_can_not_be_stored_is_kept_until_it_can(
        self,
        shop: Shop,
        autojump_clock: MockClock,
        outbox: Outbox,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The task waits, declared, says why once, and loses nothing."""
        till, spender, _ = shop
        heartbeat = Heartbeat(30)
        await spender.settle_doubts()
        refuse_writes(outbox)

        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await spender.spend(
                    "product",
                    10,
                    Priority.PRICES,
                    heartbeat,
                    send=lambda: _at_once(till),
                    keep=keep_as("one"),
                )

            nursery.start_soon(run)
            await until(lambda: heartbeat.why == "waiting for the outbox to take more")
            assert ids(outbox) == set()
            assert "can't be used" in (spender.store_trouble or "")
            refuse_writes(outbox, False)

        assert ids(outbox) == {"one"}
        assert spender.store_trouble is None
        events = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
        assert events == ["nothing can be stored"]

    async def test_only_a_write_shows_that_storing_works_again(
        self,
        shop: Shop,
        autojump_clock: MockClock,
        outbox: Outbox,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A look-up works on a full disk too."""
        _, spender, _ = shop
        caplog.set_level("INFO")

        async with one_unstored(shop, outbox):
            await spender.insist(partial(outbox.states, "DE", ["B000000001"]), silent())

            assert spender.store_trouble is not None
            assert "storing works again" not in caplog.text

        assert spender.store_trouble is None
        assert "storing works again" in caplog.text

    async def test_nothing_is_bought_while_nothing_can_be_stored(
        self, shop: Shop, autojump_clock: MockClock, outbox: Outbox
    ) -> None:
        """One answer that waits in memory is bad luck; more would be waste."""
        till, spender, _ = shop

        async with one_unstored(shop, outbox) as nursery:
            for number in range(5):
                nursery.start_soon(buy, spender, lambda: _at_once(till), f"more {number}")
            await trio.sleep(60)
            assert till.left == FULL - 10

        assert len(ids(outbox)) == 6

    async def test_cancelled_while_it_waits_for_the_outbox_it_tries_one_last_time(
        self,
        shop: Shop,
        autojump_clock: MockClock,
        outbox: Outbox,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """What can't be kept even then is said to be lost."""
        till, spender, _ = shop
        await spender.settle_doubts()
        refuse_writes(outbox)

        with trio.move_on_after(60) as scope:
            await buy(spender, lambda: _at_once(till))

        assert scope.cancelled_caught
        assert caplog.records[-1].getMessage() == "answer lost"

    async def test_a_commit_is_never_cut_off(
        self, shop: Shop, autojump_clock: MockClock, outbox: Outbox
    ) -> None:
        """The answer is in, so it is kept, although the task was cancelled meanwhile."""
        till, spender, _ = shop
        await spender.settle_doubts()

        with trio.CancelScope() as scope:

            async def send() -> BestsellersAnswer:
                scope.cancel()
                return till.charge(10)

            await buy(spender, send)

        assert scope.cancelled_caught
        assert ids(outbox) == {"one"}


class TestDrain:
    async def test_it_waits_for_the_calls_under_way_however_long(
        self, shop: Shop, autojump_clock: MockClock, outbox: Outbox
    ) -> None:
        """A reload loses none of them; no other begins meanwhile."""
        till, spender, bucket = shop
        await spender.settle_doubts()
        sent = []

        async def slow() -> BestsellersAnswer:
            await trio.sleep(170)
            return till.charge(10)

        async def late() -> BestsellersAnswer:
            sent.append(1)
            return till.charge(10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(buy, spender, slow, "slow")
            await trio.sleep(1)
            nursery.start_soon(buy, spender, late, "late")
            began = trio.current_time()
            # The other begins after the drain, for it is started in the same breath.
            await spender.drain()
            nursery.cancel_scope.cancel()

        assert trio.current_time() - began == pytest.approx(169, abs=1)
        assert ids(outbox) == {"slow"}
        assert sent == []
        assert bucket.state().reserved == 0

    async def test_with_nothing_under_way_it_does_not_wait(
        self, shop: Shop, autojump_clock: MockClock
    ) -> None:
        """Whoever waits for tokens has paid for nothing yet."""
        _, spender, _ = shop
        began = trio.current_time()

        await spender.drain()

        assert trio.current_time() == began


class TestFinish:
    async def test_it_returns_what_the_work_returns(self) -> None:
        """Uncancelled, nothing is different."""

        async def work() -> int:
            await trio.lowlevel.checkpoint()
            return 17

        assert await finish(work, 1) == 17

    async def test_it_raises_what_the_work_raises(self) -> None:
        """And not in a group."""

        async def work() -> None:
            await trio.lowlevel.checkpoint()
            raise ValueError("no luck")

        with pytest.raises(ValueError, match="no luck"):
            await finish(work, 1)
