"""Delivery to real servers: rates beside the plain clients', memory, and collection beside it."""

from __future__ import annotations

import gc
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from pricecheck.config import Elasticsearch, Kafka
from pricecheck.deliver import elasticsearch, kafka
from pricecheck.deliver.elasticsearch import ElasticsearchSink
from pricecheck.deliver.kafka import KafkaSink
from pricecheck.deliver.sink import Sink
from scripts.benchmarks.drain import documents, drain, filled, fresh_names
from scripts.benchmarks.figures import Row, at_least, at_most
from scripts.benchmarks.processes import daemon, simulator, some_products, write_home

_SERVICES = Path(__file__).resolve().parents[1] / "services"
_ROOT = _SERVICES.parents[1]
_RECORDS = 300_000
_ROUNDS = 3
_BACKLOG = 1_000_000
_MOST_MB = 150
_FIRST, _PRODUCTS = 2_000, 10_000
_NOWHERE = {"elasticsearch": "http://127.0.0.1:9", "kafka": "127.0.0.1:9"}


def measure() -> Iterator[Row]:
    """Compare on servers of our own; where they can't be had, say so."""
    with tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory:
        folder = Path(directory)
        try:
            with _servers(folder / "servers") as addresses:
                yield from _elasticsearch(folder, addresses["elasticsearch"])
                yield from _kafka(folder, addresses["kafka"])
                yield from _memory(folder, addresses)
                yield from _collection(addresses)
        except _NoServersError as error:
            yield Row("delivery", "not measured", str(error))


class _NoServersError(Exception):
    """No servers here, and why."""


@contextmanager
def _servers(state: Path) -> Iterator[dict[str, str]]:
    """Run servers that nobody else uses; only programs that have been fetched already."""
    place = ["--state", str(state)]
    only_fetched = os.environ | {"PRICECHECK_SERVICES": "fetched"}
    started = subprocess.run(
        [_SERVICES, "start", *place], capture_output=True, text=True, env=only_fetched, check=False
    )
    if started.returncode:
        raise _NoServersError(started.stderr.strip())
    try:
        yield dict(line.split("\t") for line in started.stdout.splitlines())
    finally:
        subprocess.run([_SERVICES, "stop", *place], check=True, capture_output=True)


def _elasticsearch(folder: Path, address: str) -> Iterator[Row]:
    from elastic_transport import Urllib3HttpNode
    from elasticsearch import Elasticsearch as Client
    from elasticsearch import helpers

    class SpeaksEight(Urllib3HttpNode):
        """A node of the client's that an Elasticsearch 8 takes too."""

        def perform_request(self, *args: Any, **more: Any) -> Any:
            headers = more.get("headers") or {}
            for key in ("accept", "content-type"):
                if key in headers:
                    headers[key] = headers[key].replace("compatible-with=9", "compatible-with=8")
            return super().perform_request(*args, **more)

    records = list(documents(_RECORDS))
    settings = Elasticsearch(hosts=(address,))

    def ours() -> float:
        with filled(folder, records) as outbox:
            return trio.run(drain, ElasticsearchSink(settings, fresh_names()), outbox)

    def bulk() -> float:
        names = fresh_names()
        trio.run(_prepare, ElasticsearchSink(settings, names))  # the same indices
        index = names.by_kind()
        actions = [
            {"_index": index[one.kind], "_id": one.id, "_source": msgspec.json.decode(one.body)}
            for one in records
        ]
        with Client(address, node_class=SpeaksEight) as client:
            began = time.perf_counter()
            done, errors = helpers.bulk(
                client,
                actions,
                stats_only=True,
                chunk_size=elasticsearch.BATCH_RECORDS,
                max_chunk_bytes=elasticsearch.BATCH_BYTES,
            )
            took = time.perf_counter() - began
        assert (done, errors) == (_RECORDS, 0)
        return took

    yield from _compare("outbox to Elasticsearch", ours, {"helpers.bulk": (bulk, 0.9)}, _ROUNDS)


def _kafka(folder: Path, address: str) -> Iterator[Row]:
    records = list(documents(_RECORDS))
    settings = Kafka(brokers=(address,))

    def ours() -> float:
        with filled(folder, records) as outbox:
            return trio.run(drain, KafkaSink(settings, fresh_names()), outbox)

    def from_memory() -> float:
        return _produce(settings, [(one.kind, one.id, one.key, one.body) for one in records])

    def from_sqlite() -> float:
        with filled(folder, records) as outbox, closing(sqlite3.connect(outbox.path)) as db:
            rows = db.execute("SELECT kind, id, key, body FROM records ORDER BY seq")
            return _produce(settings, rows)

    # To read a record from the disk takes about half as long as to produce it, so the loop that
    # has to read as well is the one to be measured by.
    peers = {"produce loop on SQLite": (from_sqlite, 0.8), "produce loop": (from_memory, None)}
    # A round takes two seconds, of which a broker may pause for one: the best of more is steadier.
    yield from _compare("outbox to Kafka", ours, peers, 3 * _ROUNDS)


def _produce(settings: Kafka, source: Iterable[tuple[str, str, str, bytes]]) -> float:
    """Produce with the plain client and our settings; return the seconds it took."""
    from confluent_kafka import Producer

    names = fresh_names()
    trio.run(_prepare, KafkaSink(settings, names))
    topics = names.by_kind()
    producer = Producer({**kafka._OURS, "bootstrap.servers": settings.brokers[0]})
    failed = []

    def report(error: Any, _: Any) -> None:
        if error:
            failed.append(error)

    producer.list_topics(timeout=5)
    began = time.perf_counter()
    for kind, id_, key, body in source:
        headers: Any = [("id", id_), ("kind", kind), ("schema", b"1")]
        while True:
            try:
                producer.produce(topics[kind], body, key, headers=headers, on_delivery=report)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failed
    return time.perf_counter() - began


async def _prepare(sink: Sink) -> None:
    await sink.connect()
    await sink.close()


def _compare(
    figure: str,
    ours: Callable[[], float],
    peers: dict[str, tuple[Callable[[], float], float | None]],
    rounds: int,
) -> Iterator[Row]:
    """Take turns, and compare the best rounds; a peer comes with the bound of our ratio to it."""
    gc.collect()
    gc.freeze()  # the documents of the benchmark are no part of a daemon
    best = dict.fromkeys(["ours", *peers], math.inf)
    for _ in range(rounds):
        best["ours"] = min(best["ours"], ours())
        for name, (run, _bound) in peers.items():
            best[name] = min(best[name], run())
    gc.unfreeze()
    measured = f"{_RECORDS / best['ours']:,.0f} records/s"
    for name, (_run, bound) in peers.items():
        against, ratio = f"{name} {_RECORDS / best[name]:,.0f}", best[name] / best["ours"]
        if bound is None:
            yield Row(figure, measured, against, f"{ratio:.2f}")
        else:
            yield at_least(figure, measured, against, ratio, bound)


def _memory(folder: Path, addresses: dict[str, str]) -> Iterator[Row]:
    """Measure what a process holds at most that drains a large backlog into both."""
    with filled(folder, documents(_BACKLOG)) as outbox:
        path = outbox.path
    places = {"SQLite": path, **{name: folder / "servers" / name / "data" for name in addresses}}
    _flush(addresses["elasticsearch"])
    before_mb = {name: _disk_mb(place) for name, place in places.items() if place != path}
    command = [sys.executable, "-m", "scripts.benchmarks.drain", str(path)]
    command += [addresses["elasticsearch"], addresses["kafka"]]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    half, whole = map(float, done.stdout.split())
    yield at_most(
        f"memory, draining {_BACKLOG:,} records",
        f"{whole:.0f} MB at most",
        f"{_MOST_MB} MB",
        whole / _MOST_MB,
        1,
    )
    yield at_most(
        "  growth with the backlog",
        f"{whole - half:+.0f} MB",
        f"{half:.0f} MB after half of it",
        whole / half,
        1.05,
    )
    _flush(addresses["elasticsearch"])
    taken = {name: _disk_mb(place) - before_mb.get(name, 0.0) for name, place in places.items()}
    in_sqlite = taken.pop("SQLite")
    yield Row(
        f"disk, {_BACKLOG:,} changes",
        f"SQLite {in_sqlite:.0f} MB",
        ", ".join(f"{name} {mb:.0f} MB" for name, mb in taken.items()),
    )


def _flush(address: str) -> None:
    """Let Elasticsearch fold its write-ahead log into the indices."""
    flush = urllib.request.Request(f"{address}/_flush", method="POST")  # noqa: S310
    urllib.request.urlopen(flush).close()  # noqa: S310


def _disk_mb(place: Path) -> float:
    """Return what a file, or all in a directory, takes of the disk; a database's journal too."""
    files = place.rglob("*") if place.is_dir() else place.parent.glob(f"{place.name}*")
    return sum(file.stat().st_blocks * 512 for file in files if file.is_file()) / 1e6


def _collection(addresses: dict[str, str]) -> Iterator[Row]:
    """How quickly a daemon checks its products while both sinks are away, and without any.

    While both work their servers take part of the same processors, so there is no bound on that.
    """
    places = {"away": _NOWHERE, "none": {}, "there": addresses}
    best = dict.fromkeys(places, math.inf)
    # The last: what servers have taken in, they are busy with for a while.
    for name in [*("away", "none") * (2 * _ROUNDS), *["there"] * _ROUNDS]:
        best[name] = min(best[name], _checked_s(places[name]))
    rates = {name: f"{_PRODUCTS / seconds:,.0f}" for name, seconds in best.items()}
    yield at_least(
        "collection while both sinks are away",
        f"{rates['away']} products/s",
        f"none configured {rates['none']}",
        best["none"] / best["away"],
        0.95,
    )
    yield Row(
        "  while both are there",
        f"{rates['there']} products/s",
        f"none configured {rates['none']}",
        f"{best['none'] / best['there']:.2f}",
    )


def _checked_s(sinks: dict[str, str]) -> float:
    """Return the seconds for the products after the first ones.

    While those are checked the daemon imports the sinks' clients, once in its life.
    """
    more = 'lookback = "1d"\n'
    if sinks:
        more += (
            f'[names]\nprefix = "{fresh_names().prefix}"\n'
            f'[elasticsearch]\nhosts = ["{sinks["elasticsearch"]}"]\n'
            f'[kafka]\nbrokers = ["{sinks["kafka"]}"]\n'
        )
    with (
        tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory,
        simulator("--refill-rate", "0", "--distinct", "1000") as url,
    ):
        home = Path(directory)
        write_home(home, url=url, watched=some_products(_FIRST + _PRODUCTS), more=more)
        with daemon(home) as running:
            running.wait_checked(_FIRST)
            began = time.perf_counter()
            running.wait_checked(_FIRST + _PRODUCTS)
            return time.perf_counter() - began
