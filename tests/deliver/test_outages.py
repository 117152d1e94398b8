"""The proof: real servers that come late, die and freeze under load, and a daemon that is killed.

Afterwards Elasticsearch holds exactly the outbox's ids, and Kafka each at least once. Servers of
this file's own, for it kills them. `--log-cli-level INFO` tells of delays and duplicates.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path

import httpx
import pytest
import trio

from pricecheck.config import Duration, Elasticsearch, Kafka, Names
from pricecheck.deliver.elasticsearch import ElasticsearchSink
from pricecheck.deliver.kafka import KafkaSink
from pricecheck.deliver.relay import Relay
from pricecheck.outbox import Outbox
from tests.deliver.conftest import Services, change, drained, put, running
from tests.deliver.topics import read_topics

pytestmark = [pytest.mark.services, pytest.mark.long, pytest.mark.timeout(1_800)]

log = logging.getLogger(__name__)

FAULTS = int(os.environ.get("PRICECHECK_FAULTS", "10"))
KILLS = 2 * FAULTS
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Servers that nobody else uses."""
    services = Services(tmp_path_factory.mktemp("servers"))
    services.run("start")
    yield services
    services.run("stop")


def relays(addresses: dict[str, str], names: Names, outbox: Outbox) -> list[Relay]:
    """Return a relay for each server."""
    elastic = Elasticsearch(hosts=(addresses["elasticsearch"],), request_timeout=Duration(20))
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
            await trio.sleep(0.02)


def stored_ids(outbox: Outbox) -> list[str]:
    """The ids of all that was ever stored."""
    found = outbox.read("nobody", limit=10_000_000, max_bytes=1 << 40)
    return sorted(one.record.id for one in found)


def elasticsearch_ids(address: str, index: str) -> list[str]:
    """The ids of all documents, page by page."""
    with httpx.Client(base_url=address, timeout=60) as node:
        node.post(f"/{index}/_refresh").raise_for_status()
        found: list[str] = []
        after: list[str] = []
        while True:
            query = {"size": 10_000, "_source": False, "sort": [{"changed_at": "asc"}]}
            page = node.post(f"/{index}/_search", json=query | after_of(after)).json()
            hits = page["hits"]["hits"]
            if not hits:
                return sorted(found)
            found += [hit["_id"] for hit in hits]
            after = hits[-1]["sort"]


def after_of(place: list[str]) -> dict[str, list[str]]:
    return {"search_after": place} if place else {}


def check_arrived(outbox: Outbox, addresses: dict[str, str], names: Names) -> int:
    """Compare what is in each server with the outbox; return Kafka's duplicates."""
    wanted = stored_ids(outbox)
    name = names.by_kind()["change"]
    assert elasticsearch_ids(addresses["elasticsearch"], name) == wanted
    found = read_topics(addresses["kafka"], [name])
    assert sorted(set(found)) == wanted
    assert outbox.dead_letters() == []
    log.info("%d records, %d duplicates in Kafka", len(wanted), len(found) - len(wanted))
    return len(found) - len(wanted)


@pytest.mark.parametrize("fault", ["kill", "freeze", "stop"])
@pytest.mark.parametrize("server", ["elasticsearch", "kafka"])
async def test_a_server_that_fails_again_and_again_loses_and_doubles_nothing(
    own: Services, outbox: Outbox, names: Names, nursery: trio.Nursery, server: str, fault: str
) -> None:
    """kill -9, SIGSTOP, or a clean stop, ten times in the middle of a fast run."""
    addresses = own.run("start", "kafka", "elasticsearch")
    several = relays(addresses, names, outbox)
    async with all_running(several):
        storing = await nursery.start(produce, outbox)
        for _ in range(FAULTS):
            await trio.sleep(1)
            pid = own.pid(server)
            if fault == "freeze":
                os.kill(pid, signal.SIGSTOP)
                await trio.sleep(7)
                os.kill(pid, signal.SIGCONT)
                continue
            if fault == "kill":
                os.kill(pid, signal.SIGKILL)
            else:
                await trio.to_thread.run_sync(own.run, "stop", server)
            await trio.sleep(1)
            await trio.to_thread.run_sync(own.run, "start", server)
        await trio.sleep(1)
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

    async with all_running(several):
        await trio.sleep(60)
        waits = {}
        for relay in several:
            await trio.to_thread.run_sync(own.run, "start", relay.name)
            answers = time.monotonic()
            await drained(relay)
            waits[relay.name] = round(time.monotonic() - answers, 1)

    log.info("everything delivered so many seconds after they answered: %s", waits)
    assert await trio.to_thread.run_sync(check_arrived, outbox, addresses, names) == 0


DAEMON = """
import sys, trio
from pathlib import Path
from pricecheck.config import Names
from pricecheck.outbox import Outbox
from pricecheck.supervisor import Supervisor
from tests.deliver.test_outages import produce, relays

async def main(path, kafka, elastic, prefix):
    outbox = Outbox.open(Path(path))
    addresses = {"kafka": kafka, "elasticsearch": elastic}
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(nursery)
        for relay in relays(addresses, Names(prefix=prefix), outbox):
            supervisor.start(relay.name, relay.run, stall_after=900)
        await nursery.start(produce, outbox)
        print("ready", flush=True)

trio.run(main, *sys.argv[1:])
"""


async def test_a_daemon_that_is_killed_again_and_again_loses_nothing(
    own: Services, tmp_path: Path, names: Names
) -> None:
    """kill -9 twenty times in the middle of a run; the next start goes on at its cursor."""
    addresses = own.run("start", "kafka", "elasticsearch")
    path = tmp_path / "outbox.sqlite"
    command = [sys.executable, "-c", DAEMON, str(path), addresses["kafka"]]
    command += [addresses["elasticsearch"], names.prefix]
    for number in range(KILLS):
        daemon = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert daemon.stdout is not None
        await daemon.stdout.receive_some()
        await trio.sleep(1 + number / 10)
        daemon.kill()
        await daemon.wait()

    with closing(Outbox.open(path)) as outbox:
        several = relays(addresses, names, outbox)
        async with all_running(several):
            for relay in several:
                await drained(relay)
        await trio.to_thread.run_sync(check_arrived, outbox, addresses, names)
