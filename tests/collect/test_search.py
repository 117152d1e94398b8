"""Category searches, from a simulator: what they ask for and when, and what that costs."""

from __future__ import annotations

import json
from collections import Counter
from itertools import count
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from pricecheck.clock import ScaledClock
from pricecheck.collect import spending
from pricecheck.collect.candidates import Facts, Sieve, judged
from pricecheck.collect.search import collect_search, finder_query
from pricecheck.collect.trouble import Trouble
from pricecheck.config import DiscoveryRule, Domain, Duration
from pricecheck.errors import StoreError
from pricecheck.keepa.client import FinderAnswer, FinderQuery
from pricecheck.keepa.errors import ServerError
from pricecheck.outbox import Candidate, CandidateState
from pricecheck.simulator import finder
from pricecheck.simulator.settings import Fault
from pricecheck.simulator.world import pool
from pricecheck.supervisor import Heartbeat

from ..daemons import Service, until
from .conftest import Desk, OpenDesk

KEYBOARDS = 340843031
RULE = DiscoveryRule(name="all", domain=Domain("DE"), source="search", category=KEYBOARDS)


def start(
    nursery: trio.Nursery, desk: Desk, rule: DiscoveryRule, watched: frozenset[str] = frozenset()
) -> Trouble:
    trouble = Trouble(rule.source_name)
    sieve = Sieve(rule, watched)
    nursery.start_soon(collect_search, desk.heartbeat, sieve, desk.spender, desk.outbox, trouble)
    return trouble


def found(desk: Desk) -> list[str]:
    return [one.asin for one in desk.outbox.candidates("found")]


def with_(rule: DiscoveryRule = RULE, **changes: Any) -> DiscoveryRule:
    return msgspec.structs.replace(rule, **changes)


async def best_hundred(desk: Desk) -> frozenset[str]:
    """What a search finds first."""
    best = await desk.spender.client.bestsellers(RULE.domain.market, str(KEYBOARDS))
    assert best.bestsellers is not None
    return frozenset(best.bestsellers.asin_list[:100])


class TestTask:
    async def test_what_is_found_becomes_candidates(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """No more than the top, less those that are watched; for 11 tokens."""
        desk = await open_desk()
        watched = frozenset(pool(1, 0.0, 3, str(KEYBOARDS))[:200])

        start(nursery, desk, with_(top=80), watched)
        await until(desk.outbox.marks)

        assert 0 < len(found(desk)) < 80
        assert set(found(desk)) <= set(pool(1, 0.0, 3, str(KEYBOARDS))[200:])
        assert [call["tokens_consumed"] for call in desk.asked("query")] == [11]

    @pytest.mark.parametrize(("top", "pages", "least"), [(1000, 3, 110), (130, 2, 30)])
    async def test_pages_are_turned_until_there_are_enough(
        self,
        open_desk: OpenDesk,
        nursery: trio.Nursery,
        top: int,
        pages: int,
        least: int,
    ) -> None:
        """Where the first hold what is watched already; or until the top is seen."""
        desk = await open_desk(refill_rate=0)
        watched = await best_hundred(desk)

        start(nursery, desk, with_(top=top, most=70), watched)
        await until(desk.outbox.marks)

        assert len(desk.asked("query")) == pages
        assert least <= len(found(desk)) < least + 10  # ranks move a little
        assert watched.isdisjoint(found(desk))

    async def test_no_page_is_paid_for_twice_where_the_outbox_can_not_be_read_for_a_while(
        self, open_desk: OpenDesk, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It goes on where it was."""
        desk = await open_desk(refill_rate=0)
        monkeypatch.setattr(spending, "_STORE_RETRY_S", 0.05)
        counts, looks = desk.outbox.candidate_counts, count(1)

        def failing(rule: str | None) -> Counter[CandidateState]:
            if next(looks) == 2:
                raise StoreError("another process has kept the outbox locked")
            return counts(rule)

        monkeypatch.setattr(desk.outbox, "candidate_counts", failing)

        start(nursery, desk, with_(top=130, most=130))
        await until(desk.outbox.marks)

        assert len(found(desk)) == 130
        assert len(desk.asked("query")) == 1
        assert next(looks) > 3

    async def test_a_page_that_fails_lets_none_before_it_be_paid_for_again(
        self,
        open_desk: OpenDesk,
        nursery: trio.Nursery,
        fast_clock: ScaledClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What comes next is that page, and its size is the same."""
        desk = await open_desk(refill_rate=0)
        watched = await best_hundred(desk)
        find, asked = desk.spender.client.find, []

        async def failing(market: Any, query: FinderQuery) -> FinderAnswer:
            asked.append((query.page, query.per_page))
            if asked.count((1, query.per_page)) == 1 and query.page == 1:
                raise ServerError("Keepa answered 500")
            return await find(market, query)

        monkeypatch.setattr(desk.spender.client, "find", failing)
        start(nursery, desk, with_(top=1000, most=70), watched)
        await until(desk.outbox.marks)

        assert [page for page, _ in asked] == [0, 1, 1, 2]
        assert len({size for _, size in asked}) == 1

    async def test_it_ends_where_the_category_does(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """All that it holds is found, and nothing behind it is asked for."""
        desk = await open_desk(refill_rate=0)

        start(nursery, desk, with_(top=10_000, most=900))
        await until(desk.outbox.marks)

        assert len(found(desk)) == 400
        assert len(desk.asked("query")) == 1

    async def test_a_rule_that_has_enough_asks_for_nothing(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """What waits, was accepted, or is still to be looked at counts."""
        desk = await open_desk(refill_rate=0)
        states: tuple[CandidateState, ...] = ("accepted", "waiting", "found")
        there = [
            Candidate("DE", f"B00000000{number}", "all", state, 0, b"{}")
            for number, state in enumerate(states)
        ]
        desk.outbox.decide(there)

        start(nursery, desk, with_(most=3))
        await until(lambda: desk.heartbeat.why.startswith("next at"))

        assert desk.asked("query") == []

    async def test_the_reserve_is_left_to_others(
        self, open_desk: OpenDesk, nursery: trio.Nursery, fast_clock: ScaledClock
    ) -> None:
        """It waits until the bucket holds the price of a page above it."""
        desk = await open_desk(tokens=500)

        start(nursery, desk, with_(reserve=0.5))
        await until(desk.outbox.marks)

        [call] = desk.asked("query")
        assert call["tokens_left"] >= 600
        assert call["tokens_consumed"] == 11

    async def test_a_page_is_no_larger_than_tokens_allow(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """What is spare now buys what it can; the rest is for another time."""
        desk = await open_desk(tokens=12)

        start(nursery, desk, with_(top=400, most=400, reserve=0))
        await until(desk.outbox.marks)

        assert len(found(desk)) == 200
        assert desk.bucket.available() == 0

    async def test_it_searches_every_so_often(
        self, open_desk: OpenDesk, nursery: trio.Nursery, fast_clock: ScaledClock
    ) -> None:
        """As long as it has less than the most."""
        desk = await open_desk(refill_rate=0)

        start(nursery, desk, with_(every=Duration(1800), most=500))
        await until(lambda: len(desk.asked("query")) >= 2)

        first, second, *_ = (call["at_ms"] for call in desk.asked("query"))
        assert second - first >= 1_790_000

    async def test_something_else_is_searched_for_at_once(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """Whoever tries out filters need not wait until the next time."""
        desk = await open_desk(refill_rate=0)
        rule = with_(every=Duration(90 * 86_400), most=500)
        start(nursery, desk, rule)
        await until(desk.outbox.marks)

        start(nursery, desk, with_(rule, max_price=80.0))
        await until(lambda: len(desk.asked("query")) == 2)

        assert len(desk.outbox.marks()) <= 2

    async def test_a_restart_searches_for_nothing_again(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """What it found is kept, and so is when."""
        desk = await open_desk(refill_rate=0)
        start(nursery, desk, with_(most=500))
        await until(desk.outbox.marks)

        again = desk._replace(heartbeat=Heartbeat(float("inf")))
        start(nursery, again, with_(most=500))
        await until(lambda: again.heartbeat.why.startswith("next at"))

        assert len(desk.asked("query")) == 1

    async def test_a_search_that_finds_nothing_is_told(
        self,
        open_desk: OpenDesk,
        nursery: trio.Nursery,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is no failure, but perhaps a mistake in the rule."""
        desk = await open_desk()

        trouble = start(nursery, desk, with_(min_reviews=1_000_000))
        await until(desk.outbox.marks)

        assert trouble.reason is None
        assert "search found nothing" in caplog.text

    async def test_a_failure_is_told_and_ends(
        self, open_desk: OpenDesk, nursery: trio.Nursery, service: Service, fast_clock: ScaledClock
    ) -> None:
        """With the task's name, for status."""
        desk = await open_desk(faults=(Fault("503", 1.0, "query"),))

        trouble = start(nursery, desk, RULE)
        await until(lambda: "503" in (trouble.reason or ""))
        await service.serve()
        await until(lambda: len(found(desk)) == 100)
        await until(lambda: trouble.reason is None)


class TestQuery:
    def test_the_rule_is_what_keepa_sifts_by(self) -> None:
        """Names and units are the wire's; `without` and odd words are left to discovery."""
        rule = with_(
            min_price=19.99,
            max_price=60.0,
            min_rating=4.25,
            min_reviews=50,
            brands=("Lumikey", "Klickfeld"),
            words=("Funk tastatur", "-set", '18"'),
            without=("Maus",),
        )

        assert json.loads(msgspec.json.encode(finder_query(rule))) == {
            "categories_include": [KEYBOARDS],
            "title": "Funk tastatur",
            "brand": ["Lumikey", "Klickfeld"],
            "current_NEW_gte": 1_999,
            "current_NEW_lte": 6_000,
            "current_RATING_gte": 43,
            "current_COUNT_REVIEWS_gte": 50,
            "current_SALES_gte": 1,
            "productType": [0, 1],
            "sort": [["current_SALES", "asc"]],
        }

    def test_a_bound_above_leaves_out_what_nobody_offers(self) -> None:
        """It is -1 to Keepa, and cheaper than all."""
        assert finder_query(with_(max_price=60.0)).least_price == 0
        assert finder_query(RULE).least_price is None

    @given(bound=st.integers(0, 40_000), off=st.sampled_from([0, -1, 1]))
    @example(bound=29, off=0)  # of which 0.29 is no exact part
    def test_keepa_lets_through_what_a_rule_takes(self, bound: int, off: int) -> None:
        """Just at its bounds, whatever the units do to them."""
        rules = [
            (bound, with_(min_price=bound / 100)),
            (bound, with_(max_price=bound / 100)),
            (bound, with_(domain=Domain("JP"), max_price=float(bound))),
            (bound % 50, with_(min_rating=bound % 50 / 10)),
            (bound, with_(min_reviews=bound)),
        ]

        for limit, rule in rules:
            number = limit + off
            known = number if number >= 0 else None
            rating = None if known is None else known / 10
            facts = Facts(price=known, rating=rating, reviews=known, whole=True)
            taken = judged(rule, "B000000001", facts, 0).state == "waiting"
            assert lets_through(finder_query(rule), number) == taken


def lets_through(query: FinderQuery, number: int) -> bool:
    """What Keepa's bounds mean, for a product all whose numbers are this one."""
    least = (query.least_price, query.least_rating, query.least_reviews)
    most = query.most_price
    return all(bound is None or number >= bound for bound in least) and (
        most is None or number <= most
    )


def test_the_simulator_takes_every_field_that_is_sent() -> None:
    """It refuses those that it does not heed."""
    rule = with_(max_price=5.0, min_rating=4, min_reviews=5, brands=("a",), words=("b",))
    whole = msgspec.structs.replace(finder_query(rule), page=0, per_page=50)

    assert msgspec.json.decode(msgspec.json.encode(whole), type=finder.Selection)
    assert len(msgspec.to_builtins(whole)) == len(FinderQuery.__struct_fields__)
