"""The proof: real servers that come late, die and freeze under load, and a daemon that is killed.

Afterwards Elasticsearch holds exactly the outbox's ids, and Kafka each at least once. Servers of
this file's own, for it kills them. `--log-cli-level WARNING` tells of delays and duplicates.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from itertools import count
from random import Random

import pytest
import trio

from pricecheck.config import Duration, Elasticsearch, Kafka, Names
from pricecheck.deliver.elasticsearch import ElasticsearchSink
from pricecheck.deliver.kafka import KafkaSink
from pricecheck.deliver.relay import LONGEST_PAUSE_AWAY_S, Relay
from pricecheck.outbox import Outbox
from tests.daemons import House, Service, fast_time
from tests.deliver.arrived import elasticsearch_ids, read_topics
from tests.deliver.conftest import Services, change, drained, put, running, until

pytestmark = [pytest.mark.services, pytest.mark.long, pytest.mark.timeout(1_800)]

log = logging.getLogger(__name__)

FAULTS = int(os.environ.get("PRICECHECK_FAULTS", "10"))
KILLS = 2 * FAULTS


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Servers that nobody else uses."""
    services = Services(tmp_path_factory.mktemp("servers"))
    services.run("start")
    yield services
    services.run("stop")


def relays(
    addresses: dict[str, str], names: Names, outbox: Outbox, *, request_timeout: int = 30
) -> list[Relay]:
    """Return a relay for each server."""
    elastic = Elasticsearch(
        hosts=(addresses["elasticsearch"],), request_timeout=Duration(request_timeout)
    )
    kafka = Kafka(brokers=(addresses["kafka"],))
    return [
        Relay(ElasticsearchSink(elastic, names), outbox),
        Relay(KafkaSink(kafka, names), outbox),
    ]


@asynccontextmanager
async def all_running(several: list[Relay]) -> AsyncIterator[None]:
    first, second = several
    async with running(first), running(second):
        yield


async def produce(outbox: Outbox, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    """Store some hundred records a second until cancelled."""
    with trio.CancelScope() as scope:
        task_status.started(scope)
        for batch in count():
            records = [change(batch * 20 + number) for number in range(20)]
            await trio.to_thread.run_sync(put, outbox, *records)
            await trio.sleep(0.05)


async def delivers(relay: Relay) -> None:
    """Wait until more has been delivered."""
    before = relay._delivered
    await until(lambda: relay._delivered > before)


async def notices(relay: Relay) -> None:
    """Wait until another try has failed."""
    before = relay._failures
    await until(lambda: relay._failures > before)


def stored_ids(outbox: Outbox) -> dict[str, list[str]]:
    """The ids of all that was ever stored, by kind."""
    found: dict[str, list[str]] = {}
    for one in outbox.read("nobody", limit=10_000_000, max_bytes=1 << 40):
        found.setdefault(one.record.kind, []).append(one.record.id)
    return found


def check_arrived(outbox: Outbox, addresses: dict[str, str], names: Names) -> int:
    """Compare what is in each server with the outbox; return Kafka's duplicates."""
    stored = stored_ids(outbox)
    assert stored
    duplicates = 0
    for kind, name in names.by_kind().items():
        wanted = sorted(stored.get(kind, ()))
        assert sorted(elasticsearch_ids(addresses["elasticsearch"], name)) == wanted, kind
        found = read_topics(addresses["kafka"], [name])
        assert sorted(set(found)) == wanted, kind
        duplicates += len(found) - len(wanted)
    assert outbox.dead_letters() == []
    counts = {kind: len(ids) for kind, ids in stored.items()}
    log.warning("everything arrived: %s; %d duplicates in Kafka", counts, duplicates)
    return duplicates


@pytest.mark.parametrize("fault", ["kill", "freeze", "stop"])
@pytest.mark.parametrize("server", ["elasticsearch", "kafka"])
async def test_a_server_that_fails_again_and_again_loses_and_doubles_nothing(
    own: Services, outbox: Outbox, names: Names, nursery: trio.Nursery, server: str, fault: str
) -> None:
    """kill -9, SIGSTOP, or a clean stop, ten times in the middle of a fast run."""
    addresses = own.run("start", "kafka", "elasticsearch")
    # A freeze lasts until it is noticed: no longer than need be.
    patience = 5 if fault == "freeze" else 30
    several = relays(addresses, names, outbox, request_timeout=patience)
    [failing] = [relay for relay in several if relay.name == server]
    async with all_running(several):
        storing = await nursery.start(produce, outbox)
        for number in range(FAULTS):
            await delivers(failing)
            pid = own.pid(server)
            if fault == "freeze":
                os.kill(pid, signal.SIGSTOP)
                await notices(failing)
                os.kill(pid, signal.SIGCONT)
                continue
            if fault == "stop":
                await trio.to_thread.run_sync(own.run, "stop", server)
            else:
                os.kill(pid, signal.SIGKILL)
            if number % 2:  # the other half of the servers is back as soon as can be
                await notices(failing)
            await trio.to_thread.run_sync(own.run, "start", server)
        await delivers(failing)
        storing.cancel()
        for relay in several:
            await drained(relay)

    duplicates = await trio.to_thread.run_sync(check_arrived, outbox, addresses, names)

    assert duplicates == 0


async def test_servers_that_start_after_us_get_everything(
    own: Services, outbox: Outbox, names: Names
) -> None:
    """The original outage: a minute too late, they miss nothing, and need not wait long."""
    addresses = own.run("start", "kafka", "elasticsearch")
    own.run("stop")
    put(outbox, *map(change, range(500)))
    several = relays(addresses, names, outbox)
    waits = {}

    async with all_running(several):
        await trio.sleep(60)
        statuses = [await relay.status() for relay in several]
        for relay in several:
            await trio.to_thread.run_sync(own.run, "start", relay.name)
            answers = time.monotonic()
            await until(lambda relay=relay: relay._delivered)  # type: ignore[misc]
            waits[relay.name] = round(time.monotonic() - answers, 1)
            await drained(relay)

    log.warning("delivery began so many seconds after they answered: %s", waits)
    for status in statuses:
        assert (status.backlog, status.delivered, status.peer) == (500, 0, None)
        assert (status.next_try_s or 0) <= LONGEST_PAUSE_AWAY_S  # None: it is trying just now
    assert await trio.to_thread.run_sync(check_arrived, outbox, addresses, names) == 0


async def test_a_daemon_that_is_killed_again_and_again_loses_nothing(
    own: Services, house: House, service: Service, names: Names
) -> None:
    """kill -9 twenty times in the middle of a run; the next start goes on at its cursor."""
    seed = int(os.environ.get("KILL_SEED", Random().randrange(10**6)))
    log.warning("KILL_SEED=%d", seed)
    random = Random(seed)
    addresses = own.run("start", "kafka", "elasticsearch")
    service.runs_in(fast_time(3600.0))
    await service.serve(refill_rate=0)
    house.configure(
        prices='every = "1h"',
        names=f'prefix = "{names.prefix}"',
        elasticsearch=f'hosts = ["{addresses["elasticsearch"]}"]',
        kafka=f'brokers = ["{addresses["kafka"]}"]',
    )
    house.watch(f"B{number:09d}" for number in range(2_000))  # more than can be delivered at once

    for _ in range(KILLS):
        with house.start() as daemon:
            await house.status_that(lambda told: all(relay.delivered for relay in told.relays))
            await trio.sleep(random.random())
            daemon.process.kill()

    with closing(Outbox.open(house.outbox)) as outbox:
        several = relays(addresses, names, outbox)
        async with all_running(several):
            for relay in several:
                await drained(relay)
        await trio.to_thread.run_sync(check_arrived, outbox, addresses, names)
