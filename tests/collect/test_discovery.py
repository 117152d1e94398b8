"""The discovery task, from a simulator: what it asks for, what that costs, and what comes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from pricecheck.clock import ScaledClock
from pricecheck.collect.bestsellers import collect_bestsellers
from pricecheck.collect.candidates import Facts, Sieve, judged
from pricecheck.collect.deals import DerivedDeals, collect_deals
from pricecheck.collect.discovery import Discovery
from pricecheck.collect.trouble import Trouble
from pricecheck.config import BestsellersRule, DealRule, DiscoveryRule, Domain
from pricecheck.keepa.client import ProductsAnswer
from pricecheck.keepa.errors import BadAnswerError, RejectedError
from pricecheck.outbox import Candidate, CandidateState, Commit
from pricecheck.records import Bestsellers
from pricecheck.simulator.settings import Fault
from pricecheck.simulator.world import pool

from ..daemons import Service, until
from .answers import NOON, product
from .answers import answer as products_answer
from .conftest import Desk, OpenDesk

DE = Domain("DE")
KEYBOARDS = 340843031
RULE = DiscoveryRule(name="keyboards", domain=DE, source="bestsellers", category=KEYBOARDS, top=30)
BEST = BestsellersRule(domain=DE, category=KEYBOARDS)

Start = Callable[..., Discovery]


@pytest.fixture
def start(nursery: trio.Nursery) -> Start:
    """Start discovery for these rules, and return it."""

    def begin(
        desk: Desk,
        *rules: DiscoveryRule,
        watched: set[str] = frozenset(),  # type: ignore[assignment]
        on_accept: Callable[[], None] = lambda: None,
    ) -> Discovery:
        sieves = [Sieve(rule, watched) for rule in rules]
        discovery = Discovery(sieves, desk.spender, desk.outbox, on_accept)
        nursery.start_soon(discovery.run, desk.heartbeat)
        return discovery

    return begin


def listed(desk: Desk, *asins: str) -> None:
    """Store a list of best sellers as its task does."""
    record = Bestsellers(
        domain="DE",
        category=str(KEYBOARDS),
        observed_at="2026-03-18T13:20:00Z",
        last_update=None,
        total=len(asins),
        asins=asins,
    ).record()
    desk.outbox.commit(Commit(records=(record,)))


def names(count: int, first: int = 0) -> list[str]:
    return [f"B{number:09d}" for number in range(first, first + count)]


def states(desk: Desk, rule: str | None = None) -> Counter[str]:
    """How many candidates are in which state."""
    kinds: tuple[CandidateState, ...] = ("found", "waiting", "unfit", "accepted", "rejected")
    return Counter(
        {kind: count for kind in kinds if (count := len(desk.outbox.candidates(kind, rule=rule)))}
    )


def asked(desk: Desk) -> Counter[str]:
    """How often each product was asked for."""
    return Counter(asin for call in desk.asked() for asin in call["asins"])


class TestSources:
    async def test_candidates_come_with_the_list(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """In the same commit, the best first, and not those that are watched."""
        desk = await open_desk()
        watched = set(pool(1, 0.0, 3, str(KEYBOARDS))[:200])
        collect = partial(collect_bestsellers, sieves=[Sieve(RULE, watched)])

        nursery.start_soon(collect, desk.heartbeat, BEST, desk.spender, Trouble(BEST.name))
        await until(lambda: desk.kept("bestseller"))

        found = desk.outbox.candidates("found")
        order = desk.kept("bestseller")[0]["asins"][:30]
        assert [one.asin for one in found] == [asin for asin in order if asin not in watched]
        assert 0 < len(found) < 30

    async def test_deals_tell_enough_to_judge(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """No product is asked for; what fits waits, what does not says why."""
        desk = await open_desk()
        rule = msgspec.structs.replace(RULE, source="deals", min_rating=4.2, max_price=80.0)

        deals = DealRule(domain=DE, category=KEYBOARDS)
        await self.collect(desk, nursery, deals, Sieve(rule, frozenset()))

        kept = {deal["asin"]: deal for deal in desk.kept("deal")}
        fitting = {
            asin
            for asin, deal in kept.items()
            if deal["rating"] >= 4.2 and deal["current_price"] <= 8_000
        }
        assert {one.asin for one in desk.outbox.candidates("waiting")} == fitting
        assert len(desk.outbox.candidates("unfit")) == len(kept) - len(fitting) > 0
        assert asked(desk) == {}

    async def test_only_what_deals_leave_open_is_asked_for(
        self, open_desk: OpenDesk, nursery: trio.Nursery, start: Start
    ) -> None:
        """A brand, for which too dear a product need not be asked."""
        desk = await open_desk(refill_rate=0)
        rule = msgspec.structs.replace(RULE, source="deals", max_price=60.0, brands=("Lumikey",))
        deals = DealRule(domain=DE, category=KEYBOARDS)
        await self.collect(desk, nursery, deals, Sieve(rule, frozenset()))
        cheap = {deal["asin"] for deal in desk.kept("deal") if deal["current_price"] <= 6_000}

        start(desk, rule)
        await until(lambda: not desk.outbox.candidates("found"))

        assert asked(desk) == dict.fromkeys(cheap, 1)
        bodies = [json.loads(one.body) for one in desk.outbox.candidates("waiting")]
        assert bodies
        assert {body["brand"] for body in bodies} == {"Lumikey"}

    async def test_the_list_of_before_the_rule_is_taken_in(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """It was paid for; the next one may be a day away."""
        desk = await open_desk(refill_rate=0)
        listed(desk, *names(5))

        start(desk, RULE)
        await until(lambda: states(desk) == {"waiting": 5})

        assert desk.asked("bestsellers") == []

    @staticmethod
    async def collect(desk: Desk, nursery: trio.Nursery, rule: DealRule, sieve: Sieve) -> None:
        trouble = Trouble(rule.name)
        collect = partial(collect_deals, sieves=[sieve])
        nursery.start_soon(collect, desk.heartbeat, rule, desk.spender, DerivedDeals(), trouble)
        await until(lambda: desk.kept("deal"))


class TestCosts:
    async def test_no_product_is_paid_for_twice(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock, nursery: trio.Nursery
    ) -> None:
        """Whichever rules found it, whether it fits or not, and when lists bring it again."""
        desk = await open_desk(refill_rate=0)
        listed(desk, *names(20))
        strict = msgspec.structs.replace(RULE, name="strict", min_rating=4.5)

        start(desk, RULE, strict)
        await until(lambda: states(desk)["waiting"] + states(desk)["unfit"] == 40)
        sieve = Sieve(strict, frozenset())
        again = sieve.of_list(names(20), desk.spender.time.now_ms())
        desk.outbox.commit(Commit(candidates=tuple(again)))
        start(desk, RULE, strict)
        await trio.sleep(600)

        assert asked(desk) == dict.fromkeys(names(20), 1)
        assert states(desk, "strict")["unfit"] > 0

    async def test_a_rule_that_changes_judges_what_is_known(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """Without asking again: filters can be tried out for nothing."""
        desk = await open_desk(refill_rate=0)
        listed(desk, *names(20))
        start(desk, msgspec.structs.replace(RULE, min_rating=5))
        await until(lambda: states(desk) == {"unfit": 20})

        start(desk, RULE)
        await until(lambda: states(desk) == {"waiting": 20})

        assert set(asked(desk).values()) == {1}

    @pytest.mark.parametrize(("reserve", "affordable"), [(0.9, 120), (0.0, 200)])
    async def test_the_reserve_is_left_to_others(
        self,
        open_desk: OpenDesk,
        start: Start,
        reserve: float,
        affordable: int,
    ) -> None:
        """A full bucket of 1,200 is spent down to it, in calls that the cap allows."""
        desk = await open_desk()
        rule = msgspec.structs.replace(RULE, top=200, most=200, reserve=reserve)
        listed(desk, *names(200))

        start(desk, rule)
        await until(lambda: len(asked(desk)) >= affordable)
        await until(lambda: states(desk)["waiting"] == affordable)

        assert sum(call["tokens_consumed"] for call in desk.asked()) == affordable
        assert desk.bucket.available() >= reserve * 1200

    async def test_nothing_is_asked_while_others_wait_for_tokens(
        self, open_desk: OpenDesk, nursery: trio.Nursery, start: Start
    ) -> None:
        """Whoever waits at the bucket goes first, whatever there is above the reserve."""
        desk = await open_desk(tokens=100)
        await desk.spender.settle_doubts()
        nursery.start_soon(desk.bucket.take, 150)
        await trio.testing.wait_all_tasks_blocked()
        listed(desk, *names(5))

        start(desk, msgspec.structs.replace(RULE, reserve=0))
        await until(lambda: desk.heartbeat.why.startswith("next at"))

        assert asked(desk) == {}

    async def test_nothing_more_is_asked_when_there_are_enough(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """What waits and what was accepted count; the rest of the list is left alone."""
        desk = await open_desk(refill_rate=0)
        listed(desk, *names(30))

        start(desk, msgspec.structs.replace(RULE, most=7, min_rating=4))
        await until(lambda: states(desk)["waiting"] == 7)
        await trio.sleep(300)

        assert states(desk)["waiting"] == 7
        assert len(asked(desk)) < 30
        assert states(desk)["found"] == 30 - len(asked(desk))


class TestAcceptance:
    async def test_all_is_accepted_up_to_the_most(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """The best first, told once, and no more after a restart."""
        desk = await open_desk(refill_rate=0)
        listed(desk, *names(30))
        told: list[int] = []
        rule = msgspec.structs.replace(RULE, most=7, accept="all")

        start(desk, rule, on_accept=lambda: told.append(1))
        await until(lambda: told)
        start(desk, rule, watched=set(names(7)), on_accept=lambda: told.append(1))
        await trio.sleep(1800)

        assert [one.asin for one in desk.outbox.candidates("accepted")] == names(7)
        assert told == [1]
        assert len(asked(desk)) == 7

    async def test_deals_that_cost_nothing_are_no_more_than_the_most(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """More may wait than a rule takes: they did not have to be asked for."""
        desk = await open_desk()
        rule = msgspec.structs.replace(RULE, source="deals", most=3, accept="all")
        now_ms = desk.spender.time.now_ms()
        told = [judged(rule, asin, Facts(title="A keyboard"), now_ms) for asin in names(10)]
        desk.outbox.commit(Commit(candidates=tuple(told)))

        start(desk, rule)
        await until(lambda: states(desk)["accepted"])

        assert states(desk) == {"accepted": 3, "waiting": 7}

    async def test_what_a_person_decided_upon_stands(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """A rejected product is not found again, by no rule."""
        desk = await open_desk(refill_rate=0)
        no = Candidate("DE", names(1)[0], "other", "rejected", 0, b"{}")
        desk.outbox.decide([no])
        listed(desk, *names(3))

        start(desk, msgspec.structs.replace(RULE, accept="all"))
        await until(lambda: states(desk)["accepted"] == 2)

        assert desk.outbox.candidates("rejected") == [no]
        assert asked(desk) == dict.fromkeys(names(2, 1), 1)

    async def test_what_is_watched_meanwhile_is_not_offered(
        self, open_desk: OpenDesk, start: Start
    ) -> None:
        """Status tells how many a person is asked about."""
        desk = await open_desk(refill_rate=0)
        listed(desk, *names(3))
        start(desk, RULE)
        await until(lambda: desk.heartbeat.why.startswith("3 candidates wait"))

        start(desk, RULE, watched={names(1)[0]})

        await until(lambda: desk.heartbeat.why.startswith("2 candidates wait"))


class TestTrouble:
    async def test_the_culprit_of_a_refused_batch_is_found(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """The others are judged; the refused one is not asked for again."""
        desk = await open_desk(refill_rate=0)
        listed(desk, *names(10))
        calls: list[list[str]] = []

        async def answer(market: Any, asins: Sequence[str], query: Any) -> ProductsAnswer:
            await trio.lowlevel.checkpoint()
            calls.append(list(asins))
            if names(10)[3] in asins:
                raise RejectedError("Keepa answered 400", remedy="none")
            whole = [product({"NEW": [NOON, 5_000]}, asin=asin) for asin in asins]
            return products_answer(*whole)

        desk.spender.client.products = answer  # type: ignore[method-assign]
        start(desk, RULE)
        await until(lambda: states(desk) == {"waiting": 9, "unfit": 1})
        await trio.sleep(300)

        assert [one.asin for one in desk.outbox.candidates("unfit")] == [names(10)[3]]
        assert Counter(asin for call in calls if len(call) == 1 for asin in call)[names(10)[3]] == 1

    # Slower than elsewhere, or it asks again before anybody has looked.
    @pytest.mark.parametrize("fast_clock", [60.0], indirect=True)
    async def test_when_keepa_refuses_everything_it_is_not_the_products(
        self, open_desk: OpenDesk, start: Start, service: Service, fast_clock: ScaledClock
    ) -> None:
        """Three of them are given up, then it is told and waited."""
        desk = await open_desk(refill_rate=0, faults=(Fault("400", 1.0, "product"),))
        listed(desk, *names(30))

        discovery = start(desk, RULE)
        await until(lambda: discovery.trouble.reason)
        refused = states(desk)["unfit"]
        await service.serve(refill_rate=0)
        await until(lambda: not desk.outbox.candidates("found"))

        assert refused == 3
        await until(lambda: discovery.trouble.reason is None)

    @pytest.mark.parametrize("fault", ["503", "notjson"])
    async def test_an_outage_costs_no_candidate(
        self,
        open_desk: OpenDesk,
        start: Start,
        service: Service,
        fast_clock: ScaledClock,
        fault: str,
    ) -> None:
        """However long: no product was at fault."""
        desk = await open_desk(refill_rate=0, faults=(Fault(fault, 1.0, "product"),))
        listed(desk, *names(20))
        began = trio.current_time()

        start(desk, msgspec.structs.replace(RULE, most=20))
        await until(lambda: trio.current_time() > began + 6 * 3600)
        assert states(desk) == {"found": 20}
        await service.serve(refill_rate=0)

        await until(lambda: states(desk) == {"waiting": 20})

    async def test_the_culprit_of_broken_answers_is_found(
        self, open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
    ) -> None:
        """It fails alone, others do not, and then it fails again."""
        desk = await open_desk(refill_rate=0)
        listed(desk, *names(10))
        culprit = names(10)[0]
        alone = []

        async def answer(market: Any, asins: Sequence[str], query: Any) -> ProductsAnswer:
            await trio.lowlevel.checkpoint()
            if culprit in asins:
                alone.append(len(asins) == 1)
                raise BadAnswerError("the answer is not JSON")
            return products_answer(*(product({"NEW": [NOON, 5_000]}, asin=asin) for asin in asins))

        desk.spender.client.products = answer  # type: ignore[method-assign]
        start(desk, RULE)

        await until(lambda: states(desk) == {"waiting": 9, "unfit": 1})
        assert [one.asin for one in desk.outbox.candidates("unfit")] == [culprit]
        assert alone.count(True) == 2

    async def test_an_answer_that_is_lost_makes_the_next_call_smaller(
        self, open_desk: OpenDesk, start: Start, service: Service, fast_clock: ScaledClock
    ) -> None:
        """It was paid for: less is risked until answers come again."""
        desk = await open_desk(refill_rate=0, faults=(Fault("truncated", 1.0, "product"),))
        listed(desk, *names(20))

        start(desk, msgspec.structs.replace(RULE, most=20))
        await until(lambda: len(desk.asked()) >= 2)
        await service.serve(refill_rate=0)
        await until(lambda: states(desk) == {"waiting": 20})

        sizes = [len(call["asins"]) for call in desk.asked()]
        assert sizes[:2] == [20, 10]
