"""The price task against a simulator: on a budget, several calls at once, in any weather."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from pricecheck import config
from pricecheck.clock import ScaledClock
from pricecheck.collect import spending
from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.prices import PriceCollector
from pricecheck.collect.products import Known, recall, remember
from pricecheck.extras import Extras
from pricecheck.keepa.errors import ServerError
from pricecheck.keepa.wire import Envelope, Point
from pricecheck.outbox import Commit, DiskFullError, ProductState
from pricecheck.planner import Batch, Planner
from pricecheck.simulator.settings import Fault
from pricecheck.supervisor import Supervisor
from pricecheck.watchlist import Watch

from ..daemons import Service, until
from .answers import RARELY_S, watch
from .conftest import Desk, OpenDesk

MINUTE_MS = 60_000

KNOWN = remember(Known(since=0, prices={"NEW": Point(1, 1, None)}))
"""The state of a product that costs next to nothing."""

SHARE = config.Threshold(20, percent=True)

Start = Callable[..., PriceCollector]


def collector_at(
    desk: Desk,
    watches: Sequence[Watch],
    *,
    concurrency: int,
    rules: Sequence[config.AlertRule] = (),
) -> PriceCollector:
    return PriceCollector(
        watches,
        desk.spender,
        desk.outbox,
        DerivedDeals(),
        config.Prices(mode="fixed"),
        concurrency=concurrency,
        rules=rules,
    )


@pytest.fixture
def start(nursery: trio.Nursery) -> Start:
    """Let a collector run at a desk."""

    def begin(
        desk: Desk,
        watches: Sequence[Watch],
        *,
        concurrency: int = 1,
        rules: Sequence[config.AlertRule] = (),
    ) -> PriceCollector:
        collector = collector_at(desk, watches, concurrency=concurrency, rules=rules)
        nursery.start_soon(collector.run, desk.heartbeat)
        return collector

    return begin


def watches(count: int, *, every_s: int = RARELY_S, first: int = 0) -> list[Watch]:
    return [watch(f"B{number:09d}", every_s=every_s) for number in range(first, first + count)]


def sizes(desk: Desk) -> list[int]:
    """How many products each call asked for."""
    return [len(call["asins"]) for call in desk.asked()]


def is_dear(call: dict[str, Any]) -> bool:
    """Whether a call cost more than a token for each product."""
    consumed: int = call["tokens_consumed"]
    return consumed > len(call["asins"])


def checked(desk: Desk) -> Counter[str]:
    """How often each product has a price."""
    return Counter(price["asin"] for price in desk.kept("price"))


def all_checked(desk: Desk, wanted: Sequence[Watch]) -> Callable[[], bool]:
    return lambda: checked(desk).keys() >= {one.asin for one in wanted}


def lines_of_alerts(caplog: pytest.LogCaptureFixture) -> int:
    return [one.getMessage() for one in caplog.records].count("alert")


async def test_alerts_come_with_what_they_are_about(
    open_desk: OpenDesk, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """In the same commit as price and state, and each is a line in the log."""
    desk = await open_desk()
    rule = config.AlertRule(name="any", what="target", threshold=config.Threshold(10**6))
    mates = ("B000000000", "B000000009")
    cheapest = config.AlertRule(name="low", what="low", asins=mates, cheapest=True)
    desk.outbox.commit(Commit(states=(ProductState("DE", mates[1], 0, KNOWN),)))
    caplog.set_level("INFO")

    start(desk, watches(8), rules=(rule, cheapest))
    await until(lambda: len(checked(desk)) == 8)
    await until(lambda: 0 < len(desk.kept("alert")) == lines_of_alerts(caplog))

    # Which of them are offered depends on the time of day.
    offered = {one["asin"] for one in desk.kept("price") if one["current_price"] is not None}
    rung = {one["asin"]: one["new_price"] for one in desk.kept("alert") if one["rule"] == "any"}
    assert rung.keys() == offered
    for asin, state in desk.outbox.states("DE", list(rung)).items():
        known = recall(state)
        assert known is not None
        assert rung[asin] in known.told.values()


async def test_what_is_not_watched_any_more_is_no_price_to_compare_with(
    open_desk: OpenDesk, start: Start
) -> None:
    """Neither in another marketplace nor among those that stand for each other."""
    desk = await open_desk()
    one, mate = watches(2)
    here = config.AlertRule(name="spread", what="spread", threshold=SHARE)
    cheapest = config.AlertRule(
        name="cheapest",
        what="target",
        threshold=config.Threshold(10**6),
        asins=(one.asin, mate.asin),
        cheapest=True,
    )
    places = ("FR", one.asin), ("DE", mate.asin)
    desk.outbox.commit(Commit(states=tuple(ProductState(*each, 0, KNOWN) for each in places)))

    start(desk, [one, watch("B000000009", domain="FR")], rules=(here, cheapest))
    await until(lambda: len(checked(desk)) == 2)

    assert [alert["rule"] for alert in desk.kept("alert")] == ["cheapest"]


class TestBudget:
    async def test_full_batches_where_tokens_are_plenty(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """A call takes 100 products at most."""
        desk = await open_desk(refill_rate=0)
        start(desk, watched := watches(110))

        await until(all_checked(desk, watched))

        assert sizes(desk)[0] == 100

    @pytest.mark.parametrize(("max_call_cost", "prior"), [(20, 1.0), (100, 5.0)])
    async def test_no_call_costs_more_than_the_cap(
        self,
        open_desk: OpenDesk,
        start: Start,
        max_call_cost: int,
        prior: float,
    ) -> None:
        """By the config's guess at first, by what was learned later."""
        desk = await open_desk(refill_rate=0, max_call_cost=max_call_cost, costs={"product": prior})
        start(desk, watched := watches(30))

        await until(all_checked(desk, watched))

        assert sizes(desk)[0] == 20
        assert max(sizes(desk)) <= max_call_cost

    async def test_extras_are_bought_only_for_the_products_that_ask_for_them(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """Apart from the others, at a price of their own that is learned."""
        desk = await open_desk(refill_rate=0, costs={"product offers=20": 13.0})
        plain = watches(20)
        dear = [replace(one, extras=Extras(offers=20)) for one in watches(20, first=20)]
        start(desk, [*plain, *dear])

        await until(all_checked(desk, [*plain, *dear]))

        bought = {asin for call in desk.asked() for asin in call["asins"] if is_dear(call)}
        assert bought == {one.asin for one in dear}
        assert all(len(call["asins"]) * 13 <= 200 for call in desk.asked() if is_dear(call))
        costs = desk.bucket.state().costs
        assert costs["product"] == 1
        assert costs["product offers=20"] == pytest.approx(13, rel=0.1)
        boxes = {price["asin"] for price in desk.kept("price") if "NEW_FBA" in price["prices"]}
        assert boxes
        assert boxes <= bought

    async def test_a_product_too_dear_for_any_call_costs_one_product(
        self,
        open_desk: OpenDesk,
        start: Start,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is put off with the reason; the others go on without a pause."""
        desk = await open_desk(refill_rate=0, max_call_cost=30, costs={"product offers=100": 61.0})
        dear = replace(watch("B000000099"), extras=Extras(offers=100))
        collector = start(desk, [dear, *(plain := watches(5))])

        await until(all_checked(desk, plain))
        await until(lambda: "product refused" in caplog.text)

        assert collector.trouble.reason is None
        assert dear.asin not in checked(desk)

    async def test_it_spends_what_there_is_and_then_what_a_minute_brings(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """So that no product waits long for a full batch."""
        desk = await open_desk(refill_rate=10, tokens=33)
        start(desk, watches(80))

        await until(lambda: desk.bucket.state().waiting)

        assert sizes(desk) == [33]

    async def test_it_never_asks_for_more_than_there_is(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """Four calls at once share one bucket: none is refused, none drives it below zero."""
        desk = await open_desk(refill_rate=5, tokens=8)
        start(desk, watched := watches(60), concurrency=4)

        await until(all_checked(desk, watched))

        assert {call["status"] for call in desk.asked()} == {200}
        assert min(call["tokens_left"] for call in desk.asked()) >= 0

    async def test_checks_are_spread_over_the_interval(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """What was first checked all at once is soon checked at many different times."""
        desk = await open_desk()
        start(desk, watched := watches(20, every_s=3600))

        await until(
            lambda: min(checked(desk).values(), default=0) >= 3 and len(checked(desk)) == 20
        )

        later = [call["at_ms"] // MINUTE_MS for call in desk.asked()[1:]]
        assert len(set(later)) > 15
        assert len(watched) == 20

    async def test_several_calls_are_in_flight(self, open_desk: OpenDesk, start: Start) -> None:
        """As many as configured: the next begins when one has ended."""
        desk = await open_desk(faults=(Fault("timeout", 1.0, "product"),), call_s=20.0)
        start(desk, watches(1000), concurrency=3)

        await until(lambda: len(sizes(desk)) == 3)

        assert desk.calls.totals().failed_calls == 0
        assert desk.bucket.state().reserved == sum(sizes(desk))

    # Slower than elsewhere, or on a busy machine the tokens are back before they are asked for.
    @pytest.mark.parametrize("fast_clock", [400.0], indirect=True)
    async def test_a_balance_below_zero_is_waited_out(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """Declared, and without a call that would only be refused."""
        desk = await open_desk(faults=(Fault("negative", 1.0, "product"),), max_call_cost=10)
        start(desk, watched := watches(15))

        await until(all_checked(desk, watched))
        assert any("tokens until" in why for why in desk.whys)

        first, second = (call["at_ms"] for call in desk.asked()[:2])
        assert second - first >= 10 * MINUTE_MS
        assert {call["status"] for call in desk.asked()} == {200}

    async def test_a_plan_that_shrinks_makes_smaller_batches(
        self,
        open_desk: OpenDesk,
        start: Start,
        service: Service,
        fast_clock: ScaledClock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A batch that no longer fits the bucket is not waited for, but asked in parts."""
        desk = await open_desk(refill_rate=100, tokens=-200_000)
        collector = start(desk, watched := watches(100))
        await until(lambda: desk.bucket.state().waiting)

        await service.serve(refill_rate=1, tokens=60)
        desk.bucket.confirm(await desk.spender.client.token())
        await until(all_checked(desk, watched))

        assert max(sizes(desk)) <= 60
        assert collector.trouble.reason is None
        assert said(caplog) == []

    async def test_without_refill_it_says_so_until_tokens_arrive(
        self,
        open_desk: OpenDesk,
        start: Start,
        fast_clock: ScaledClock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Trackings may take all of the rate; /token is asked now and then."""
        desk = await open_desk()
        nothing = Envelope(timestamp_ms=1, refill_in_ms=1_000, tokens_left=-1)
        desk.bucket.confirm(nothing)

        collector = start(desk, watched := watches(5))
        await until(all_checked(desk, watched))

        assert said(caplog)[0].startswith("no tokens arrive")
        await until(lambda: collector.trouble.reason is None)

    async def test_an_empty_watchlist_costs_nothing(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """One free question at the start, so that a wrong key shows at once; then rest."""
        desk = await open_desk()
        collector = start(desk, [], concurrency=4)

        await until(lambda: desk.heartbeat.why == "nothing to watch")

        assert len(desk.asked("token")) == 1
        assert collector.state(0).next_due_s is None

    async def test_while_nothing_is_due_it_sleeps(
        self,
        open_desk: OpenDesk,
        start: Start,
        fast_clock: ScaledClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Each worker looks up when a product is due and every ten minutes, not more often."""
        looks = []
        pick = Planner.pick

        def counted(planner: Planner, now: int, *how: Any, **more: Any) -> Batch | None:
            looks.append(now)
            return pick(planner, now, *how, **more)

        monkeypatch.setattr(Planner, "pick", counted)
        desk = await open_desk()
        start(desk, watched := watches(5), concurrency=4)
        await until(all_checked(desk, watched))

        looks.clear()
        began = trio.current_time()
        await trio.sleep(3600)

        hours = (trio.current_time() - began) / 3600
        assert len(looks) <= 4 * (6 * hours + 1) + 4 * len(desk.asked())


class TestFailures:
    async def test_after_time_outs_batches_are_halved_and_grow_again(
        self, open_desk: OpenDesk, start: Start, service: Service, fast_clock: ScaledClock
    ) -> None:
        """What timed out was probably paid for: less is lost with the next."""
        desk = await open_desk(faults=(Fault("timeout", 1.0, "product"),), call_s=0.3)
        collector = start(desk, watched := watches(40))

        await until(lambda: len(sizes(desk)) >= 6)
        assert sizes(desk)[:6] == [40, 20, 10, 5, 2, 1]
        assert "no whole answer came" in (collector.trouble.reason or "")
        await service.serve()
        await until(all_checked(desk, watched))

        answered = [len(call["asins"]) for call in desk.asked() if call["delivered"]]
        assert answered[0] == 1
        assert max(answered) >= 4
        await until(lambda: collector.trouble.reason is None)

    async def test_a_late_failure_makes_no_larger_batches(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """Of calls that began before the trouble, one may fail after smaller ones."""
        desk = await open_desk(faults=(Fault("badgzip", 1.0, "product"),))
        collector = collector_at(desk, watched := watches(40), concurrency=1)
        collector._planner = Planner(watched, {})
        late = collector._planner.pick(desk.spender.time.now_ms(), 30)
        small = collector._planner.pick(desk.spender.time.now_ms(), 10)
        assert late is not None
        assert small is not None

        await collector._check(small, desk.heartbeat)
        await collector._check(late, desk.heartbeat)
        nursery.start_soon(collector._work, desk.heartbeat)

        await until(lambda: len(sizes(desk)) >= 3)
        assert sizes(desk)[:2] == [10, 30]
        assert sizes(desk)[2] <= 5

    @pytest.mark.parametrize("when", ["before the call", "after the answer"])
    async def test_an_outbox_that_can_not_be_read_for_a_while_costs_no_answer(
        self,
        open_desk: OpenDesk,
        start: Start,
        monkeypatch: pytest.MonkeyPatch,
        when: str,
    ) -> None:
        """What is paid for waits for it; what is not is not yet asked for."""
        monkeypatch.setattr(spending, "_STORE_RETRY_S", 0.05)
        desk = await open_desk()
        states, left = desk.outbox.states, iter(range(3))

        def failing(domain: str, asins: Sequence[str]) -> dict[str, bytes]:
            if (domain == "UK") == (when == "after the answer") and next(left, None) is not None:
                raise DiskFullError("no room")
            return states(domain, asins)

        monkeypatch.setattr(desk.outbox, "states", failing)
        here = config.AlertRule(name="spread", what="spread", threshold=SHARE)
        away = watch("B000000001", domain="UK")
        known = ProductState("UK", away.asin, desk.spender.time.now_ms(), KNOWN)
        desk.outbox.commit(Commit(states=(known,)))

        start(desk, [watch("B000000001"), away], rules=(here,))

        await until(lambda: [price["domain"] for price in desk.kept("price")] == ["DE"])
        assert next(left, None) is None
        assert len(desk.asked()) == 1
        await until(lambda: desk.spender.store_trouble is None)

    # Slower than elsewhere, or on a busy machine it is refused thrice before the others are seen.
    @pytest.mark.parametrize("fast_clock", [1200.0], indirect=True)
    async def test_one_refused_product_is_found_among_its_neighbours(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """The others are checked in the same minute; it is asked for again much later, alone."""
        desk = await open_desk()
        culprit = watch("NO-ASIN")
        others = watches(31)
        collector = start(desk, [*others[:20], culprit, *others[20:]])

        await until(all_checked(desk, others))
        assert collector.trouble.reason is None
        await until(lambda: collector.state(0).set_aside >= 2)

        calls = desk.asked()
        alone = [number for number, call in enumerate(calls) if call["asins"] == ["NO-ASIN"]]
        first, again, *_ = (calls[number] for number in alone)
        assert alone[1] <= 2 * 5 + 1
        assert first["status"] == 400
        assert again["at_ms"] - first["at_ms"] >= 29 * MINUTE_MS

    async def test_several_refused_products_are_found_too(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """Even side by side, where for long nothing is taken."""
        desk = await open_desk()
        culprits = [watch(f"NO-ASIN-{number}") for number in range(6)]
        others = watches(20)
        start(desk, [*culprits, *others])

        await until(all_checked(desk, others))

        assert checked(desk).keys() == {one.asin for one in others}

    async def test_when_all_is_refused_it_is_not_the_products(
        self, open_desk: OpenDesk, start: Start, service: Service, fast_clock: ScaledClock
    ) -> None:
        """It pauses instead of asking for each of them, and goes on when Keepa does."""
        desk = await open_desk(faults=(Fault("error200", 1.0, "product"),))
        collector = start(desk, watched := watches(40))

        await until(lambda: collector.trouble.reason)
        await until(lambda: len(sizes(desk)) > 20)
        calls = [call["at_ms"] for call in desk.asked()]
        pauses = (number for number in range(1, 21) if calls[number] - calls[number - 1] > 59_000)
        assert next(pauses) <= 12
        await service.serve()
        await until(all_checked(desk, watched))

        await until(lambda: collector.trouble.reason is None)

    async def test_in_bad_weather_one_asks_and_ever_more_seldom(
        self,
        open_desk: OpenDesk,
        start: Start,
        service: Service,
        fast_clock: ScaledClock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Calls may be paid in vain: four, then one after 30 s, 1, 2, 4, 5, 5 minutes."""
        desk = await open_desk(faults=(Fault("503", 1.0, "product"),), max_call_cost=5)
        collector = start(desk, watched := watches(25), concurrency=4)

        await until(lambda: len(sizes(desk)) >= 10)
        began, *later = (call["at_ms"] for call in desk.asked())
        # A busy machine makes them fewer, and never more.
        assert sum(at_ms < began + 17 * MINUTE_MS for at_ms in later) <= 3 + 5
        assert "503" in (collector.trouble.reason or "")
        assert len(said(caplog)) == 1
        await service.serve()
        await until(all_checked(desk, watched))

        await until(lambda: collector.trouble.reason is None)

    async def test_calls_that_fail_together_make_one_pause(
        self, open_desk: OpenDesk, autojump_clock: MockClock
    ) -> None:
        """However many were under way."""
        desk = await open_desk()
        collector = collector_at(desk, watches(4), concurrency=4)

        for _ in range(4):
            collector._pause(ServerError("Keepa answered 503"))

        assert collector._paused_until == trio.current_time() + 30

    async def test_a_wrong_key_shows_at_once_and_a_right_one_is_noticed(
        self, open_desk: OpenDesk, start: Start, service: Service, fast_clock: ScaledClock
    ) -> None:
        """Its blank figures are not taken for the bucket's."""
        desk = await open_desk(client_key="mine", key="another")
        collector = start(desk, watched := watches(5), concurrency=4)

        await until(lambda: "check the API key" in (collector.trouble.reason or ""))
        assert sizes(desk) == []
        assert desk.bucket.state().tokens is None
        await service.serve(key="mine")
        await until(all_checked(desk, watched))

        await until(lambda: collector.trouble.reason is None)
        assert len(desk.asked("token")) < 10

    async def test_trouble_ends_with_what_it_was_about(
        self, open_desk: OpenDesk, start: Start, service: Service, fast_clock: ScaledClock
    ) -> None:
        """A daemon that starts before the network is well when /token answers."""
        desk = await open_desk()
        service.stop()
        now_ms = desk.spender.time.now_ms()
        known = [ProductState("DE", one.asin, now_ms, KNOWN) for one in watches(3)]
        desk.outbox.commit(Commit(states=tuple(known)))

        collector = start(desk, watches(3))
        await until(lambda: collector.trouble.reason)
        await service.serve()

        await until(lambda: collector.trouble.reason is None)
        assert desk.asked() == []

    async def test_a_crash_is_planned_anew_from_the_store(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """What was checked is not checked again at once; what was out is."""
        desk = await open_desk(refill_rate=0)
        done, new = watches(50), watches(10, first=50)
        async with trio.open_nursery() as nursery:
            first = collector_at(desk, done, concurrency=2)
            nursery.start_soon(first.run, desk.heartbeat)
            await until(all_checked(desk, done))
            nursery.cancel_scope.cancel()

        start(desk, [*done, *new])
        await until(all_checked(desk, new))

        assert desk.asked()[-1]["asins"] == [one.asin for one in new]


class TestSilence:
    async def test_a_hung_worker_is_not_hidden_by_the_others(
        self,
        open_desk: OpenDesk,
        monkeypatch: pytest.MonkeyPatch,
        nursery: trio.Nursery,
        fast_clock: ScaledClock,
    ) -> None:
        """All of them are started anew."""
        desk = await open_desk()
        settle, calls = desk.spender.settle_doubts, iter(range(1_000_000))

        async def hang_once() -> None:
            if next(calls) == 0:
                await trio.sleep_forever()
            await settle()

        monkeypatch.setattr(desk.spender, "settle_doubts", hang_once)
        supervisor = Supervisor(nursery)
        collector = collector_at(desk, watched := watches(4), concurrency=2)
        supervisor.start("prices", collector.run, stall_after=3600)
        await until(all_checked(desk, watched))

        await until(lambda: supervisor.statuses()[0].stalls == 1)

    @pytest.mark.parametrize("fast_clock", [20.0], indirect=True)
    async def test_a_slow_answer_is_no_silence(
        self,
        open_desk: OpenDesk,
        nursery: trio.Nursery,
        fast_clock: ScaledClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It is paid for, and how long it may take the client says."""
        monkeypatch.setattr(spending, "GRACE_S", 0.02)
        desk = await open_desk(refill_rate=0)
        products = desk.spender.client.products

        async def slow(*query: Any) -> Any:
            answer = await products(*query)
            await trio.sleep(60)
            return answer

        monkeypatch.setattr(desk.spender.client, "products", slow)
        supervisor = Supervisor(nursery)
        collector = collector_at(desk, watched := watches(10), concurrency=1)
        supervisor.start("prices", collector.run, stall_after=40)

        await until(all_checked(desk, watched))

        assert supervisor.statuses()[0].stalls == 0
        assert len(desk.asked()) == 1

    async def test_an_outage_is_no_silence_however_long(
        self, open_desk: OpenDesk, nursery: trio.Nursery, fast_clock: ScaledClock
    ) -> None:
        """The workers take turns in asking whether Keepa answers again."""
        desk = await open_desk(faults=(Fault("503", 1.0, "product"),))
        supervisor = Supervisor(nursery)
        # With a pause of up to 5 minutes each, it is 40 times that until one's turn is back.
        collector = collector_at(desk, watches(4), concurrency=40)
        supervisor.start("prices", collector.run, stall_after=2 * 3600)
        begun = trio.current_time()

        await until(lambda: trio.current_time() > begun + 5 * 3600)

        assert collector.trouble.reason is not None
        (status,) = supervisor.statuses()
        assert (status.restarts, status.stalls) == (0, 0)


class TestState:
    async def test_it_counts_what_became_of_the_products(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """Absent ones, changes, what is due and when the next is."""
        desk = await open_desk()
        missing = [watch(f"B00MISS00{number}") for number in range(3)]
        collector = start(desk, [*watches(4), *missing])

        await until(lambda: collector.state(0).absent == 3)
        state = collector.state(bad_lines=2)

        assert (state.products, state.bad_lines, state.set_aside) == (7, 2, 0)
        assert state.changes == len(desk.kept("change")) > 0
        assert state.due == 0
        assert state.next_due_s is not None
        assert 0 <= state.next_due_s <= RARELY_S

    async def test_a_product_that_does_not_fit_is_counted_and_told(
        self,
        open_desk: OpenDesk,
        start: Start,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """With the reason; its neighbours have their prices."""
        desk = await open_desk(faults=(Fault("wrongtypes", 1.0, "product"),))
        collector = start(desk, watches(4))

        await until(lambda: collector.state(0).set_aside == 1)

        assert len(checked(desk)) == 3
        [letter] = desk.outbox.dead_letters(source="keepa")
        assert letter.kind == "product"
        assert "product set aside" in caplog.text


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The reasons of the log lines that say that collecting fails."""
    failures = [one for one in caplog.records if one.getMessage() == "collecting fails"]
    return [one.__dict__["fields"]["reason"] for one in failures]
