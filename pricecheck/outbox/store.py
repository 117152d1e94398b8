"""The outbox: everything learned, kept in SQLite until every relay has delivered it.

It is synchronous and safe to call from any thread: trio code calls it through
`trio.to_thread.run_sync`. When `commit` has returned, the records survive a crash of the machine.
It neither makes records nor sends them.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from pricecheck.errors import InputError
from pricecheck.outbox import schema
from pricecheck.outbox.rows import (
    Backlog,
    Candidate,
    CandidateState,
    Commit,
    DeadLetter,
    ProductState,
    Stored,
)
from pricecheck.records import Record

FILE_NAME: Final = "outbox.sqlite"
"""What the outbox is called in the state directory."""

_PAGE_OF_STATES = 10_000  # rows held in memory at once while all products are listed
_REFUSED_FOR_MS = 30 * 86_400_000  # before a candidate that did not fit is looked at again
_STANDING = """
FROM candidates c WHERE rule = coalesce(?1, rule) AND (state IN ('accepted', 'rejected')
OR NOT EXISTS (SELECT 1 FROM candidates WHERE domain = c.domain AND asin = c.asin
AND state IN ('accepted', 'rejected')))"""  # a decision stands in the place of all opinions
_BUSY_S = 0.02  # for which the lock is held while another process writes
_VACUUM_PAGES = 1_000  # given back to the disk per retain: 4 MB, some milliseconds


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Outbox:
    """The records with each relay's cursor, product states, dead letters and marks.

    (kind, id) is unique. A record stored again with the same body changes nothing; with another
    body it replaces the old one and goes to the end, so relays see only the newest. Only of alerts
    the first stands, for nobody wants to be told twice. Every method
    may raise StoreError: DiskFullError when nothing can be written (the outbox stays usable),
    CorruptStoreError when the file turns out to be damaged. Reads only when `open_readonly` made
    it: what writes then raises StoreError.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        path: Path,
        *,
        moved_aside: Path | None = None,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self.path = path
        self.moved_aside = moved_aside  # where a corrupt predecessor went
        self._now_ms = now_ms
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, path: Path, *, now_ms: Callable[[], int] = _now_ms, verify: bool = True
    ) -> Outbox:
        """Open the outbox, made or migrated where needed; a corrupt one is moved aside.

        `verify=False` is for a second writer beside the daemon: it reads no more than it must and
        raises CorruptStoreError rather than pull the file from under the daemon. Raises
        NewerStoreError for a newer program's file, StoreError for one that can't be opened.
        """
        db, moved_aside = schema.open_database(path, verify=verify, now_ms=now_ms)
        return cls(db, path, moved_aside=moved_aside, now_ms=now_ms)

    def close(self) -> None:
        """Close the file; nothing is lost without it. Closing twice is harmless."""
        with self._lock:
            self._db.close()

    # What the collectors do.

    def commit(self, commit: Commit) -> int:
        """Store all of it in one transaction; return how many records were new or had changed.

        The same commit twice leaves the same content. Raises DiskFullError: nothing was stored.
        """
        with self._transaction() as db:
            added = self._append(db, commit.records)
            db.executemany(
                "INSERT INTO states (domain, asin, checked_at_ms, body) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE"
                " SET checked_at_ms = excluded.checked_at_ms, body = excluded.body",
                [msgspec.structs.astuple(state) for state in commit.states],
            )
            # An equal at_ms is the same refusal committed again, not a second one.
            db.executemany(
                "INSERT INTO dead_letters (source, kind, id, key, reason, body, at_ms, count)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET key = excluded.key,"
                " reason = excluded.reason, body = excluded.body, at_ms = excluded.at_ms,"
                " count = count + iif(at_ms = excluded.at_ms, 0, excluded.count)",
                [msgspec.structs.astuple(letter) for letter in commit.dead_letters],
            )
            db.executemany(
                "INSERT INTO marks (task, at_ms) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET at_ms = excluded.at_ms",
                commit.marks,
            )
            # What a person or a rule has decided upon stands. Found again, it is looked at again
            # only when it did not fit long ago.
            db.executemany(
                "INSERT INTO candidates (domain, asin, rule, state, at_ms, body)"
                " SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM candidates"
                " WHERE domain = ?1 AND asin = ?2 AND state IN ('accepted', 'rejected'))"
                " ON CONFLICT (domain, asin, rule) DO UPDATE"
                " SET state = excluded.state, at_ms = excluded.at_ms, body = excluded.body"
                " WHERE excluded.state <> 'found'"
                " OR candidates.state = 'unfit' AND candidates.at_ms < excluded.at_ms - ?7",
                [
                    (*msgspec.structs.astuple(candidate), _REFUSED_FOR_MS)
                    for candidate in commit.candidates
                ],
            )
        return added

    def candidates(
        self, state: CandidateState, *, rule: str | None = None, limit: int = 1_000_000
    ) -> list[Candidate]:
        """Return the candidates in a state, in the order in which they were found; of all rules.

        One that is decided upon is no longer found, waiting or unfit for any other rule.
        """
        rows = self.rows(
            f"SELECT domain, asin, rule, state, at_ms, body {_STANDING}"  # ours
            " AND state = ?2 ORDER BY number LIMIT ?3",
            (rule, state, limit),
        )
        return [Candidate(*row) for row in rows]

    def candidate_counts(self, rule: str | None = None) -> Counter[CandidateState]:
        """Return how many candidates are in each state, as `candidates` has them."""
        query = f"SELECT state, count(*) {_STANDING} GROUP BY state"  # ours
        return Counter(dict(self.rows(query, (rule,))))

    def learnt(self, domain: str, asins: Sequence[str]) -> list[Candidate]:
        """Return what any rule has learnt of these products, as far as it is not too old."""
        rows = self.rows(
            "SELECT domain, asin, rule, state, at_ms, body FROM candidates WHERE domain = ?"
            " AND asin IN (SELECT value FROM json_each(?)) AND state <> 'found' AND at_ms > ?",
            (domain, msgspec.json.encode(asins).decode(), self._now_ms() - _REFUSED_FOR_MS),
        )
        return [Candidate(*row) for row in rows]

    def review(self, candidates: Sequence[Candidate]) -> None:
        """Store another opinion of candidates upon which nobody has decided."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE candidates SET state = ?4, at_ms = ?5, body = ?6 WHERE domain = ?1"
                " AND asin = ?2 AND rule = ?3 AND state IN ('found', 'waiting', 'unfit')",
                [msgspec.structs.astuple(candidate) for candidate in candidates],
            )

    def decide(self, candidates: Sequence[Candidate]) -> None:
        """Store what a person decided upon products, in the place of all that rules thought."""
        with self._transaction() as db:
            for candidate in candidates:
                db.execute(
                    "DELETE FROM candidates WHERE domain = ? AND asin = ?",
                    (candidate.domain, candidate.asin),
                )
                db.execute(
                    "INSERT INTO candidates (domain, asin, rule, state, at_ms, body)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    msgspec.structs.astuple(candidate),
                )

    def states(self, domain: str, asins: Sequence[str]) -> dict[str, bytes]:
        """Return the state of those of the products that have one, by ASIN."""
        return dict(
            self.rows(
                "SELECT asin, body FROM states WHERE domain = ?"
                " AND asin IN (SELECT value FROM json_each(?))",
                (domain, msgspec.json.encode(asins).decode()),
            )
        )

    def checked_at(self) -> Iterator[tuple[str, str, int]]:
        """Yield domain, ASIN and time of the last check (Unix ms) of every product.

        Reads page by page: little memory for a million products, and commits may come between.
        """
        return self._pages_of_states("domain, asin, checked_at_ms")

    def product_states(self) -> Iterator[ProductState]:
        """Yield the state of every product, page by page like `checked_at`."""
        rows = self._pages_of_states("domain, asin, checked_at_ms, body")
        return (ProductState(*row) for row in rows)

    def marks(self) -> dict[str, int]:
        """Return when each task last succeeded, Unix ms by task name."""
        return dict(self.rows("SELECT task, at_ms FROM marks"))

    # What the relays do.

    def enlist(self, relay: str, kind: str) -> None:
        """Let a relay have the records of one kind only, and of those the ones from now on.

        One that was enlisted before goes on where it was.
        """
        with self._transaction() as db:
            db.execute(
                "INSERT INTO relays (name, cursor, backlog, kind) VALUES (?, ?, 0, ?)"
                " ON CONFLICT DO NOTHING",
                (relay, _last_seq(db), kind),
            )

    def read(self, relay: str, *, limit: int, max_bytes: int) -> list[Stored]:
        """Return the records after the relay's cursor, oldest first.

        At most `limit` of them, with bodies of at most `max_bytes` together; but always one if
        there is one, so that a record larger than that can't stop a relay.
        """
        batch: list[Stored] = []
        room = max_bytes
        with self._lock, schema.explained(self.path):
            cursor, only = self._position(relay)
            # Records of one kind may lie far apart: their index leads to each.
            one_kind = "INDEXED BY records_by_kind WHERE kind = :only AND" if only else "WHERE"
            rows = self._db.execute(
                f"SELECT seq, kind, id, key, body FROM records {one_kind}"  # noqa: S608
                " seq > :cursor ORDER BY seq LIMIT :limit",
                {"only": only, "cursor": cursor, "limit": limit},
            )
            for seq, kind, id_, key, body in rows:
                room -= len(body)
                if room < 0 and batch:
                    break
                batch.append(Stored(seq, Record(kind, id_, key, body)))
            rows.close()  # an unfinished SELECT would keep the journal from being folded in
        return batch

    def acknowledge(self, relay: str, seq: int) -> None:
        """Move the relay's cursor up to and including `seq`; it never moves back.

        Raises ValueError for a seq that was never given out: it would skip records to come.
        """
        with self._transaction() as db:
            if seq > _last_seq(db):
                raise ValueError(f"{relay} acknowledges record {seq}, which was never stored")
            db.execute(
                "INSERT INTO relays (name, cursor, backlog)"
                " SELECT ?, 0, coalesce(sum(count), 0) FROM counts WHERE true"
                " ON CONFLICT DO NOTHING",
                (relay,),
            )
            db.execute(
                "UPDATE relays SET cursor = :seq, backlog = backlog -"
                " (SELECT count(*) FROM records WHERE seq > relays.cursor AND seq <= :seq)"
                " WHERE name = :relay AND cursor < :seq",
                {"relay": relay, "seq": seq},
            )

    def enlisted(self) -> list[str]:
        """Return the relays that take one kind only."""
        rows = self.rows("SELECT name FROM relays WHERE kind IS NOT NULL ORDER BY name")
        return [name for (name,) in rows]

    def backlog(self, relay: str) -> Backlog:
        """Return what waits for the relay; as quick with a million records as with one."""
        with self._lock, schema.explained(self.path):
            cursor, only = self._position(relay)
            if only:
                waiting = (
                    "SELECT count(*), min(created_ms) FROM records INDEXED BY records_by_kind"
                    " WHERE kind = :only AND seq > :cursor"
                )
            else:
                waiting = (
                    "SELECT coalesce((SELECT backlog FROM relays WHERE name = :relay),"
                    " (SELECT sum(count) FROM counts), 0),"
                    " (SELECT created_ms FROM records WHERE seq > :cursor ORDER BY seq LIMIT 1)"
                )
            parameters = {"relay": relay, "only": only, "cursor": cursor}
            count, oldest_ms = self._db.execute(waiting, parameters).fetchone()
        return Backlog(count, oldest_ms)

    # What the operator does.

    def dead_letters(self, *, source: str | None = None, limit: int = 1_000) -> list[DeadLetter]:
        """Return the dead letters, newest first; of one source if it is named."""
        rows = self.rows(
            "SELECT source, kind, id, key, reason, body, at_ms, count FROM dead_letters"
            " WHERE source = coalesce(?, source) ORDER BY at_ms DESC, rowid DESC LIMIT ?",
            (source, limit),
        )
        fields = DeadLetter.__struct_fields__
        return [DeadLetter(**dict(zip(fields, row, strict=True))) for row in rows]

    def dead_letter_counts(self) -> dict[str, int]:
        """Return how many dead letters each source has."""
        return dict(self.rows("SELECT source, count(*) FROM dead_letters GROUP BY source"))

    def retry(self, source: str, kind: str, id_: str) -> bool:
        """Put a dead letter back at the end of the outbox; return False when there is none.

        Every relay delivers it again, which is harmless; but an alert rings again. Where the outbox
        holds the record still, its body is taken, for that is at least as new. Raises InputError
        for a letter of Keepa's.
        """
        if source == "keepa":
            raise InputError(
                f"the answer {kind} {id_} of Keepa's is no record that could be sent again",
                remedy="drop it; the product is asked for anew at its next check",
            )
        with self._transaction() as db:
            letter = db.execute(
                "SELECT l.kind, l.id, l.key, coalesce(r.body, l.body) FROM dead_letters l"
                " LEFT JOIN records r USING (kind, id)"
                " WHERE l.source = ? AND l.kind = ? AND l.id = ?",
                (source, kind, id_),
            ).fetchone()
            if letter is None:
                return False
            db.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, id_))
            self._append(db, [Record(*letter)])
            return _drop(db, source, kind, id_)

    def drop(self, source: str, kind: str, id_: str) -> bool:
        """Delete a dead letter for good; return False when there is none."""
        with self._transaction() as db:
            return _drop(db, source, kind, id_)

    # What keeps it in bounds.

    def retain(
        self, *, before_ms: int, metrics_cap: int, relays: Sequence[str], limit: int = 10_000
    ) -> int:
        """Delete what has been kept long enough; return how many records went.

        Keepa's dead letters older than `before_ms` go too, and candidates of then that did not fit:
        what they hold is asked for again.
        Those are: records older than `before_ms` that every one of `relays` has acknowledged
        (all that old, with no relays), and the oldest metrics beyond `metrics_cap` that some
        relay has not acknowledged. At most `limit` go at a time, so that a commit never waits
        long: call again while it returns `limit`.
        """
        with self._transaction() as db:
            db.execute(
                "DELETE FROM dead_letters WHERE source = 'keepa' AND at_ms < ?", (before_ms,)
            )
            db.execute(
                "DELETE FROM candidates WHERE state IN ('found', 'unfit') AND at_ms < ?",
                (min(before_ms, self._now_ms() - _REFUSED_FOR_MS),),
            )
            acknowledged = min(map(self._reached, relays), default=_last_seq(db))
            aged = db.execute(
                "DELETE FROM records WHERE seq IN (SELECT seq FROM records"
                " WHERE kind IN (SELECT kind FROM counts) AND created_ms < ? AND seq <= ? LIMIT ?)",
                (before_ms, acknowledged, limit),
            ).rowcount
            (waiting,) = db.execute(
                "SELECT count(*) FROM records WHERE kind = 'metric' AND seq > ?", (acknowledged,)
            ).fetchone()
            surplus = db.execute(
                "DELETE FROM records WHERE seq IN (SELECT seq FROM records"
                " WHERE kind = 'metric' AND seq > ? ORDER BY created_ms, seq LIMIT ?)",
                (acknowledged, max(0, min(waiting - metrics_cap, limit - aged))),
            ).rowcount
        with self._lock, schema.explained(self.path):
            # As a script, for `execute` takes one step of it, and each step frees one page.
            self._db.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        return aged + surplus

    def counts(self) -> dict[str, int]:
        """Return how many records of each kind are kept."""
        return dict(self.rows("SELECT kind, count FROM counts"))

    def size_bytes(self) -> int:
        """Return how much of the disk the outbox takes, its journal included."""
        total = 0
        for part in schema.family(self.path):
            with suppress(FileNotFoundError):  # a writer that ends deletes its journal
                total += part.stat().st_size
        return total

    def rows(self, query: str, parameters: Sequence[object] | dict[str, object] = ()) -> list[Any]:
        """Return all rows of a query that only reads."""
        with self._lock, schema.explained(self.path):
            return self._db.execute(query, parameters).fetchall()

    def _append(self, db: sqlite3.Connection, records: Sequence[Record]) -> int:
        now = self._now_ms()
        rows: dict[tuple[str, str], tuple[str, str, str, int, bytes]] = {}
        for record in records:
            rows.pop((record.kind, record.id), None)  # the last of an id stands where it came
            rows[record.kind, record.id] = (record.kind, record.id, record.key, now, record.body)
        before = _last_seq(db)
        db.executemany(
            "DELETE FROM records WHERE kind = ?1 AND id = ?2 AND body <> ?5 AND kind <> 'alert'",
            rows.values(),
        )
        db.executemany(
            "INSERT INTO records (kind, id, key, created_ms, body) VALUES (?1, ?2, ?3, ?4, ?5)"
            # An alert whose reason lasts stays young: once deleted, it would be told again.
            " ON CONFLICT DO UPDATE SET created_ms = excluded.created_ms"
            " WHERE kind = 'alert' AND created_ms < excluded.created_ms - 86400000",
            rows.values(),
        )
        # NOT INDEXED: look at what is new by its seq, not at every record in order of kind.
        added: dict[str, int] = dict(
            db.execute(
                "SELECT kind, count(*) FROM records NOT INDEXED WHERE seq > ? GROUP BY kind",
                (before,),
            )
        )
        db.executemany(
            "INSERT INTO counts (kind, count) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET count = count + excluded.count",
            added.items(),
        )
        total = sum(added.values())
        db.execute("UPDATE relays SET backlog = backlog + ?", (total,))
        return total

    def _position(self, relay: str) -> tuple[int, str | None]:
        """Return a relay's cursor, and the only kind that it takes or None; the lock is held."""
        row = self._db.execute(
            "SELECT cursor, kind FROM relays WHERE name = ?", (relay,)
        ).fetchone()
        return row or (0, None)

    def _reached(self, relay: str) -> int:
        """Return the seq up to which a relay needs nothing more; the lock is held."""
        cursor, only = self._position(relay)
        if only is None:
            return cursor
        (waiting,) = self._db.execute(
            "SELECT min(seq) FROM records INDEXED BY records_by_kind WHERE kind = ? AND seq > ?",
            (only, cursor),
        ).fetchone()
        return _last_seq(self._db) if waiting is None else int(waiting) - 1

    def _pages_of_states(self, columns: str) -> Iterator[Any]:
        last = 0
        while page := self.rows(
            f"SELECT number, {columns} FROM states WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608  # columns of ours
            (last, _PAGE_OF_STATES),
        ):
            yield from (row[1:] for row in page)
            last = page[-1][0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with schema.explained(self.path):
            self._begin()
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite may have rolled back itself
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._lock.release()

    def _begin(self) -> None:
        """Take the lock and begin to write; while another process does, let reads pass."""
        give_up_at = time.monotonic() + schema.BUSY_TIMEOUT_S
        while True:
            late = time.monotonic() > give_up_at
            self._lock.acquire()
            try:
                self._be_patient(_BUSY_S)
                self._db.execute("BEGIN IMMEDIATE")
                self._be_patient(schema.BUSY_TIMEOUT_S)
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self._be_patient(schema.BUSY_TIMEOUT_S)
                self._lock.release()
                code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
                if late or code & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            else:
                return
            time.sleep(_BUSY_S)

    def _be_patient(self, seconds: float) -> None:
        self._db.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")


def open_readonly(path: Path) -> Outbox:
    """Open an existing outbox for reading only, beside a running daemon.

    Raises StoreError when there is none or it may not be read, NewerStoreError when a newer
    program wrote it.
    """
    return Outbox(schema.open_database_readonly(path), path)


def _drop(db: sqlite3.Connection, source: str, kind: str, id_: str) -> bool:
    dropped = db.execute(
        "DELETE FROM dead_letters WHERE source = ? AND kind = ? AND id = ?", (source, kind, id_)
    )
    return dropped.rowcount > 0


def _last_seq(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
    return int(row[0]) if row else 0
