"""A collector's desk: a simulator on a real socket, and all that a call to it passes through."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

import pytest
import trio

from pricecheck.bucket import Bucket
from pricecheck.clock import ScaledClock
from pricecheck.collect.calls import CallLog
from pricecheck.collect.spending import Spender
from pricecheck.keepa.client import KeepaClient, Timeouts
from pricecheck.outbox import Commit, Outbox
from pricecheck.records import Record
from pricecheck.simulator.server import serve
from pricecheck.simulator.settings import Settings, real_now_ms
from pricecheck.supervisor import Heartbeat
from pricecheck.timescale import TimeScale

FACTOR = 3600.0
"""Simulated seconds in a real one, where a test runs in fast time: an hour a second."""


class Desk(NamedTuple):
    """What a collector works with, and the ledger of the simulator that it works against."""

    bucket: Bucket
    spender: Spender
    outbox: Outbox
    calls: CallLog
    heartbeat: Heartbeat
    ledger: Path

    def asked(self, path: str = "product") -> list[dict[str, Any]]:
        """The calls of one path that the simulator has answered or dropped so far."""
        entries = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        return [entry for entry in entries if entry["path"] == path]

    def kept(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the records of a kind, newest first."""
        return [json.loads(body) for body in self.outbox.latest(kind, limit=100_000)]

    def time(self) -> dict[str, Any]:
        """The settings that let a simulator live in the time of this desk."""
        return {"time_factor": self.spender.time.factor, "epoch_ms": self.spender.time.epoch_ms}


OpenDesk = Callable[..., Awaitable[Desk]]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "outbox.sqlite")) as outbox:
        yield outbox


@pytest.fixture
def fast_clock(request: pytest.FixtureRequest) -> ScaledClock:
    """trio's clock in fast time, which the simulators of `open_desk` then share."""
    return ScaledClock(getattr(request, "param", FACTOR))


class Service:
    """A simulator with a fixed address, that can be replaced by another one."""

    def __init__(self, nursery: trio.Nursery, base: dict[str, Any]) -> None:
        self._nursery = nursery
        self._base = base
        self._scope = trio.CancelScope()
        self.url = ""

    async def serve(self, **settings: Any) -> None:
        """Serve with these settings from now on."""
        self._scope.cancel()
        self._scope = trio.CancelScope()
        port = await self._nursery.start(self._run, self._scope, Settings(**self._base | settings))
        self._base["port"] = port
        self.url = f"http://127.0.0.1:{port}"

    async def _run(
        self, scope: trio.CancelScope, settings: Settings, task_status: trio.TaskStatus[int]
    ) -> None:
        with scope:
            await serve(settings, task_status=task_status)


@pytest.fixture
async def service(nursery: trio.Nursery, tmp_path: Path) -> Service:
    return Service(nursery, {"ledger": tmp_path / "ledger"})


@pytest.fixture
async def open_desk(
    service: Service, outbox: Outbox, request: pytest.FixtureRequest
) -> AsyncIterator[OpenDesk]:
    """Start the service with the settings given, and set up a desk that asks it."""
    time = TimeScale()
    if "fast_clock" in request.fixturenames:
        time = TimeScale(request.getfixturevalue("fast_clock")._factor, real_now_ms())
    async with AsyncExitStack() as clients:

        async def open_(
            *,
            client_key: str = "of-the-tests",
            call_s: float = 10.0,
            costs: dict[str, float] | None = None,
            max_call_cost: int = 200,
            **settings: Any,
        ) -> Desk:
            await service.serve(time_factor=time.factor, epoch_ms=time.epoch_ms or None, **settings)
            calls = CallLog(time)
            timeouts = Timeouts(*[call_s * time.factor] * 3)
            client = KeepaClient(client_key, url=service.url, timeouts=timeouts, on_call=calls.note)
            await clients.enter_async_context(client)
            prior = {"product": 1.0, "deal": 5.0, "bestsellers": 50.0}
            bucket = Bucket(max_call_cost=max_call_cost, costs=prior | (costs or {}))
            spender = Spender(client, bucket, outbox, calls, time)
            heartbeat = Heartbeat(float("inf"))
            return Desk(bucket, spender, outbox, calls, heartbeat, service._base["ledger"])

        yield open_


async def until(condition: Callable[[], Any], *, real_s: float = 20.0) -> None:
    """Wait until a condition holds, however fast the clock; fail after `real_s` seconds."""
    began = real_now_ms()
    while not condition():
        assert real_now_ms() - began < real_s * 1000, "waited in vain"
        await trio.to_thread.run_sync(sleep, 0.002)


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
