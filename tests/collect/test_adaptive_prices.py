"""The price task with the adaptive planner, against a simulator: what it learns and spends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

import pytest
import trio

from pricecheck import config
from pricecheck.clock import ScaledClock
from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.prices import PriceCollector, plan_adaptively, seen_of
from pricecheck.watchlist import Watch

from ..daemons import until
from .answers import watch
from .conftest import Desk, OpenDesk

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

Start = Callable[..., PriceCollector]


@pytest.fixture
def start(nursery: trio.Nursery) -> Start:
    """Let a collector run at a desk."""

    def begin(desk: Desk, watches: Sequence[Watch], *, others: float = 0.0) -> PriceCollector:
        collector = PriceCollector(
            watches,
            desk.spender,
            desk.outbox,
            DerivedDeals(),
            config.Prices(),
            concurrency=2,
            others=lambda _: others,
        )
        nursery.start_soon(collector.run, desk.heartbeat)
        return collector

    return begin


def watches(count: int) -> list[Watch]:
    return [watch(f"B{number:09d}", every_s=6 * 3600) for number in range(count)]


def times(desk: Desk) -> list[int]:
    """When each call was made, in order."""
    return [call["at_ms"] for call in desk.asked()]


async def test_products_are_checked_sooner_than_they_must_where_tokens_are_left(
    open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
) -> None:
    """Twenty tokens a minute check ten products every quarter of an hour, not more often."""
    desk = await open_desk()
    start(desk, watched := watches(10))

    await until(lambda: Counter(p["asin"] for p in desk.kept("price"))[watched[0].asin] >= 5)

    asked = [call["at_ms"] for call in desk.asked() if watched[0].asin in call["asins"]]
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert min(gaps) >= 13 * MINUTE_MS
    assert median(gaps) < 6 * HOUR_MS


async def test_the_reserve_is_left_to_others(
    open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
) -> None:
    """A watchlist that would take all tokens leaves a tenth of the bucket."""
    desk = await open_desk(refill_rate=2, tokens=40)
    start(desk, watches(60))

    await until(lambda: len(times(desk)) > 8)

    assert min(call["tokens_left"] for call in desk.asked()) >= 12


async def test_a_rhythm_is_learned_and_outlives_a_restart(
    open_desk: OpenDesk, start: Start
) -> None:
    """What the histories of a first check teach is in the store, and in the plan made of it."""
    desk = await open_desk()
    start(desk, watched := watches(50))
    await until(lambda: len({p["asin"] for p in desk.kept("price")}) == 50)

    seen = list(seen_of(desk.outbox))
    planner = plan_adaptively(watched, desk.outbox, config.Prices())

    assert all(one.rhythm is not None and one.rhythm.days > 20 for one in seen)
    assert len({one.rhythm.changes for one in seen if one.rhythm}) > 10
    assert sum(size for _, size in planner.classes()) == 50
    assert len({terms.rate for terms, _ in planner.classes()}) > 5


async def test_what_others_spend_is_not_planned_with(
    open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
) -> None:
    """The budget is the refill less what deals and best sellers take."""
    desk = await open_desk()
    collector = start(desk, watches(100), others=15.0)

    await until(lambda: len(times(desk)) > 3)

    assert collector.state(0).budget_a_day == 5 * 1440


async def test_says_by_how_much_ceilings_can_not_hold(
    open_desk: OpenDesk, start: Start, fast_clock: ScaledClock
) -> None:
    """A hundred products four times a day need 400 tokens; a plan of 0.1 a minute has 144."""
    desk = await open_desk(refill_rate=1, tokens=60)
    collector = start(desk, watches(100), others=0.9)

    await until(lambda: collector.state(0).missing_a_day > 0)
    await until(lambda: len({p["asin"] for p in desk.kept("price")}) == 100)
    await trio.sleep(1200)

    assert collector.state(0).missing_a_day == pytest.approx(400 - 144, abs=1)
