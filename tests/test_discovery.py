"""Discovery in the daemon: products come to be watched while it runs, and stay over kills."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import closing
from functools import partial

import pytest
import trio

from pricecheck.clock import ScaledClock
from pricecheck.daemon import Plan, with_discovered
from pricecheck.errors import StoreError
from pricecheck.outbox import Outbox, open_readonly

from .daemons import House, Service, fast_time, until

FACTOR = 600.0  # a look a minute is ten a second
RULE = """
[[discovery]]
name = "keyboards"
domain = "DE"
source = "bestsellers"
category = 340843031
top = 40
min_rating = 3.5
"""


async def pricecheck(house: House, *arguments: str) -> str:
    """What a command prints in the house of the daemon."""
    command = [sys.executable, "-m", "pricecheck", *arguments]
    environ = {"PATH": os.environ["PATH"], "HOME": str(house.directory), "COLUMNS": "120"}
    call = partial(
        subprocess.run, command, cwd=house.directory, env=environ, capture_output=True, text=True
    )
    done = await trio.to_thread.run_sync(partial(call, check=False))
    assert done.returncode == 0, done.stderr
    return done.stdout


def asked(service: Service) -> Counter[str]:
    """How often each product was asked for."""
    return Counter(asin for call in service.asked() for asin in call["asins"])


async def test_the_watchlist_grows_by_itself(house: House, service: Service) -> None:
    """With `accept = "all"`: the file is not written, and the config not read again."""
    service.runs_in(fast_time(FACTOR))
    await service.serve()
    rule = RULE.replace("bestsellers", "search")
    house.configure(rest=f'{rule}accept = "all"\nmost = 12\n')
    file = (house.directory / "watchlist.csv").read_bytes()

    with house.start() as daemon:
        await daemon.says("ready")
        house.config.write_text("half [ edited")
        await until(lambda: len(house.checked()) == 12)
        status = await house.status_that(lambda told: told.watchlist.products == 12)

    assert status.health == "ok"
    assert "reload refused" not in daemon.log
    assert (house.directory / "watchlist.csv").read_bytes() == file
    assert len(service.asked("query")) == 1
    assert set(asked(service).values()) <= {1, 2}  # as a candidate, and as what is watched
    house.configure(rest=RULE)
    assert "12 products, 12 of them discovered" in await pricecheck(house, "config", "check")


@pytest.fixture
def fast_clock() -> ScaledClock:
    return ScaledClock(FACTOR)


async def test_an_outbox_that_can_not_be_read_delays_what_is_accepted(
    house: House,
    service: Service,
    nursery: trio.Nursery,
    fast_clock: ScaledClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is read again, though nothing further is accepted."""
    service.runs_in(fast_time(FACTOR))
    await service.serve()
    house.configure(rest=f'{RULE}accept = "all"\nmost = 12\n')
    failures = [True]

    def failing(plan: Plan, outbox: Outbox) -> Plan:
        if failures and plan.watchlist.watches == () and outbox.candidates("accepted"):
            failures.pop()
            raise StoreError("another process has kept the outbox locked")
        return with_discovered(plan, outbox)

    monkeypatch.setattr("pricecheck.daemon.with_discovered", failing)

    nursery.start_soon(house.live)
    await until((house.state / "status.sock").exists)

    await until(lambda: len(house.checked()) == 12)
    assert failures == []


async def test_a_person_accepts_and_removes_while_it_runs(house: House, service: Service) -> None:
    """Each is told to the daemon, and what is removed does not come back."""
    service.runs_in(fast_time(FACTOR))
    await service.serve()
    house.configure(rest=RULE)

    with house.start() as daemon:
        await house.status_that(
            lambda told: any("candidates wait" in task.why for task in told.tasks)
        )
        with closing(open_readonly(house.outbox)) as outbox:
            first, second, *_ = (one.asin for one in outbox.candidates("waiting"))

        assert "2 products are watched" in await pricecheck(
            house, "discover", "accept", first, second
        )
        await until(lambda: house.checked() == sorted([first, second]))
        assert "watched no longer" in await pricecheck(house, "watch", "remove", first)
        await house.status_that(lambda told: told.watchlist.products == 1)
        await daemon.says("reloaded", times=2)

    assert second in (exported := await pricecheck(house, "watch", "export"))
    assert first not in exported
    assert first not in await pricecheck(house, "discover")


async def test_a_killed_daemon_asks_for_no_candidate_again(house: House, service: Service) -> None:
    """What an answer teaches is kept with the answer, and so is the list."""
    service.runs_in(fast_time(FACTOR))
    await service.serve()
    rule = RULE.replace("top = 40", "top = 300\nmost = 300")
    house.configure(keepa="max_call_cost = 5", costs="bestsellers = 3", rest=rule)
    known: set[str] = set()
    repeated: set[str] = set()

    for _ in range(4):
        before = len(service.asked())
        with house.start() as daemon:
            # The second is asked when what the first brought is kept.
            await until(lambda before=before: len(service.asked()) >= before + 2)  # type: ignore[misc]
            daemon.process.kill()
            daemon.process.wait()
        repeated |= known & {asin for call in service.asked()[before:] for asin in call["asins"]}
        known = judged(house)
    with house.start():
        await until(lambda: len(judged(house)) == 300)

    assert repeated == set()
    assert len(known) >= 4 * 5
    assert len(service.asked("bestsellers")) <= 2  # the first may have been killed with its answer


def judged(house: House) -> set[str]:
    """The products that are known for good or bad."""
    with closing(open_readonly(house.outbox)) as outbox:
        return {one.asin for one in (*outbox.candidates("waiting"), *outbox.candidates("unfit"))}
