"""A backlog, and its way into a sink; run as a program, what memory that takes.

    python -m scripts.benchmarks.drain OUTBOX ELASTICSEARCH KAFKA

drains the outbox into both servers, and prints the most megabytes that the process ever held: when
half was with both, and in the end.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import trio

from pricecheck.config import Elasticsearch, Kafka, Names
from pricecheck.daemon import _give_memory_back
from pricecheck.deliver.elasticsearch import ElasticsearchSink
from pricecheck.deliver.kafka import KafkaSink
from pricecheck.deliver.relay import Relay
from pricecheck.deliver.sink import Sink
from pricecheck.outbox import Commit, Outbox, open_readonly
from pricecheck.records import Change, Metric, Record
from pricecheck.supervisor import Heartbeat
from scripts.benchmarks.processes import memory_mb

_COMMIT = 1_000


def documents(count: int) -> Iterator[Record]:
    """Make records as a daemon does: price changes, and a metric for every hundred of them."""
    metric = Metric(
        timestamp="2026-11-24T12:00:00Z",
        operation="product",
        tokens_consumed=100,
        tokens_left=1_000,
        refill_rate=20,
        refill_in=1_000,
        response_time_ms=800,
        processing_time_ms=200,
        asin_count=100,
        domain="DE",
        success=True,
        status=200,
        error=None,
    )
    for number in range(count):
        if number % 100 == 0:
            yield metric.record()
            continue
        yield Change(
            asin=f"B{number % 10_000:09}",
            domain="DE",
            currency="EUR",
            title=f"Mechanische Tastatur {number % 10_000}, beleuchtet, QWERTZ",
            price_type="NEW",
            changed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + number)),
            observed_at="2026-11-24T12:00:00Z",
            old_price=9_999,
            new_price=number % 10_000,
            change_percent=-12.5,
        ).record()


def fresh_names() -> Names:
    """Return names of topics and indices that nobody has used."""
    return Names(prefix=f"bench-{time.time_ns()}-")


@contextmanager
def filled(folder: Path, records: Iterable[Record]) -> Iterator[Outbox]:
    """Open a new outbox that holds these records."""
    with closing(Outbox.open(folder / f"{time.time_ns()}.sqlite")) as outbox:
        rest = iter(records)
        while some := tuple(islice(rest, _COMMIT)):
            outbox.commit(Commit(records=some))
        yield outbox


async def drain(sink: Sink, outbox: Outbox) -> float:
    """Deliver the whole outbox; return the seconds from the relay's connection to the last report.

    Whoever looks whether it is done has a connection of its own: none of the relay's waits for it.
    """
    began = 0.0

    async def connect(connect: Callable[[], Awaitable[str]] = sink.connect) -> str:
        nonlocal began
        peer = await connect()
        began = time.perf_counter()
        return peer

    relay = Relay(sink, outbox)
    with closing(open_readonly(outbox.path)) as looker:
        async with trio.open_nursery() as nursery:
            sink.connect = connect  # type: ignore[method-assign]
            nursery.start_soon(relay.run, Heartbeat(3_600))
            # Nothing announces it: the relay goes on for ever.
            while (await trio.to_thread.run_sync(looker.backlog, sink.name)).count:  # noqa: ASYNC110
                await trio.sleep(0.02)
            took = time.perf_counter() - began
            nursery.cancel_scope.cancel()
    return took


async def drain_both(outbox: Outbox, elasticsearch: str, kafka: str) -> None:
    """Deliver the whole outbox to both servers at once."""
    names = fresh_names()
    sinks: tuple[Sink, ...] = (
        ElasticsearchSink(Elasticsearch(hosts=(elasticsearch,)), names),
        KafkaSink(Kafka(brokers=(kafka,)), names),
    )

    def left() -> int:
        return max(outbox.backlog(sink.name).count for sink in sinks)

    half = left() / 2
    async with trio.open_nursery() as nursery:
        for sink in sinks:
            nursery.start_soon(drain, sink, outbox)
        while await trio.to_thread.run_sync(left) > half:  # noqa: ASYNC110  # nothing announces it
            await trio.sleep(0.1)
        print(_peak_mb())


def main() -> None:
    """Drain the outbox that is named, and tell what it took."""
    path, elasticsearch, kafka = sys.argv[1:]
    _give_memory_back()  # as the daemon does
    with closing(Outbox.open(Path(path))) as outbox:
        trio.run(drain_both, outbox, elasticsearch, kafka)
    print(_peak_mb())


def _peak_mb() -> float:
    # Not ru_maxrss, which begins with the size of whoever started us.
    return memory_mb(os.getpid(), "VmHWM")


if __name__ == "__main__":
    main()
