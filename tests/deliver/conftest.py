"""Outboxes to deliver from, and sinks to deliver to: scripted, mock, and real servers."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h11
import pytest
import trio

from pricecheck.config import Names
from pricecheck.deliver.relay import Relay
from pricecheck.deliver.sink import Limits, Receipt, SinkError
from pricecheck.outbox import Commit, Outbox, Stored
from pricecheck.records import Change, Deal, Metric, Record
from pricecheck.supervisor import Heartbeat

SERVICES = Path(__file__).parents[2] / "scripts" / "services"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("services") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))  # the first one waits for the servers


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "outbox.sqlite")) as outbox:
        yield outbox


@pytest.fixture
def names() -> Names:
    """Names of topics and indices that no other test uses."""
    return Names(prefix=f"t{os.getpid()}-{time.time_ns()}-")


def change(number: int, *, asin: str | None = None, title: str = "Tastatur") -> Record:
    asin = asin or f"B{number:09}"
    return Change(
        asin=asin,
        domain="DE",
        currency="EUR",
        title=title,
        price_type="NEW",
        changed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + number)),
        observed_at="2026-11-24T12:00:00Z",
        old_price=9_999,
        new_price=number,
    ).record()


def deal(timestamp: str, price: int) -> Record:
    return Deal(
        asin="B000000001",
        domain="DE",
        currency="EUR",
        title="Beleuchtete Tastaturen",
        price_type="NEW",
        created_at="2026-11-24T10:00:00Z",
        timestamp=timestamp,
        current_price=price,
        original_price=9_999,
        discount_percent=20,
        rating=4.5,
        review_count=3,
        sales_rank=7,
        category=340843031,
        deal_score=1.5,
        source="keepa",
        url="https://www.amazon.de/dp/B000000001",
    ).record()


def metric() -> Record:
    return Metric(
        timestamp="2026-11-24T12:00:00Z",
        operation="product",
        tokens_consumed=1,
        tokens_left=1_199,
        refill_rate=20,
        refill_in=1_000,
        response_time_ms=80,
        processing_time_ms=20,
        asin_count=1,
        domain="DE",
        success=True,
        status=200,
        error=None,
    ).record()


def put(outbox: Outbox, *records: Record) -> None:
    outbox.commit(Commit(records=records))


def stored(*records: Record) -> list[Stored]:
    return [Stored(seq, record) for seq, record in enumerate(records, start=1)]


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    """Run a relay for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay.run, Heartbeat(3_600))
        yield
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds; the test's time-out is the limit."""
    # What is waited for happens in other threads and processes.
    while not holds():  # noqa: ASYNC110
        await trio.sleep(0.01)


async def drained(relay: Relay) -> None:
    """Wait until nothing waits for the relay."""
    while (await relay.status()).backlog:  # noqa: ASYNC110  # as above
        await trio.sleep(0.02)


class ScriptedSink:
    """A sink that answers as it is told: one answer a call, and the last one for ever."""

    name = "scripted"

    def __init__(self, *answers: Receipt | SinkError | Exception | None, limit: int = 100) -> None:
        self.limits = Limits(limit, 1_000_000)
        self.notes: list[str] = []
        self.answers = list(answers) or [None]
        self.calls: list[tuple[float, list[str]]] = []
        self.connects: list[SinkError] = []
        self.connected = self.closed = 0
        self.open = trio.Event()
        self.open.set()

    @property
    def arrived(self) -> list[str]:
        return [id_ for _, ids in self.calls for id_ in ids]

    async def connect(self) -> str:
        if self.connects:
            raise self.connects.pop(0)
        self.connected += 1
        return "a script"

    async def send(self, batch: Sequence[Stored]) -> Receipt:
        self.calls.append((trio.current_time(), [one.record.id for one in batch]))
        await self.open.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer or Receipt()

    async def close(self) -> None:
        self.closed += 1


class Request(NamedTuple):
    """What a stand-in node was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What it answers."""

    status: int
    body: bytes
    headers: Sequence[tuple[str, str]] = (
        ("content-type", "application/json"),
        ("x-elastic-product", "Elasticsearch"),
    )


Behaviour = Callable[[Request], Awaitable[Answer]]
Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def serve_http(nursery: trio.Nursery) -> Serve:
    """Start an HTTP server on loopback that behaves as the function given; return its address."""

    async def start(behave: Behaviour, host: str = "127.0.0.1") -> str:
        async def talk(stream: trio.SocketStream) -> None:
            connection = h11.Connection(h11.SERVER)
            try:
                while connection.states[h11.CLIENT] is h11.IDLE:
                    await _answer_one(stream, connection, behave)
                    connection.start_next_cycle()
            except (trio.BrokenResourceError, h11.ProtocolError, EOFError):
                pass

        listeners = await nursery.start(partial(trio.serve_tcp, talk, 0, host=host))
        port = listeners[0].socket.getsockname()[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    return start


async def _answer_one(
    stream: trio.SocketStream, connection: h11.Connection, behave: Behaviour
) -> None:
    head: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65_536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            raise EOFError
    assert head is not None
    headers = {name.decode(): value.decode() for name, value in head.headers}
    answer = await behave(Request(head.method.decode(), head.target.decode(), headers, body))
    length = ("content-length", str(len(answer.body)))
    said = h11.Response(status_code=answer.status, headers=[*answer.headers, length])
    await stream.send_all(
        connection.send(said)
        + connection.send(h11.Data(data=answer.body))
        + connection.send(h11.EndOfMessage())
    )


# The real servers.


class Services:
    """The servers of one state directory."""

    def __init__(self, state: Path, *via: str | Path) -> None:
        self.state = state
        self.via = via  # a command that runs them elsewhere

    def run(self, action: str, *names: str) -> dict[str, str]:
        """Start, stop or look at servers; return each one's address, or 'stopped'."""
        # Only `make test-services` takes the time to fetch them.
        done = subprocess.run(
            [*self.via, SERVICES, action, "--state", self.state, *names],
            env={"PRICECHECK_SERVICES": "fetched"} | os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            _cannot(done.stderr.strip())
        return dict(line.split("\t") for line in done.stdout.splitlines())

    def pid(self, name: str) -> int:
        import json

        known = json.loads((self.state / name / "service.json").read_text())
        return int(known["pid"])


def _cannot(reason: str) -> None:
    """Skip, with the reason; fail where the servers are insisted on."""
    if os.environ.get("PRICECHECK_SERVICES") == "required":
        pytest.fail(f"the test servers can't be had: {reason}")
    pytest.skip(f"the test servers can't be had: {reason}")


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The servers that all tests of this run share; the last process to end stops them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    state = Path(tempfile.gettempdir()) / f"pricecheck-services-{run}"
    state.mkdir(exist_ok=True)
    with (state / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield Services(state)
        fcntl.flock(users, fcntl.LOCK_UN)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        subprocess.run([SERVICES, "stop", "--state", state], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", state], check=False)


@pytest.fixture(scope="session")
def kafka_address(services: Services) -> str:
    return services.run("start", "kafka")["kafka"]


@pytest.fixture(scope="session")
def elasticsearch_url(services: Services) -> str:
    return services.run("start", "elasticsearch")["elasticsearch"]
