"""The bucket against a model of Keepa's server, on a virtual clock."""

from __future__ import annotations

import math
from collections.abc import Awaitable

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.bucket import Bucket, NoRefillError, Reservation, TooExpensiveError
from pricecheck.keepa.wire import Envelope

SLACK_S = 0.1  # how much later than announced a refill is counted on


class Server:
    """Keepa's own bucket: refills by the minute, admits while positive, may go negative."""

    def __init__(self, *, rate: int = 20, tokens: int | None = None, tick_s: float = 60.0) -> None:
        self.rate = rate
        self.tokens = 60 * rate if tokens is None else tokens
        self._next_tick = trio.current_time() + tick_s
        self.lowest = self.tokens

    def call(self, cost: int = 0) -> Envelope:
        """Charge a call and answer with the envelope; a millisecond passes between two."""
        now = trio.current_time()
        while self._next_tick <= now:
            self._next_tick += 60
            self.tokens = min(self.tokens + self.rate, 60 * self.rate)
        self.tokens -= cost
        self.lowest = min(self.lowest, self.tokens)
        return Envelope(
            timestamp_ms=1_800_000_000_000 + round(now * 1000),
            tokens_left=self.tokens,
            refill_in_ms=round((self._next_tick - now) * 1000),
            refill_rate=self.rate,
            tokens_consumed=cost,
        )


def make_bucket(server: Server | None = None, *, max_call_cost: int = 2000) -> Bucket:
    bucket = Bucket(max_call_cost=max_call_cost, costs={"product": 1, "deal": 5})
    if server is not None:
        bucket.confirm(server.call())
    return bucket


async def test_takes_at_once_what_the_server_has(autojump_clock: trio.abc.Clock) -> None:
    """Tokens that are there are reserved without waiting."""
    bucket = make_bucket(Server(tokens=100))

    reservation = await bucket.take(100)

    assert trio.current_time() == 0
    assert bucket.available() == 0
    reservation.release()
    assert bucket.available() == 100


async def test_waits_for_exactly_the_refills_it_needs(autojump_clock: trio.abc.Clock) -> None:
    """50 tokens at 20 a minute, 5 in the bucket: the third tick brings them, no earlier."""
    bucket = make_bucket(Server(tokens=5, tick_s=30))

    await bucket.take(50)

    assert trio.current_time() == pytest.approx(30 + 2 * 60 + SLACK_S)


async def test_a_tick_missed_by_a_rounding_error_is_not_waited_for_in_a_spin(
    mock_clock: trio.testing.MockClock,
) -> None:
    """Woken a hair before the refill, a caller sleeps until it is really there, not for 0 s."""
    bucket = make_bucket()
    bucket.confirm(Envelope(tokens_left=78, refill_in_ms=36_992, refill_rate=32))

    mock_clock.jump(math.nextafter(36.992 + SLACK_S, 0))

    assert bucket.available() == 78
    assert bucket.wait_s(79) >= 0.001


async def test_a_negative_balance_is_waited_out(autojump_clock: trio.abc.Clock) -> None:
    """A count below zero must become enough before anything is spent."""
    bucket = make_bucket(Server(tokens=-41))

    await bucket.take(1)

    assert trio.current_time() == pytest.approx(3 * 60 + SLACK_S)


async def test_unknown_tokens_are_not_spent(autojump_clock: trio.abc.Clock) -> None:
    """Before the first envelope a caller waits, and goes on when one comes."""
    bucket = make_bucket()
    taken = trio.Event()

    async def take() -> None:
        await bucket.take(10)
        taken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.sleep(600)
        assert not taken.is_set()
        bucket.confirm(Server(tokens=10).call())
        await taken.wait()

    assert trio.current_time() == 600


async def test_a_cost_above_the_capacity_is_refused(autojump_clock: trio.abc.Clock) -> None:
    """100 products at 15 tokens never fit 1,200 tokens: an error at once, no wait for ever."""
    bucket = make_bucket(Server(rate=20))

    with pytest.raises(
        TooExpensiveError, match="1500 tokens is above the limit of 1200"
    ) as refused:
        await bucket.take(1500)

    assert refused.value.limit == 1200
    assert trio.current_time() == 0


async def test_a_cost_above_the_configured_cap_is_refused(autojump_clock: trio.abc.Clock) -> None:
    """No single call costs more than max_call_cost."""
    bucket = make_bucket(Server(rate=20), max_call_cost=150)

    with pytest.raises(TooExpensiveError):
        await bucket.take(151)
    await bucket.take(150)


async def test_a_plan_that_shrinks_wakes_who_waits_in_vain(autojump_clock: trio.abc.Clock) -> None:
    """A waiting caller is told when its cost no longer fits, not left waiting."""
    bucket = make_bucket(Server(rate=20, tokens=0))
    raised = trio.Event()

    async def take() -> None:
        with pytest.raises(TooExpensiveError):
            await bucket.take(1000)
        raised.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.sleep(60)
        bucket.observe(Server(rate=5, tokens=0).call())
        with trio.fail_after(1):
            await raised.wait()


async def test_no_refill_at_all_is_an_error(autojump_clock: trio.abc.Clock) -> None:
    """With trackings eating the whole refill there is nothing to wait for."""
    bucket = make_bucket()
    bucket.confirm(Envelope(1, 3, 1000, 20, 20.0))

    await bucket.take(3)
    with pytest.raises(NoRefillError):
        await bucket.take(1)


async def test_a_cancelled_wait_leaves_no_trace(autojump_clock: trio.abc.Clock) -> None:
    """Who gives up waiting holds neither tokens nor a place in the queue."""
    bucket = make_bucket(Server(tokens=10))

    with trio.move_on_after(5):
        await bucket.take(500)
    reservation = await bucket.take(10)

    assert trio.current_time() == 5
    reservation.release()
    assert (bucket.state().reserved, bucket.state().waiting) == (0, 0)


async def test_a_block_left_unsettled_puts_the_cost_in_doubt(
    autojump_clock: trio.abc.Clock,
) -> None:
    """No answer came: the tokens count as spent, and /token should be asked."""
    server = Server(tokens=100)
    bucket = make_bucket(server)

    with await bucket.take(60):
        pass

    assert bucket.available() == 40
    assert bucket.uncertain
    await trio.sleep(0.1)
    bucket.observe(server.call(0))  # some other answer: it may have left before the doubt arose
    assert bucket.uncertain
    assert bucket.available() == 40
    await trio.sleep(0.1)
    bucket.confirm(server.call(0))
    assert not bucket.uncertain
    assert bucket.available() == 100


async def test_a_doubt_that_arises_while_token_is_asked_stays(
    autojump_clock: trio.abc.Clock,
) -> None:
    """The answer on its way knows nothing of a call that was lost after it was sent for."""
    server = Server(tokens=100)
    bucket = make_bucket(server)
    with await bucket.take(10):
        pass
    sent_for = bucket.doubted

    with await bucket.take(5):
        pass
    bucket.confirm(server.call(0), sent_for)

    assert bucket.uncertain
    assert bucket.available() == 95


async def test_answers_that_overtake_each_other_do_not_raise_the_count(
    autojump_clock: trio.abc.Clock,
) -> None:
    """An envelope that the server wrote earlier never replaces a newer one."""
    server = Server(tokens=100)
    bucket = make_bucket(server)
    first, second = await bucket.take(30), await bucket.take(40)
    await trio.sleep(0.01)
    early = server.call(30)
    await trio.sleep(0.01)
    late = server.call(40)

    second.settle(late)
    first.settle(early)

    assert bucket.available() == 30


async def test_calls_under_way_stay_counted(autojump_clock: trio.abc.Clock) -> None:
    """An envelope that does not know of a call still under way does not free its tokens."""
    server = Server(tokens=100)
    bucket = make_bucket(server)
    first = await bucket.take(30)
    await bucket.take(40)

    first.settle(server.call(30))

    assert bucket.available() == 30


async def test_a_blank_envelope_is_no_count(autojump_clock: trio.abc.Clock) -> None:
    """The zeros that come with a wrong key do not empty the bucket."""
    bucket = make_bucket(Server(tokens=100))

    bucket.observe(Envelope(timestamp_ms=1_900_000_000_000))

    assert bucket.available() == 100


async def test_a_bare_429_body_keeps_the_known_rate(autojump_clock: trio.abc.Clock) -> None:
    """A 429 with nothing but tokensLeft and refillIn is a count at the rate known before."""
    bucket = make_bucket(Server(tokens=100))

    bucket.observe(Envelope(tokens_left=-5, refill_in_ms=1000))
    await bucket.take(10)

    assert trio.current_time() == pytest.approx(1 + SLACK_S)


async def test_more_important_callers_go_first(autojump_clock: trio.abc.Clock) -> None:
    """Among callers that came together the lower priority number is served first."""
    bucket = make_bucket(Server(tokens=0))
    served: list[int] = []

    async def take(priority: int) -> None:
        (await bucket.take(15, priority)).release()
        served.append(priority)

    async with trio.open_nursery() as nursery:
        for priority in (2, 0, 1):
            nursery.start_soon(take, priority)

    assert served == [0, 1, 2]


async def test_an_unimportant_caller_is_not_starved(autojump_clock: trio.abc.Clock) -> None:
    """A stream of important callers that would take every token lets an older one pass."""
    server = Server(tokens=0)
    bucket = make_bucket(server)

    async def greedy() -> None:
        while True:
            reservation = await bucket.take(20, 0)
            reservation.settle(server.call(20))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(greedy)
        await trio.sleep(1)
        with trio.fail_after(30 * 60):
            await bucket.take(100, 2)
        nursery.cancel_scope.cancel()


async def test_costs_are_learned(autojump_clock: trio.abc.Clock) -> None:
    """A dearer call counts at once, a cheaper one is believed slowly."""
    bucket = make_bucket()

    bucket.learn("product", 10, 130)
    dearer = bucket.estimate("product", 10)
    bucket.learn("product", 10, 10)
    after_one_cheap = bucket.estimate("product", 10)
    for _ in range(40):
        bucket.learn("product", 10, 10)

    assert dearer == 130
    assert 10 < after_one_cheap < 130
    assert bucket.estimate("product", 10) in (10, 11)


async def test_foreign_use_is_seen_and_own_use_is_not(autojump_clock: trio.abc.Clock) -> None:
    """What the server's count lost beyond our own calls is somebody else's."""
    server = Server(rate=20, tokens=600)
    bucket = make_bucket(server)

    for minute in range(30):
        await trio.sleep(60)
        if minute % 3 == 0:
            server.call(50)
        with await bucket.take(10) as reservation:
            reservation.settle(server.call(10))
    stolen = bucket.state().foreign_per_hour
    for _ in range(90):
        await trio.sleep(60)
        with await bucket.take(10) as reservation:
            reservation.settle(server.call(10))

    assert 500 - 20 <= stolen <= 500 + 20
    assert bucket.state().foreign_per_hour == 0


async def test_a_doubted_call_is_not_taken_for_foreign_use(autojump_clock: trio.abc.Clock) -> None:
    """A call that timed out and was charged all the same is our own."""
    server = Server(tokens=600)
    bucket = make_bucket(server)

    with await bucket.take(100):
        server.call(100)
    await trio.sleep(1)
    bucket.confirm(server.call())

    assert bucket.state().foreign_per_hour == 0


async def test_refilling_a_full_bucket_is_not_counted_on(autojump_clock: trio.abc.Clock) -> None:
    """Unused tokens expire: the count never grows above 60 minutes of refill."""
    bucket = make_bucket(Server(rate=20))

    await trio.sleep(24 * 3600)

    assert bucket.available() == 1200


callers = st.lists(
    st.tuples(
        st.floats(0, 600),  # comes at
        st.integers(1, 300),  # cost
        st.integers(0, 2),  # priority
        st.floats(0, 90),  # until the server charges
        st.floats(0, 90),  # until the answer arrives
        st.sampled_from(["answered", "refused", "lost", "cancelled"]),
    ),
    min_size=1,
    max_size=12,
)


@given(callers, st.integers(5, 40), st.integers(-100, 400))
def test_never_spends_beyond_the_servers_count(
    schedule: list[tuple[float, int, int, float, float, str]], rate: int, tokens: int
) -> None:
    """Whatever overlaps, is lost or cancelled: no call we admit drives the server below zero."""

    async def main() -> None:
        server = Server(rate=rate, tokens=min(tokens, 60 * rate))  # more than that it never holds
        bucket = make_bucket(server)
        start = server.tokens

        async def confirm_doubts() -> None:
            while True:
                await trio.sleep(10)
                if bucket.uncertain and not bucket.state().reserved:
                    bucket.confirm(server.call())

        async def caller(
            at: float, cost: int, priority: int, charge_s: float, answer_s: float, fate: str
        ) -> None:
            await trio.sleep(at)
            if cost > bucket.limit:
                return
            with trio.move_on_after(30 if fate == "cancelled" else 1e9):
                with await bucket.take(cost, priority) as reservation:
                    if fate == "refused":
                        await trio.sleep(answer_s)
                        reservation.release()
                        return
                    await trio.sleep(charge_s)
                    envelope = server.call(cost)
                    await trio.sleep(answer_s)
                    if fate == "answered":
                        reservation.settle(envelope)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(confirm_doubts)
            async with trio.open_nursery() as callers:
                for plan in schedule:
                    callers.start_soon(caller, *plan)
            nursery.cancel_scope.cancel()
        assert server.lowest >= min(start, 0)
        assert bucket.state().reserved == 0
        assert bucket.state().waiting == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_keepas_clock_that_is_put_back_is_followed(
    autojump_clock: trio.abc.Clock,
) -> None:
    """An answer older by minutes is no straggler: its count is the new truth."""
    bucket = make_bucket()
    bucket.confirm(Envelope(10_000_000, tokens_left=900, refill_in_ms=60_000, refill_rate=20))

    bucket.observe(Envelope(1_000_000, tokens_left=200, refill_in_ms=60_000, refill_rate=20))

    assert bucket.available() == 200
    assert bucket.state().foreign_per_hour == 0


async def test_one_dear_answer_locks_nothing(autojump_clock: trio.abc.Clock) -> None:
    """A unit is never learned to cost more than one call may: it would not be asked again."""
    bucket = make_bucket(Server(rate=20), max_call_cost=200)

    bucket.learn("deal", 1, 300)

    assert bucket.estimate("deal") == 200
    (await bucket.take(bucket.estimate("deal"))).release()


async def test_whoever_waits_is_told_anew_when_the_wait_grows(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A call that cost more than was reserved for it delays those behind it; so they say so."""
    server = Server(rate=5, tokens=100)
    bucket = make_bucket(server)
    told: list[float] = []

    async with trio.open_nursery() as nursery:
        dear = await bucket.take(100)
        nursery.start_soon(bucket.take, 50, 0, told.append)
        await trio.testing.wait_all_tasks_blocked()
        before = told[-1]
        dear.settle(server.call(250))
        await trio.testing.wait_all_tasks_blocked()

    assert before == pytest.approx(10 * 60, abs=1)
    assert max(told) == pytest.approx(40 * 60, abs=1)
    assert trio.current_time() == pytest.approx(40 * 60, abs=1)


async def test_status_tells_what_the_bucket_knows(autojump_clock: trio.abc.Clock) -> None:
    """Nothing before the first answer; then the count, its refills, who waits, and the costs."""
    bucket = make_bucket()
    before = bucket.state()
    reduced = Envelope(
        tokens_left=30, refill_in_ms=20_000, refill_rate=20, token_flow_reduction=5.0
    )
    bucket.confirm(reduced)
    await bucket.take(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bucket.take, 100)
        await trio.testing.wait_all_tasks_blocked()
        after = bucket.state()
        nursery.cancel_scope.cancel()

    assert (before.tokens, before.capacity, before.refill_rate, before.refill_in_s) == (None,) * 4
    assert (after.tokens, after.capacity, after.refill_rate) == (20, 1_200, 15.0)
    assert after.refill_in_s == round(20 + SLACK_S, 1)
    assert (after.reserved, after.waiting, after.foreign_per_hour) == (10, 1, 0)
    assert before.costs == after.costs == {"product": 1, "deal": 5}


async def test_a_call_is_never_estimated_below_a_token(autojump_clock: trio.abc.Clock) -> None:
    """Whatever was learned: a call that is thought to be free would pass any bucket."""
    bucket = Bucket(max_call_cost=100, costs={"product": 0.3})

    assert [bucket.estimate("product", units) for units in (1, 3, 4, 10)] == [1, 1, 2, 3]


@pytest.mark.parametrize(("units", "consumed"), [(0, 5), (-1, 5), (1, -1)])
async def test_an_answer_that_makes_no_sense_teaches_nothing(
    units: int, consumed: int, autojump_clock: trio.abc.Clock
) -> None:
    """No units, or tokens given back."""
    bucket = make_bucket()

    bucket.learn("deal", units, consumed)

    assert bucket.state().costs["deal"] == 5


async def test_a_free_call_is_learned_from(autojump_clock: trio.abc.Clock) -> None:
    """What Keepa has in its cache may cost nothing."""
    bucket = make_bucket()

    bucket.learn("deal", 1, 0)

    assert bucket.state().costs["deal"] == 4


async def test_first_guesses_give_way_to_what_was_learned(autojump_clock: trio.abc.Clock) -> None:
    """A config that is reloaded brings costs of new operations only."""
    bucket = make_bucket()
    bucket.learn("deal", 1, 7)

    bucket.expect({"deal": 5, "bestsellers": 50})

    assert bucket.state().costs == {"product": 1, "deal": 7, "bestsellers": 50}


async def test_doubts_add_up(autojump_clock: trio.abc.Clock) -> None:
    """Each call whose answer never came may have cost all that was reserved for it."""
    bucket = make_bucket(Server(tokens=100))
    for cost in (10, 20):
        with await bucket.take(cost):
            pass

    assert (bucket.doubted, bucket.available()) == (30, 70)


@pytest.mark.parametrize(
    ("envelope", "cost", "seconds"),
    [
        (None, 1, 60.0),
        (Envelope(tokens_left=10, refill_rate=20, refill_in_ms=5_000), 10, 0.0),
        (Envelope(tokens_left=10, refill_rate=20, refill_in_ms=5_000), 11, 5 + SLACK_S),
        (Envelope(tokens_left=10, refill_rate=20, refill_in_ms=5_000), 30, 5 + SLACK_S),
        (Envelope(tokens_left=10, refill_rate=20, refill_in_ms=5_000), 31, 65 + SLACK_S),
        (Envelope(tokens_left=10, refill_rate=1, refill_in_ms=5_000), 12, 65 + SLACK_S),
        (
            Envelope(tokens_left=0, refill_rate=5, token_flow_reduction=5.0, refill_in_ms=5_000),
            1,
            60.0,
        ),
    ],
)
async def test_a_wait_is_as_long_as_the_refills_take(
    envelope: Envelope | None, cost: int, seconds: float, autojump_clock: trio.abc.Clock
) -> None:
    """To the tick; a minute where none is known."""
    bucket = make_bucket()
    if envelope is not None:
        bucket.confirm(envelope)

    assert bucket.wait_s(cost) == pytest.approx(seconds)


async def test_a_new_bucket_knows_that_it_knows_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Until /token has answered, no count is to be believed; nothing is in doubt."""
    bucket = make_bucket()
    uncertain = bucket.uncertain, bucket.doubted
    bucket.confirm(Envelope(tokens_left=5, refill_rate=20))

    assert uncertain == (True, 0)
    assert not bucket.uncertain


@pytest.mark.parametrize(("earlier_s", "order"), [(110, "urgent other"), (130, "other urgent")])
async def test_a_priority_is_worth_two_minutes(
    earlier_s: int, order: str, autojump_clock: trio.abc.Clock
) -> None:
    """Who came longer ago than that goes first all the same; without a priority one is urgent."""
    bucket = make_bucket(Server(tokens=0, rate=1))
    served = []

    async def wait(name: str, taken: Awaitable[Reservation]) -> None:
        await taken
        served.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "other", bucket.take(5, 1))
        await trio.sleep(earlier_s)
        nursery.start_soon(wait, "urgent", bucket.take(5))

    assert served == order.split()


async def test_who_comes_in_the_same_moment_goes_in_turn(autojump_clock: trio.abc.Clock) -> None:
    """First come, first served, on a clock that stands still."""
    bucket = make_bucket(Server(tokens=0, rate=1))
    served = []

    async def take(number: int) -> None:
        await bucket.take(1)
        served.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()

    assert served == [0, 1, 2, 3, 4]


async def test_a_bare_429_body_is_the_newest_count(autojump_clock: trio.abc.Clock) -> None:
    """It says how few are left, keeps rate and reduction, and older answers do not undo it."""
    bucket = make_bucket()
    known = Envelope(timestamp_ms=50_000, tokens_left=40, refill_rate=20, token_flow_reduction=5.0)
    bucket.confirm(known)

    bucket.observe(Envelope(tokens_left=-3, refill_in_ms=1_000))
    bare = bucket.state()
    bucket.observe(msgspec.structs.replace(known, timestamp_ms=49_000, tokens_left=60))

    assert (bare.tokens, bare.refill_rate) == (-3, 15.0)
    assert bucket.available() == -3


@pytest.mark.parametrize("first", [80, 90])
async def test_of_two_counts_of_one_moment_the_lower_stands(
    first: int, autojump_clock: trio.abc.Clock
) -> None:
    """In whichever order they come."""
    bucket = make_bucket()
    for left in (first, 170 - first):
        bucket.confirm(Envelope(timestamp_ms=5, tokens_left=left, refill_rate=20))

    assert bucket.available() == 80


@pytest.mark.parametrize(
    ("at_s", "refill_in_s"), [(59.5, 0.6), (60.1, 60.0), (61.1, 59.0), (130.1, 50.0)]
)
async def test_refills_come_by_the_minute_without_news(
    at_s: float, refill_in_s: float, mock_clock: trio.testing.MockClock
) -> None:
    """Each a minute after the one before; at a refill it is a minute to the next."""
    bucket = make_bucket()
    bucket.confirm(Envelope(tokens_left=5, refill_in_ms=60_000, refill_rate=20))

    mock_clock.jump(at_s)

    assert bucket.state().refill_in_s == pytest.approx(refill_in_s)


class TestForeign:
    """What the server's count lost beyond our calls, to the token."""

    def answer(self, at_s: float, left: int, consumed: int = 0) -> Envelope:
        return Envelope(
            timestamp_ms=1_800_000_000_000 + int(at_s * 1000),
            tokens_left=left,
            refill_in_ms=60_000 - int(at_s * 1000) % 60_000,
            refill_rate=20,
            tokens_consumed=consumed,
        )

    @pytest.mark.parametrize(
        ("answers", "foreign"),
        [
            ([(0, 100, 0), (1, 89, 10)], 1),
            ([(0, 100, 0), (330, 193, 0)], 7),  # five refills later
            ([(0, 100, 0), (3, 80, 10), (2, 90, 10)], 0),  # the second was overtaken
            ([(0, 100, 0), (2, 90, 10), (2, 80, 10), (3, 60, 10)], 10),  # two in one moment
        ],
    )
    async def test_it_is_told_to_the_token(
        self, answers: list[tuple[float, int, int]], foreign: int, autojump_clock: trio.abc.Clock
    ) -> None:
        """Refills and calls that overtake each other are ours."""
        bucket = make_bucket()
        for one in answers:
            bucket.observe(self.answer(*one))

        assert bucket.state().foreign_per_hour == foreign

    async def test_a_first_answer_without_a_time_is_nothing_to_compare_with(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        """As a bare 429 body: nobody knows how long ago it was written."""
        bucket = make_bucket()
        bucket.observe(Envelope(tokens_left=50, refill_in_ms=1_000))
        bucket.observe(self.answer(0, 10))

        assert bucket.state().foreign_per_hour == 0

    async def test_all_doubted_calls_are_ours_once(self, autojump_clock: trio.abc.Clock) -> None:
        """What two lost calls cost is no foreign use, and explains no later one."""
        bucket = make_bucket()
        bucket.confirm(self.answer(0, 100))
        for _ in range(2):
            with await bucket.take(10):
                pass
        bucket.confirm(self.answer(1, 80))
        ours = bucket.state().foreign_per_hour
        bucket.confirm(self.answer(2, 79))

        assert (ours, bucket.state().foreign_per_hour) == (0, 1)


async def test_one_token_a_minute_is_waited_for(autojump_clock: trio.abc.Clock) -> None:
    """Slow is not never."""
    bucket = make_bucket(Server(tokens=0, rate=1))

    await bucket.take(2)

    assert trio.current_time() == pytest.approx(120 + SLACK_S, abs=0.01)


async def test_who_is_behind_in_the_queue_makes_nobody_wait_longer(
    autojump_clock: trio.abc.Clock,
) -> None:
    """What a caller is told counts those before it, even of the same moment, and itself."""
    bucket = make_bucket()
    bucket.confirm(Envelope(tokens_left=0, refill_rate=1, refill_in_ms=60_000))
    first: list[float] = []
    second: list[float] = []

    async with trio.open_nursery() as nursery:
        for cost, told in ((5, first), (50, second)):
            nursery.start_soon(bucket.take, cost, 0, told.append)
            await trio.testing.wait_all_tasks_blocked()
        bucket.confirm(Envelope(tokens_left=0, refill_rate=1, refill_in_ms=60_000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert first == pytest.approx([300 + SLACK_S] * 2)
    assert second == pytest.approx([3_300 + SLACK_S] * 2)
