"""Records a second into the outbox, against raw sqlite3 doing the same inserts."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from pricecheck.outbox import Commit, Outbox, schema
from pricecheck.records import Change, Record
from scripts.benchmarks.figures import Row, at_least, seconds_of

_BATCH = 100
_ROUNDS = 20
_BATCHES_A_ROUND = 40
_LEAST = 0.7


def measure() -> Iterator[Row]:
    """Let both write the same batches, taking turns, each into its own file on the same disk."""
    with tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory:
        folder = Path(directory)
        with (
            closing(Outbox.open(folder / "ours.sqlite")) as outbox,
            closing(raw_database(folder / "raw.sqlite")) as raw,
        ):
            ours_s = raw_s = 0.0
            for number in range(_ROUNDS):
                batches = [batch(number * _BATCHES_A_ROUND + i) for i in range(_BATCHES_A_ROUND)]
                ours = partial(commit_all, outbox, batches)
                theirs = partial(insert_all, raw, batches)
                # The first of the two warms the disk up for the second.
                for work in (ours, theirs) if number % 2 else (theirs, ours):
                    seconds = seconds_of(work)
                    if work is ours:
                        ours_s += seconds
                    else:
                        raw_s += seconds
            kept = raw.execute("SELECT count(*) FROM records").fetchone()[0]
            assert outbox.counts() == {"change": kept}, "the two did not store the same"
    records = _ROUNDS * _BATCHES_A_ROUND * _BATCH
    yield at_least(
        "outbox, transactions of 100 records",
        f"{records / ours_s:,.0f} records/s",
        f"raw sqlite3 {records / raw_s:,.0f} records/s",
        raw_s / ours_s,
        _LEAST,
    )


def batch(number: int) -> tuple[Record, ...]:
    """Return the records of one answer: a change of each of 100 products."""
    return tuple(
        Change(
            asin=f"B0{(number * 7919 + i * 104_729) % 10**8:08d}",
            domain="DE",
            currency="EUR",
            title="A keyboard with a title as long as such titles usually are on Amazon",
            price_type="NEW",
            changed_at=f"2026-01-01T{number // 60 % 24:02d}:{number % 60:02d}:00Z",
            observed_at="2026-01-02T00:00:00Z",
            old_price=4999,
            new_price=4499,
            change_percent=-10.0,
        ).record()
        for i in range(_BATCH)
    )


def commit_all(outbox: Outbox, batches: list[tuple[Record, ...]]) -> None:
    """Store each batch as the daemon does."""
    for records in batches:
        outbox.commit(Commit(records=records))


def raw_database(file: Path) -> sqlite3.Connection:
    """Make a file with the same tables and pragmas, without the outbox's code."""
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    for script in schema.MIGRATIONS:
        db.executescript(script)
    return db


def insert_all(db: sqlite3.Connection, batches: list[tuple[Record, ...]]) -> None:
    """Insert each batch in a transaction, and nothing else."""
    for records in batches:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO records (kind, id, key, created_ms, body) VALUES (?, ?, ?, ?, ?)",
            [(record.kind, record.id, record.key, 0, record.body) for record in records],
        )
        db.execute("COMMIT")
