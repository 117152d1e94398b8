"""A collector's desk: a simulator on a real socket, and all that a call to it passes through."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pricecheck.bucket import Bucket
from pricecheck.clock import ScaledClock
from pricecheck.collect.calls import CallLog
from pricecheck.collect.spending import Spender
from pricecheck.keepa.client import KeepaClient, Timeouts
from pricecheck.outbox import Commit, Outbox, lookup
from pricecheck.records import Record
from pricecheck.supervisor import Heartbeat
from pricecheck.timescale import TimeScale

from ..daemons import Service, fast_time

FACTOR = 3600.0
"""Simulated seconds in a real one, where a test runs in fast time: an hour a second."""


class Desk(NamedTuple):
    """What a collector works with, and what the simulator that it works against was asked."""

    bucket: Bucket
    spender: Spender
    outbox: Outbox
    calls: CallLog
    heartbeat: Heartbeat
    whys: list[str]  # all waits that were declared, for the clock may be too fast to see one
    asked: Callable[..., list[dict[str, Any]]]

    def kept(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the records of a kind, newest first."""
        return [json.loads(body) for body in lookup.latest(self.outbox, kind, limit=100_000)]


OpenDesk = Callable[..., Awaitable[Desk]]


@pytest.fixture
def fast_clock(request: pytest.FixtureRequest) -> ScaledClock:
    """trio's clock in fast time, which the outbox and the simulators then share."""
    return ScaledClock(getattr(request, "param", FACTOR))


@pytest.fixture
def time(request: pytest.FixtureRequest) -> TimeScale:
    """The time that a test is in; one as good as real begins at the same instant, too."""
    fast = "fast_clock" in request.fixturenames
    return fast_time(request.getfixturevalue("fast_clock")._factor if fast else 1.001)


@pytest.fixture
def outbox(tmp_path: Path, time: TimeScale) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "outbox.sqlite", now_ms=time.now_ms)) as outbox:
        yield outbox


@pytest.fixture
async def open_desk(service: Service, outbox: Outbox, time: TimeScale) -> AsyncIterator[OpenDesk]:
    """Start the service with the settings given, and set up a desk that asks it."""
    service.runs_in(time)
    async with AsyncExitStack() as clients:

        async def open_(
            *,
            client_key: str = "of-the-tests",
            call_s: float = 10.0,
            costs: dict[str, float] | None = None,
            max_call_cost: int = 200,
            **settings: Any,
        ) -> Desk:
            await service.serve(**settings)
            calls = CallLog(time)
            timeouts = Timeouts(*[call_s * time.factor] * 3)
            client = KeepaClient(client_key, url=service.url, timeouts=timeouts, on_call=calls.note)
            await clients.enter_async_context(client)
            prior = {"product": 1.0, "deal": 5.0, "bestsellers": 50.0, "query": 1.0}
            bucket = Bucket(max_call_cost=max_call_cost, costs=prior | (costs or {}))
            spender = Spender(client, bucket, outbox, calls, time)
            whys: list[str] = []
            heartbeat = Heartbeat(float("inf"), lambda: whys.append(heartbeat.why))
            return Desk(bucket, spender, outbox, calls, heartbeat, whys, service.asked)

        yield open_


def refuse_writes(outbox: Outbox, refuse: bool = True) -> None:
    """Let the outbox take nothing from now on, or again: as with a disk gone read-only."""
    outbox._db.execute(f"PRAGMA query_only = {refuse:d}")


def a_record(id_: str) -> Record:
    return Record("price", id_, id_, b"{}")


def keep_as(id_: str) -> Callable[[Any], Commit]:
    """Make of any answer a commit of one record."""
    return lambda answer: Commit(records=(a_record(id_),))


class MockTime(TimeScale, frozen=True):
    """The wall clock that belongs to a virtual clock: it shows its seconds since some noon."""

    clock: Any = None

    def now_ms(self) -> int:
        seconds: float = self.clock.current_time()
        return 1_800_000_000_000 + round(seconds * 1000)
