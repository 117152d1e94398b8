"""Tests of pricecheck/outbox.py and the file beneath it, on real SQLite files."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck import _schema
from pricecheck.errors import InputError, NewerStoreError, StoreError
from pricecheck.outbox import (
    Backlog,
    Commit,
    CorruptStoreError,
    DeadLetter,
    DiskFullError,
    Outbox,
    ProductState,
    open_readonly,
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


class TestCommit:
    def test_all_of_a_commit_is_there_after_reopening(self, path: Path) -> None:
        """Records, states, dead letters and marks of one commit survive a restart."""
        with closing(Outbox.open(path)) as outbox:
            outbox.commit(
                Commit(
                    records=(price("a"), price("b")),
                    states=(ProductState("DE", "B1", NOON, b"{1}"),),
                    dead_letters=(letter(),),
                    marks=(("deals", NOON),),
                )
            )

        with closing(Outbox.open(path)) as outbox:
            assert waiting(outbox) == [price("a"), price("b")]
            assert outbox.states("DE", ["B1", "B2"]) == {"B1": b"{1}"}
            assert list(outbox.checked_at()) == [("DE", "B1", NOON)]
            assert [state.asin for state in outbox.product_states()] == ["B1"]
            assert outbox.dead_letters() == [letter()]
            assert outbox.marks() == {"deals": NOON}
            assert outbox.moved_aside is None

    def test_a_commit_that_fails_stores_nothing(self, outbox: Outbox) -> None:
        """A failure in a later part takes the earlier parts of the transaction with it."""
        broken = ProductState("DE", "B1", NOON, None)  # type: ignore[arg-type]

        with pytest.raises(sqlite3.IntegrityError):
            outbox.commit(Commit(records=(price("a"),), states=(broken,)))

        assert waiting(outbox) == []
        assert outbox.counts() == {}
        assert put(outbox, price("b")) == 1

    def test_the_same_commit_twice_leaves_the_same_content(self, outbox: Outbox) -> None:
        """A retry after an unclear failure neither doubles records nor counts a letter twice."""
        commit = Commit(
            records=(price("a", b"1"), price("b"), price("a", b"2")),
            states=(ProductState("DE", "B1", NOON, b"{}"),),
            dead_letters=(letter(),),
            marks=(("deals", NOON),),
        )
        first = outbox.commit(commit), outbox.read("kafka", **ALL), outbox.dead_letters()

        second = outbox.commit(commit), outbox.read("kafka", **ALL), outbox.dead_letters()

        assert first[0] == 2
        assert second == (0, *first[1:])

    def test_another_body_supersedes_and_goes_to_the_end(self, outbox: Outbox) -> None:
        """Relays see the newest state only, also those that were past the old one."""
        put(outbox, price("a", b"old"), price("b"))
        outbox.acknowledge("kafka", 2)

        new = put(outbox, price("a", b"new"))

        assert new == 1
        assert [stored.seq for stored in outbox.read("kafka", **ALL)] == [3]
        assert waiting(outbox) == [price("a", b"new")]
        assert waiting(outbox, "elasticsearch") == [price("b"), price("a", b"new")]

    def test_records_keep_the_order_of_their_commit(self, outbox: Outbox) -> None:
        """New and superseding records of one commit stand in the order in which they came."""
        put(outbox, price("b", b"old"), price("d", b"old"))
        records = [price("a"), price("b", b"new"), price("c"), price("d", b"new"), price("e")]

        put(outbox, *records)

        assert waiting(outbox) == records

    def test_the_same_id_of_another_kind_is_another_record(self, outbox: Outbox) -> None:
        """Ids need only be unique within their kind."""
        put(outbox, price("a"), metric("a"))

        assert outbox.counts() == {"price": 1, "metric": 1}

    def test_the_first_alert_of_an_id_stands(self, outbox: Outbox) -> None:
        """Nobody is told twice, whatever a later state of the same thing says."""
        for body in (b"1", b"2"):
            outbox.commit(Commit(records=(Record("alert", "a", "a", body),)))

        assert outbox.latest("alert", limit=10) == [b"1"]
        assert [stored.seq for stored in outbox.read("kafka", **ALL)] == [1]
        assert outbox.counts() == {"alert": 1}

    def test_a_newer_state_and_mark_replace_the_older(self, outbox: Outbox) -> None:
        """There is one state per product and one mark per task."""
        for at_ms, body in ((1, b"1"), (2, b"2")):
            outbox.commit(
                Commit(states=(ProductState("DE", "B1", at_ms, body),), marks=(("deals", at_ms),))
            )

        assert outbox.states("DE", ["B1"]) == {"B1": b"2"}
        assert list(outbox.checked_at()) == [("DE", "B1", 2)]
        assert outbox.marks() == {"deals": 2}

    def test_states_of_many_products_are_read_page_by_page(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every product is listed once, whatever the size of a page."""
        monkeypatch.setattr("pricecheck.outbox._PAGE_OF_STATES", 3)
        expected = [("DE", f"B{n}", n) for n in range(10)]
        outbox.commit(Commit(states=tuple(ProductState(*each, b"{}") for each in expected)))

        assert list(outbox.checked_at()) == expected


class TestRelays:
    def test_every_relay_has_its_own_cursor(self, outbox: Outbox) -> None:
        """What one relay acknowledges the other still gets."""
        put(outbox, price("a"), price("b"))

        outbox.acknowledge("kafka", 1)

        assert waiting(outbox, "kafka") == [price("b")]
        assert waiting(outbox, "elasticsearch") == [price("a"), price("b")]

    def test_a_cursor_never_moves_back(self, outbox: Outbox) -> None:
        """A late acknowledgement of less is ignored, in the backlog too."""
        put(outbox, price("a"), price("b"), price("c"))
        outbox.acknowledge("kafka", 2)

        outbox.acknowledge("kafka", 1)

        assert waiting(outbox) == [price("c")]
        assert outbox.backlog("kafka").count == 1

    def test_an_acknowledgement_of_the_future_is_refused(self, outbox: Outbox) -> None:
        """Records that are still to come must not be skipped."""
        put(outbox, price("a"))

        with pytest.raises(ValueError, match="never stored"):
            outbox.acknowledge("kafka", 2)

        assert waiting(outbox) == [price("a")]

    def test_a_batch_ends_at_its_limit_of_records(self, outbox: Outbox) -> None:
        """No more than `limit` records come at once."""
        put(outbox, price("a"), price("b"), price("c"))

        batch = outbox.read("kafka", limit=2, max_bytes=1_000)

        assert [stored.seq for stored in batch] == [1, 2]

    @pytest.mark.parametrize(("max_bytes", "count"), [(0, 1), (9, 1), (10, 1), (20, 2), (29, 2)])
    def test_a_batch_ends_at_its_limit_of_bytes(
        self, outbox: Outbox, max_bytes: int, count: int
    ) -> None:
        """Bodies fit in `max_bytes`, but a first record too large for it comes alone."""
        put(outbox, *(price(id_, b"x" * 10) for id_ in "abc"))

        assert len(outbox.read("kafka", limit=10, max_bytes=max_bytes)) == count

    def test_a_seq_is_never_given_twice(self, path: Path) -> None:
        """A cursor at the end stays at the end when all records went and the file was reopened."""
        with closing(Outbox.open(path, now_ms=lambda: 1)) as outbox:
            put(outbox, price("a"))
            outbox.acknowledge("kafka", 1)
            outbox.retain(before_ms=2, metrics_cap=0, relays=["kafka"])

        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("b"))

            assert [stored.seq for stored in outbox.read("kafka", **ALL)] == [2]

    def test_backlog_tells_how_many_wait_since_when(self, path: Path) -> None:
        """Count and age follow the cursor; a relay unknown so far has everything before it."""
        with closing(Outbox.open(path, now_ms=clock(10, 20, 30))) as outbox:
            assert outbox.backlog("kafka") == Backlog(0, None)
            for id_ in "abc":
                put(outbox, price(id_))
            assert outbox.backlog("kafka") == Backlog(3, 10)

            outbox.acknowledge("kafka", 1)
            put(outbox, price("a", b"newer"), price("b", b"newer"))

            assert outbox.backlog("kafka") == Backlog(3, 30)
            assert outbox.backlog("elasticsearch") == Backlog(3, 30)
            outbox.acknowledge("kafka", 5)
            assert outbox.backlog("kafka") == Backlog(0, None)


class TestDeadLetters:
    def test_a_repeated_refusal_is_counted_and_the_newest_kept(self, outbox: Outbox) -> None:
        """One letter per source, kind and id, with the newest body and reason."""
        outbox.commit(Commit(dead_letters=(letter(at_ms=1),)))
        outbox.commit(Commit(dead_letters=(letter(at_ms=2, reason="bad", body=b"{2}"),)))
        outbox.commit(Commit(dead_letters=(letter(at_ms=3, source="elasticsearch"),)))

        assert outbox.dead_letters(source="kafka") == [
            letter(at_ms=2, reason="bad", body=b"{2}", count=2)
        ]
        assert [each.source for each in outbox.dead_letters()] == ["elasticsearch", "kafka"]
        assert outbox.dead_letter_counts() == {"elasticsearch": 1, "kafka": 1}
        assert len(outbox.dead_letters(limit=1)) == 1

    def test_retry_puts_the_record_back_at_the_end(self, outbox: Outbox) -> None:
        """A retried letter is a new record for every relay, and no letter any more."""
        outbox.commit(Commit(records=(price("b"),), dead_letters=(letter("a", key="a"),)))
        outbox.acknowledge("kafka", 1)

        assert outbox.retry("kafka", "price", "a")

        assert waiting(outbox) == [price("a")]
        assert outbox.backlog("kafka").count == 1
        assert outbox.dead_letters() == []
        assert not outbox.retry("kafka", "price", "a")

    def test_retry_sends_the_newest_state(self, outbox: Outbox) -> None:
        """A body that was superseded since its refusal does not come back."""
        put(outbox, price("a", b"new"))
        outbox.acknowledge("kafka", 1)
        outbox.commit(Commit(dead_letters=(letter("a", key="a", body=b"old"),)))

        outbox.retry("kafka", "price", "a")

        assert waiting(outbox) == [price("a", b"new")]
        assert outbox.counts() == {"price": 1}

    def test_an_answer_of_keepas_is_not_retried(self, outbox: Outbox) -> None:
        """It is no record of ours; the letter stays and the operator is told what to do."""
        outbox.commit(Commit(dead_letters=(letter(source="keepa"),)))

        with pytest.raises(InputError, match="drop it"):
            outbox.retry("keepa", "price", "DE:B1:T")

        assert outbox.dead_letter_counts() == {"keepa": 1}

    def test_drop_deletes_one_letter(self, outbox: Outbox) -> None:
        """Only the named letter goes, and no record comes of it."""
        outbox.commit(Commit(dead_letters=(letter("a"), letter("b"))))

        assert outbox.drop("kafka", "price", "a")

        assert [each.id for each in outbox.dead_letters()] == ["b"]
        assert waiting(outbox) == []
        assert not outbox.drop("kafka", "price", "a")


class TestRetain:
    def test_deletes_what_is_old_and_acknowledged_by_all(self, path: Path) -> None:
        """A record stays while it is young, or while one named relay still needs it."""
        with closing(Outbox.open(path, now_ms=clock(10, 20, 30))) as outbox:
            for id_ in "abc":
                put(outbox, price(id_))
            outbox.acknowledge("kafka", 3)
            outbox.acknowledge("elasticsearch", 1)

            deleted = outbox.retain(before_ms=30, metrics_cap=0, relays=["kafka", "elasticsearch"])

            assert deleted == 1
            assert waiting(outbox, "notify") == [price("b"), price("c")]
            assert outbox.retain(before_ms=30, metrics_cap=0, relays=["kafka"]) == 1
            assert waiting(outbox, "notify") == [price("c")]
            assert outbox.counts() == {"price": 1}

    def test_a_relay_that_never_acknowledged_keeps_everything(self, path: Path) -> None:
        """A relay without a cursor has all before it."""
        with closing(Outbox.open(path, now_ms=lambda: 1)) as outbox:
            put(outbox, price("a"))

            assert outbox.retain(before_ms=2, metrics_cap=0, relays=["kafka"]) == 0
            assert waiting(outbox) == [price("a")]

    def test_without_relays_age_alone_decides(self, path: Path) -> None:
        """On a machine without sinks the outbox is the store; nobody acknowledges."""
        with closing(Outbox.open(path, now_ms=clock(10, 20))) as outbox:
            put(outbox, price("a"), metric("a"))
            put(outbox, price("b"), metric("b"))

            assert outbox.retain(before_ms=20, metrics_cap=0, relays=[]) == 2
            assert waiting(outbox) == [price("b"), metric("b")]

    def test_metrics_beyond_their_cap_go_oldest_first(self, outbox: Outbox) -> None:
        """Only unacknowledged metrics count and go; other records never do."""
        put(outbox, metric("0"), price("a"), *(metric(str(n)) for n in range(1, 6)))
        outbox.acknowledge("kafka", 1)

        deleted = outbox.retain(before_ms=0, metrics_cap=2, relays=["kafka"])

        assert deleted == 3
        assert waiting(outbox) == [price("a"), metric("4"), metric("5")]
        assert outbox.counts() == {"price": 1, "metric": 3}
        assert outbox.backlog("kafka").count == 3

    def test_takes_one_bite_at_a_time(self, path: Path) -> None:
        """No call deletes more than `limit`, and the oldest metrics go in the first bite."""
        with closing(Outbox.open(path, now_ms=lambda: 1)) as outbox:
            put(outbox, *(price(id_) for id_ in "abc"), *(metric(id_) for id_ in "abc"))
            outbox.acknowledge("kafka", 3)

            bites = [
                outbox.retain(before_ms=2, metrics_cap=1, relays=["kafka"], limit=4)
                for _ in range(3)
            ]

            assert bites == [4, 1, 0]
            assert waiting(outbox) == [metric("c")]

    def test_gives_the_room_back_to_the_disk(self, path: Path) -> None:
        """The file shrinks after much was deleted."""
        with closing(Outbox.open(path, now_ms=lambda: 1)) as outbox:
            put(outbox, *(price(str(n), b"x" * 4_000) for n in range(500)))
        before = path.stat().st_size

        with closing(Outbox.open(path)) as outbox:
            outbox.retain(before_ms=2, metrics_cap=0, relays=[])

        assert path.stat().st_size < before / 10


class TestHistory:
    def test_changes_come_in_order_of_their_time(self, outbox: Outbox) -> None:
        """Changes of all price types and marketplaces of one product, oldest first."""
        ids = [
            "DE:B1:NEW:2026-01-03T00:00:00Z",
            "DE:B1:AMAZON:2026-01-02T00:00:00Z",
            "UK:B1:NEW:2026-01-01T00:00:00Z",
            "DE:B12:NEW:2026-01-01T00:00:00Z",
            "DE:B0:NEW:2026-01-01T00:00:00Z",
        ]
        put(outbox, *(Record("change", id_, "B1", id_[:8].encode()) for id_ in ids))
        put(outbox, price("FR:B1:2026-01-01T00:00:00Z"))

        assert outbox.changes("B1") == [b"UK:B1:NE", b"DE:B1:AM", b"DE:B1:NE"]
        assert outbox.changes("B1", domain="DE") == [b"DE:B1:AM", b"DE:B1:NE"]
        third_ms = 1_767_398_400_000
        assert outbox.changes("B1", since_ms=third_ms) == [b"DE:B1:NE"]
        assert outbox.changes("B1", since_ms=third_ms + 1) == []

    def test_latest_prices_are_one_per_marketplace(self, outbox: Outbox) -> None:
        """The newest check of the product counts, in each marketplace."""
        for id_ in ("DE:B1:2026-01-01T", "DE:B1:2026-01-02T", "UK:B1:2026-01-01T", "DE:B2:2027"):
            put(outbox, price(id_, id_.encode()))

        assert outbox.latest_prices("B1") == [b"DE:B1:2026-01-02T", b"UK:B1:2026-01-01T"]
        assert outbox.latest_prices("B1", domain="UK") == [b"UK:B1:2026-01-01T"]
        assert outbox.latest_prices("B9") == []

    def test_latest_of_a_kind_are_newest_first(self, outbox: Outbox) -> None:
        """A deal that was seen again in another state counts as new."""
        for id_, body in (("DE:a", b"1"), ("DE:b", b"2"), ("DEX:c", b"3"), ("DE:a", b"4")):
            put(outbox, Record("deal", id_, "B1", body))

        assert outbox.latest("deal", limit=2) == [b"4", b"3"]
        assert outbox.latest("deal", limit=9, domain="DE") == [b"4", b"2"]
        assert outbox.latest("bestseller", limit=9) == []


class TestOpen:
    def test_makes_the_state_directory(self, tmp_path: Path) -> None:
        """A directory that is missing is made, closed to strangers."""
        path = tmp_path / "state" / "outbox.db"

        Outbox.open(path).close()

        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o027 == 0

    def test_a_directory_that_cannot_be_made_is_explained(self, tmp_path: Path) -> None:
        """The operator reads which directory it is and what to do."""
        (tmp_path / "file").touch()

        with pytest.raises(StoreError, match=r"can't be made.*make it yourself"):
            Outbox.open(tmp_path / "file" / "outbox.db")

    def test_is_durable(self, outbox: Outbox) -> None:
        """Journal and sync are set so that a returned commit survives a loss of power."""
        settings = {
            name: outbox._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "busy_timeout", "auto_vacuum")
        }

        assert settings == {
            "journal_mode": "wal",
            "synchronous": 2,  # FULL
            "busy_timeout": 5_000,
            "auto_vacuum": 2,  # INCREMENTAL
        }

    @pytest.mark.parametrize("verify", [True, False])
    def test_a_newer_programs_file_is_left_alone(self, path: Path, verify: bool) -> None:
        """Going back to an older pricecheck neither opens nor changes the file."""
        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("a"))
            outbox._db.execute("PRAGMA user_version = 99")
        before = path.read_bytes()

        with pytest.raises(NewerStoreError, match=r"version 99.*install that pricecheck"):
            Outbox.open(path, verify=verify)

        assert path.read_bytes() == before
        assert sorted(path.parent.iterdir()) == [path]

    def test_a_locked_file_is_not_taken_for_corrupt(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process that holds the lock is named as the reason; the file stays."""
        monkeypatch.setattr(_schema, "BUSY_TIMEOUT_S", 0.01)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TABLE theirs (x)")
            other.execute("BEGIN EXCLUSIVE")

            with pytest.raises(StoreError, match=r"locked.*end it") as caught:
                Outbox.open(path)

        assert not isinstance(caught.value, CorruptStoreError)
        assert path.exists()

    def test_a_file_that_may_not_be_opened_is_not_taken_for_corrupt(self, path: Path) -> None:
        """A directory in its place, as a stand-in for missing rights, is explained and stays."""
        path.mkdir()

        with pytest.raises(StoreError, match=r"can't be used.*check the owner"):
            Outbox.open(path)

        assert path.is_dir()

    def test_closing_twice_is_harmless(self, outbox: Outbox) -> None:
        """The daemon's way out need not know whether somebody closed it."""
        outbox.close()
        outbox.close()


class TestMigration:
    NEXT = "CREATE TABLE extra (x); INSERT INTO extra SELECT id FROM records"

    def open(self, path: Path, *scripts: str) -> sqlite3.Connection:
        db, _ = _schema.open_database(
            path, verify=True, now_ms=lambda: NOON, migrations=(*_schema.MIGRATIONS, *scripts)
        )
        return db

    def test_an_older_file_is_brought_forward(self, path: Path) -> None:
        """Every missing step is taken, in order, on the content of the older program."""
        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("a"))

        with closing(self.open(path, self.NEXT, "UPDATE extra SET x = x || '!'")) as db:
            assert db.execute("SELECT x FROM extra").fetchall() == [("a!",)]
            assert db.execute("PRAGMA user_version").fetchone() == (len(_schema.MIGRATIONS) + 2,)

    def test_a_step_that_fails_leaves_the_version_before_it(self, path: Path) -> None:
        """Each step is one transaction: the good ones stay, the bad one leaves no trace."""
        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("a"))

        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            self.open(path, self.NEXT, "DELETE FROM extra; INSERT INTO nowhere VALUES (1)")

        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT x FROM extra").fetchall() == [("a",)]
            assert db.execute("PRAGMA user_version").fetchone() == (len(_schema.MIGRATIONS) + 1,)

    def test_an_empty_file_is_version_0(self, path: Path) -> None:
        """A file that was made and never filled becomes an outbox."""
        path.touch()

        with closing(Outbox.open(path)) as outbox:
            assert put(outbox, price("a")) == 1
            assert outbox.moved_aside is None


def fill(path: Path) -> None:
    with closing(Outbox.open(path)) as outbox:
        put(outbox, *map(large, range(200)))


def overwrite_the_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(random.Random(1).randbytes(3 * 4096))


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def overwrite_with_text(path: Path) -> None:
    path.write_text("# pricecheck.toml, saved under the wrong name\n" * 100)


class TestCorruption:
    @pytest.mark.parametrize("damage", [overwrite_the_middle, cut_in_half, overwrite_with_text])
    def test_a_corrupt_file_is_kept_and_a_new_one_begun(
        self, path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The daemon starts all the same, says so loudly, and nothing is deleted."""
        fill(path)
        damage(path)
        damaged = path.read_bytes()

        with caplog.at_level(logging.ERROR), closing(Outbox.open(path, now_ms=lambda: NOON)) as new:
            assert new.moved_aside == path.with_name("outbox.db.corrupt-20270115T080000Z")
            assert new.moved_aside.read_bytes() == damaged
            assert str(new.moved_aside) in caplog.text
            assert waiting(new) == []
            assert put(new, price("a")) == 1

        with closing(Outbox.open(path)) as again:
            assert again.moved_aside is None
            assert waiting(again) == [price("a")]

    def test_the_journal_goes_with_its_file(self, path: Path, tmp_path: Path) -> None:
        """What was only in the -wal is still beside the file, under the same name."""
        fill(path)
        crashed = tmp_path / "crashed" / "outbox.db"
        crashed.parent.mkdir()
        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("only in the journal"))
            for part in tmp_path.glob("outbox.db*"):
                crashed.with_name(part.name).write_bytes(part.read_bytes())
        overwrite_the_middle(crashed)
        journal = crashed.with_name("outbox.db-wal").read_bytes()

        with closing(Outbox.open(crashed)) as new:
            aside = new.moved_aside

        assert aside is not None
        assert aside.with_name(f"{aside.name}-wal").read_bytes() == journal
        assert aside.with_name(f"{aside.name}-shm").exists()

    def test_an_earlier_corrupt_file_is_not_overwritten(self, path: Path) -> None:
        """Two corruptions within a second are kept under two names."""
        kept = []
        for text in ("first", "second", "third"):
            path.write_text(text * 1_000)
            with closing(Outbox.open(path, now_ms=lambda: NOON)) as outbox:
                assert outbox.moved_aside is not None
                kept.append(outbox.moved_aside)

        assert [each.read_text()[:5] for each in kept] == ["first", "secon", "third"]

    def test_a_second_writer_does_not_move_the_file(self, path: Path) -> None:
        """Without `verify` nothing is pulled from under a daemon that may be running."""
        path.write_text("text" * 1_000)

        with pytest.raises(CorruptStoreError, match=r"is corrupt.*restart the daemon"):
            Outbox.open(path, verify=False)

        assert list(path.parent.iterdir()) == [path]

    def test_corruption_met_while_running_is_raised(self, path: Path) -> None:
        """A commit into a damaged file says so instead of going on."""
        fill(path)
        with closing(Outbox.open(path, verify=False)) as outbox:
            overwrite_the_middle(path)

            with pytest.raises(CorruptStoreError, match="is corrupt"):
                put(outbox, *(price(str(n), b"y") for n in range(200)))


class TestFullDisk:
    def test_a_refused_commit_leaves_no_trace_and_later_ones_succeed(self, path: Path) -> None:
        """The outbox waits for room: what is in stays readable, what is not can be tried again."""
        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("before"))
            pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
            outbox._db.execute(f"PRAGMA max_page_count = {pages + 5}")
            many = [large(n) for n in range(100)]

            with pytest.raises(DiskFullError, match="make room"):
                put(outbox, price("first"), *many)

            assert waiting(outbox) == [price("before")]
            assert outbox.backlog("kafka").count == 1
            assert put(outbox, price("small")) == 1
            outbox._db.execute("PRAGMA max_page_count = 1000000")
            assert put(outbox, *many) == 100
            assert outbox.counts() == {"price": 102}

    def test_a_disk_that_is_really_full(self, tmp_path: Path) -> None:
        """On a file system of 2 MB everything committed survives, and room brings it back."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("a tmpfs can't be mounted here")
        try:
            self.fill_and_make_room(disk)
        finally:
            subprocess.run(["umount", disk], check=True)

    def fill(self, outbox: Outbox, stored: list[Record]) -> None:
        for n in range(10_000):
            put(outbox, large(n))
            stored.append(large(n))

    def fill_and_make_room(self, disk: Path) -> None:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 500_000)
        with closing(Outbox.open(disk / "outbox.db")) as outbox:
            stored: list[Record] = []
            with pytest.raises(DiskFullError, match="make room"):
                self.fill(outbox, stored)
            refused = large(len(stored))
            assert waiting(outbox) == stored

            ballast.unlink()

            assert put(outbox, refused) == 1
        with closing(Outbox.open(disk / "outbox.db")) as outbox:
            assert outbox.moved_aside is None
            assert waiting(outbox) == [*stored, refused]


class TestReadonly:
    def test_reads_what_a_running_daemon_commits(self, path: Path) -> None:
        """The CLI sees whole commits, the newest too, and never disturbs the writer."""
        with closing(Outbox.open(path)) as outbox, closing(open_readonly(path)) as reader:
            done = threading.Event()
            lengths: list[int] = []

            def look() -> None:
                while not done.is_set():
                    lengths.append(len(waiting(reader)))

            thread = threading.Thread(target=look)
            thread.start()
            for n in range(50):
                put(outbox, *(price(f"{n}:{i}") for i in range(10)))
            done.set()
            thread.join()

            assert lengths == sorted(lengths)
            assert all(length % 10 == 0 for length in lengths)
            assert reader.backlog("kafka").count == 500
            assert reader.counts() == {"price": 500}
            assert reader.size_bytes() >= path.stat().st_size

    def test_cannot_write(self, outbox: Outbox) -> None:
        """A command that only looks can't change anything."""
        with closing(open_readonly(outbox.path)) as reader, pytest.raises(StoreError):
            put(reader, price("a"))

        assert waiting(outbox) == []

    def test_a_missing_outbox_is_explained(self, path: Path) -> None:
        """No file is made; the operator reads that the daemon never ran there."""
        with pytest.raises(StoreError, match=r"there is no outbox at .*start the daemon"):
            open_readonly(path)

        assert not path.exists()

    def test_an_outbox_that_may_not_be_read_is_explained(self, path: Path) -> None:
        """A stranger is told as whom to run the command."""
        Outbox.open(path).close()
        path.chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # nobody

        try:
            with pytest.raises(StoreError, match=r"can't be used.*as the user that the daemon"):
                open_readonly(path)
        finally:
            if root:
                os.seteuid(0)

    def test_a_file_that_is_no_outbox_is_explained(self, path: Path) -> None:
        """A text file is called corrupt, and left where it is."""
        path.write_text("text" * 1_000)

        with pytest.raises(CorruptStoreError, match="is corrupt"):
            open_readonly(path)

        assert path.read_text() == "text" * 1_000

    @pytest.mark.parametrize(
        ("version", "error", "remedy"),
        [(99, NewerStoreError, "install that"), (0, StoreError, "start the daemon once")],
    )
    def test_another_version_is_not_read(
        self, path: Path, version: int, error: type[StoreError], remedy: str
    ) -> None:
        """Tables of another version may mean something else."""
        with closing(Outbox.open(path)) as outbox:
            outbox._db.execute(f"PRAGMA user_version = {version}")

        with pytest.raises(error, match=remedy):
            open_readonly(path)


class TestConcurrency:
    def test_threads_may_share_an_outbox(self, outbox: Outbox) -> None:
        """Commits of several threads and a relay's progress do not get into each other's way."""
        delivered: list[str] = []

        def collect(name: str) -> None:
            for n in range(50):
                put(outbox, price(f"{name}{n}:1"), price(f"{name}{n}:2"))

        collectors = [threading.Thread(target=collect, args=(name,)) for name in "abcd"]
        for thread in collectors:
            thread.start()
        while len(delivered) < 400 and (any(t.is_alive() for t in collectors) or waiting(outbox)):
            for stored in outbox.read("kafka", limit=7, max_bytes=1_000):
                delivered.append(stored.record.id)
                outbox.acknowledge("kafka", stored.seq)
        for thread in collectors:
            thread.join()

        assert len(delivered) == len(set(delivered)) == 400
        assert all(
            second == f"{first[:-1]}2"
            for first, second in zip(delivered[::2], delivered[1::2], strict=True)
        )
        assert outbox.backlog("kafka").count == 0

    def test_a_second_process_may_write_beside_the_daemon(self, outbox: Outbox) -> None:
        """`pricecheck outbox retry` goes to the file itself; the daemon sees what it did."""
        outbox.commit(Commit(dead_letters=(letter("a", key="a"),)))

        with closing(Outbox.open(outbox.path, verify=False)) as command:
            command.retry("kafka", "price", "a")

        assert waiting(outbox) == [price("a")]
        assert outbox.backlog("kafka").count == 1


WRITER = """
import sys
from pathlib import Path
from pricecheck.outbox import Commit, DeadLetter, Outbox, ProductState
from pricecheck.records import Record

outbox = Outbox.open(Path(sys.argv[1]))
n = outbox.marks().get("writer", 0)
while True:
    n += 1
    outbox.commit(
        Commit(
            records=tuple(Record("price", f"{n}:{i}", "B1", b"x" * 500) for i in range(10)),
            states=(ProductState("DE", f"B{n}", n, b"{}"),),
            dead_letters=(
                DeadLetter(
                    source="kafka", kind="price", id=str(n), key="", reason="", body=b"", at_ms=n
                ),
            ),
            marks=(("writer", n),),
        )
    )
    print(n, flush=True)
"""


class TestKill:
    def test_what_was_committed_survives_kill_9(self, path: Path) -> None:
        """Killed at any moment, a commit that returned is there and none is there in part."""
        chance = random.Random(9)
        reported = 0

        for _ in range(10):
            reported = self.write_until_killed(path, chance)

            with closing(Outbox.open(path)) as outbox:
                assert outbox.moved_aside is None
                last = outbox.marks()["writer"]
                assert last - reported in (0, 1)  # at most the one that could not report any more
                assert [record.id for record in waiting(outbox)] == [
                    f"{n}:{i}" for n in range(1, last + 1) for i in range(10)
                ]
                assert [number for *_, number in outbox.checked_at()] == [*range(1, last + 1)]
                assert outbox.dead_letter_counts() == {"kafka": last}
                assert outbox.counts() == {"price": last * 10}

    def write_until_killed(self, path: Path, chance: random.Random) -> int:
        """Return the number of the last commit that the killed writer reported."""
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        assert writer.stdout is not None
        with writer, writer.stdout as lines:
            seen = [lines.readline() for _ in range(chance.randint(1, 40))]
            time.sleep(chance.random() * 0.005)
            writer.kill()
            return int([*seen, *lines][-1])
