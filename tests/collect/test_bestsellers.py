"""A category's best sellers, from a simulator."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from pricecheck.clock import ScaledClock
from pricecheck.collect.bestsellers import collect_bestsellers
from pricecheck.collect.trouble import Trouble
from pricecheck.config import BestsellersRule, Domain, Duration
from pricecheck.simulator.settings import Fault

from ..daemons import Service, until
from .conftest import Desk, OpenDesk

KEYBOARDS = 340843031


def start(nursery: trio.Nursery, desk: Desk, rule: BestsellersRule) -> Trouble:
    trouble = Trouble(rule.name)
    nursery.start_soon(collect_bestsellers, desk.heartbeat, rule, desk.spender, trouble)
    return trouble


async def test_a_list_becomes_a_record(open_desk: OpenDesk, nursery: trio.Nursery) -> None:
    """Best first, cut to the top, with the length of the whole and when Keepa updated it."""
    desk = await open_desk()
    rule = BestsellersRule(domain=Domain("DE"), category=KEYBOARDS, top=25)

    start(nursery, desk, rule)
    await until(lambda: desk.kept("bestseller"))

    [body] = desk.kept("bestseller")
    assert (body["domain"], body["category"]) == ("DE", str(KEYBOARDS))
    assert (len(body["asins"]), body["total"]) == (25, 400)
    assert body["last_update"] < body["observed_at"]
    assert body["event_type"] == "bestsellers_update"
    assert desk.outbox.marks().keys() == {f"bestsellers:DE:{KEYBOARDS}"}
    assert desk.bucket.state().costs["bestsellers"] == 50


async def test_a_list_is_asked_for_every_so_often(
    open_desk: OpenDesk, nursery: trio.Nursery, fast_clock: ScaledClock
) -> None:
    """Each answer is a record of its own."""
    desk = await open_desk(refill_rate=0)
    rule = BestsellersRule(domain=Domain("UK"), category="kitchen", every=Duration(1800))

    start(nursery, desk, rule)
    await until(lambda: len(desk.kept("bestseller")) >= 3)

    times = [call["at_ms"] for call in desk.asked("bestsellers")]
    assert all(later - earlier >= 1_790_000 for earlier, later in pairwise(times))


async def test_a_category_without_a_list_is_told(
    open_desk: OpenDesk,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is no failure: the next question comes at its time."""
    desk = await open_desk()
    rule = BestsellersRule(domain=Domain("DE"), category="-1")

    trouble = start(nursery, desk, rule)
    await until(desk.outbox.marks)

    assert desk.kept("bestseller") == []
    assert trouble.reason is None
    assert "no bestseller list" in caplog.text


async def test_a_failure_is_told_and_ends(
    open_desk: OpenDesk, nursery: trio.Nursery, service: Service, fast_clock: ScaledClock
) -> None:
    """With the task's name, for status."""
    desk = await open_desk(faults=(Fault("503", 1.0, "bestsellers"),))
    rule = BestsellersRule(domain=Domain("DE"), category=KEYBOARDS)

    trouble = start(nursery, desk, rule)
    await until(lambda: "503" in (trouble.reason or ""))
    await service.serve()
    await until(lambda: desk.kept("bestseller"))

    await until(lambda: trouble.reason is None)
    assert trouble.task == f"bestsellers:DE:{KEYBOARDS}"
