"""What the tests of the outbox share: a file of their own, and what goes into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck.outbox import (
    Commit,
    DeadLetter,
    Outbox,
)
from pricecheck.records import Record

NOON = 1_800_000_000_000  # Unix ms
ALL = {"limit": 1_000_000, "max_bytes": 1 << 40}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(path)) as outbox:
        yield outbox


def price(id_: str, body: bytes = b"{}") -> Record:
    return Record("price", id_, id_, body)


def large(n: int) -> Record:
    return price(str(n), b"x" * 1_000)


def metric(id_: str) -> Record:
    return Record("metric", id_, "product", b"{}")


def letter(id_: str = "DE:B1:T", *, at_ms: int = 1, **others: object) -> DeadLetter:
    fields = {"source": "kafka", "kind": "price", "key": "B1", "reason": "too large", "body": b"{}"}
    return DeadLetter(id=id_, at_ms=at_ms, **fields | others)  # type: ignore[arg-type]


def put(outbox: Outbox, *records: Record) -> int:
    return outbox.commit(Commit(records=records))


def waiting(outbox: Outbox, relay: str = "kafka") -> list[Record]:
    return [stored.record for stored in outbox.read(relay, **ALL)]


def clock(*times_ms: int) -> Callable[[], int]:
    """A clock that shows these times one after the other, then stays at the last."""
    left = list(times_ms)
    return lambda: left.pop(0) if len(left) > 1 else left[0]
