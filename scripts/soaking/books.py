"""The books that the accountant goes by, read from where each was kept.

Nothing of the package is used here, so that a mistake in it can't hide itself.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

PLACES = {
    "price": "keeper-prices",
    "change": "keeper-price-changes",
    "deal": "keeper-deals",
    "bestseller": "keeper-bestsellers",
    "metric": "keeper-metrics",
    "alert": "keeper-alerts",
}
"""The topic and the index of each kind."""

# What makes a fact one, whatever id it was given. Nothing does that for a metric.
_FACTS = {
    "price": ("domain", "asin", "timestamp"),
    "change": ("domain", "asin", "price_type", "changed_at"),
    "deal": ("domain", "asin", "price_type", "created_at"),
    "bestseller": ("domain", "category", "observed_at"),
    "alert": ("domain", "asin", "rule", "changed_at"),
}
_READ_WHOLE = ("price", "change", "metric", "alert")
_PATIENCE_S = 60


class Doc(NamedTuple):
    """A record as one place holds it."""

    kind: str
    id: str
    fact: tuple[Any, ...]  # what it is about
    digest: str  # of its whole content
    body: dict[str, Any]  # empty for kinds that nobody looks into


@dataclass
class Setup:
    """How the run was set up. Times of the ledger are simulated milliseconds."""

    factor: float
    refill_rate: int
    tokens: int  # at the start, the bucket's capacity
    began_ms: int
    ended_ms: int
    products: list[str]  # all on amazon.de
    lookback_days: int
    drop_percent: float  # of the rule called drop
    calls_at_once: int  # that can be under way when one side is killed
    sampled_s: float  # between two samples, real


@dataclass
class Books:
    """All that was written down of a run, by whom."""

    setup: Setup
    planned: list[str] = field(default_factory=list)  # the schedule: the name of each fault
    ledger: list[dict[str, Any]] = field(default_factory=list)  # the simulator
    histories: dict[str, dict[int, list[int]]] = field(default_factory=dict)  # likewise, at the end
    events: list[dict[str, Any]] = field(default_factory=list)  # the soak: what it did, and when
    samples: list[dict[str, Any]] = field(default_factory=list)  # the kernel, of the daemon
    told: list[dict[str, Any]] = field(default_factory=list)  # the notify service
    outbox: dict[tuple[str, str], Doc] = field(default_factory=dict)
    dead: list[dict[str, Any]] = field(default_factory=list)  # dead letters
    elastic: list[Doc] = field(default_factory=list)
    kafka: list[Doc] = field(default_factory=list)  # in the order of each partition
    log: str = ""  # of the daemon
    health: list[str] = field(default_factory=list)  # what status complained of at the end


class Account(NamedTuple):
    """One account: what was found, and every fault in it."""

    name: str
    found: str
    faults: list[str]


def doc(kind: str, id_: str, body: dict[str, Any]) -> Doc:
    """Return what is kept here of a record."""
    text = json.dumps(body, sort_keys=True)
    fact = tuple(body.get(name) for name in _FACTS[kind]) if kind in _FACTS else (id_,)
    digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    return Doc(kind, id_, (kind, *fact), digest, body if kind in _READ_WHOLE else {})


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; one that was never written is empty."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def read_outbox(file: Path) -> tuple[dict[tuple[str, str], Doc], list[dict[str, Any]]]:
    """Read the records, and the dead letters."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT kind, id, body FROM records")
        records = {(kind, id_): doc(kind, id_, json.loads(body)) for kind, id_, body in rows}
        letters = db.execute("SELECT source, kind, id, reason FROM dead_letters").fetchall()
    names = ("source", "kind", "id", "reason")
    return records, [dict(zip(names, letter, strict=True)) for letter in letters]


def read_elastic(address: str) -> Iterator[Doc]:
    """Read every document of every index."""
    for kind, index in PLACES.items():
        _ask(f"{address}/{index}/_refresh")
        query = {"size": 5_000, "sort": ["_doc"]}
        page = _ask(f"{address}/{index}/_search?scroll=1m", query)
        while hits := page["hits"]["hits"]:
            yield from (doc(kind, hit["_id"], hit["_source"]) for hit in hits)
            more = {"scroll": "1m", "scroll_id": page["_scroll_id"]}
            page = _ask(f"{address}/_search/scroll", more)


def read_kafka(brokers: str) -> Iterator[Doc]:
    """Read every message of every topic, from the beginning to the end of now."""
    kinds = {topic: kind for kind, topic in PLACES.items()}
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "accountant"})
    with closing(consumer):
        known = consumer.list_topics(timeout=_PATIENCE_S).topics
        places = [(topic, part) for topic in kinds for part in known[topic].partitions]
        ends = {place: consumer.get_watermark_offsets(TopicPartition(*place)) for place in places}
        consumer.assign([TopicPartition(*place, low) for place, (low, _) in ends.items()])
        left = sum(high - low for low, high in ends.values())
        while left:
            messages = consumer.consume(min(left, 5_000), timeout=_PATIENCE_S)
            if not messages:
                raise TimeoutError(f"Kafka holds back {left} messages")
            left -= len(messages)
            for message in messages:
                if (error := message.error()) is not None:
                    raise RuntimeError(str(error))
                id_ = dict(message.headers() or ())["id"]
                text = id_.decode() if isinstance(id_, bytes) else str(id_)
                yield doc(kinds[message.topic() or ""], text, json.loads(message.value() or b""))


def read_histories(url: str, asins: Iterable[str]) -> dict[str, dict[int, list[int]]]:
    """Ask a simulator for all that ever happened to the prices of products on amazon.de."""
    found: dict[str, dict[int, list[int]]] = {}
    for asin in asins:
        answer = _ask(f"{url}/product?key=accountant&domain=3&asin={asin}&history=1")
        [product] = answer["products"]
        series = enumerate(product["csv"])
        found[asin] = {index: points for index, points in series if points is not None}
    return found


def _ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310  # http, of this machine
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_PATIENCE_S) as answer:
        packed = answer.headers.get("Content-Encoding") == "gzip"
        text = answer.read()
    return json.loads(gzip.decompress(text) if packed else text)
