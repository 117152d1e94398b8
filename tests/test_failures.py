"""The failure table of the design, row by row, as far as it is Keepa's: through a whole daemon.

A daemon and a simulator on real sockets live in fast time, in which an hour passes in a second.
First every /product call goes wrong in one way; then none does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import le

import pytest
import trio

from pricecheck.clock import ScaledClock
from pricecheck.simulator.settings import Fault
from pricecheck.snapshot import Snapshot

from .daemons import House, Service, fast_time, until

FACTOR = 3600.0
Run = Callable[[str], Awaitable[None]]
PRODUCTS = [f"B{number:09d}" for number in range(8)]


@pytest.fixture
def fast_clock() -> ScaledClock:
    return ScaledClock(FACTOR)


@pytest.fixture
async def run(house: House, service: Service, nursery: trio.Nursery) -> Run:
    """Start a daemon within the test, that soon gives up on an answer that never comes."""
    service.runs_in(fast_time(FACTOR))

    async def start(fault: str) -> None:
        await service.serve(faults=(Fault(fault, 1.0, "product"),))
        house.configure(
            keepa='call_timeout = "1s"' if fault == "timeout" else "",
            prices='every = "1h"',
            rest='[[bestsellers]]\ndomain = "DE"\ncategory = 340843031\n',
        )
        house.watch(PRODUCTS)
        nursery.start_soon(house.live)
        await until((house.state / "status.sock").exists)

    return start


def calm(snapshot: Snapshot) -> bool:
    """Whether nothing is wrong, nothing has crashed."""
    restarts = sum(task.restarts for task in snapshot.tasks)
    return snapshot.health == "ok" and restarts == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("400", "Keepa answered 400 invalidParameter"),
        ("402", "renew the subscription"),
        ("404", "Keepa answered 404"),
        ("405", "update pricecheck"),
        ("429", "Keepa answered 429"),
        ("500", "Keepa answered 500"),
        ("503", "Keepa answered 503"),
        ("error200", "Keepa answered 200 internalServerError"),
        ("notjson", "does not have Keepa's form"),
        ("refused", "no whole answer came"),
        ("reset", "no whole answer came"),
        ("timeout", "no whole answer came"),
        ("cut", "no whole answer came"),
        ("truncated", "does not have Keepa's form"),
        ("badgzip", "its gzip is broken"),
        ("empty", "does not have Keepa's form"),
    ],
)
async def test_a_call_that_fails_is_told_and_made_up_for(
    run: Run,
    house: House,
    service: Service,
    fast_clock: ScaledClock,
    fault: str,
    words: str,
) -> None:
    """Status says what is wrong, other tasks go on, tokens are not thrown after it, it ends."""
    await run(fault)
    await house.status_that(lambda now: any(words in reason for reason in now.reasons))
    await until(lambda: len(service.asked()) >= 4 and house.kept("bestseller"))

    spent = [call["tokens_consumed"] for call in service.asked()[:4]]
    whole = len(PRODUCTS)  # at worst both halves are asked for before either has failed
    assert all(map(le, spent, [whole, whole // 2, whole // 2, whole // 4]))
    assert house.checked() == []
    await service.serve()
    await until(lambda: set(house.checked()) == set(PRODUCTS))

    await house.status_that(calm)


@pytest.mark.parametrize("fault", ["negative", "slow"])
async def test_what_only_delays_is_waited_for(
    run: Run,
    house: House,
    service: Service,
    fast_clock: ScaledClock,
    fault: str,
) -> None:
    """A balance below zero and a slow body are no failures."""
    await run(fault)

    await until(lambda: set(house.checked()) == set(PRODUCTS))

    assert {call["status"] for call in service.asked()} == {200}
    await service.serve()
    await house.status_that(calm)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("wrongtypes", lambda now: now.watchlist.set_aside),
        ("missing", lambda now: now.watchlist.absent),
        ("nulls", calm),
    ],
)
async def test_a_product_that_does_not_fit_costs_one_product(
    run: Run,
    house: House,
    service: Service,
    fast_clock: ScaledClock,
    fault: str,
    told: Callable[[Snapshot], object],
) -> None:
    """Its neighbours are checked all the same, and it is at its next check."""
    await run(fault)
    await house.status_that(told)
    await until(lambda: len(house.checked()) >= len(PRODUCTS) - 1)

    await service.serve()
    await until(lambda: set(house.checked()) == set(PRODUCTS))

    await house.status_that(calm)
