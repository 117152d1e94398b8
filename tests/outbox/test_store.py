"""Tests of pricecheck/outbox/store.py, on real SQLite files."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck.errors import InputError, StoreError
from pricecheck.outbox import (
    Backlog,
    Commit,
    Outbox,
    ProductState,
    lookup,
    schema,
)
from pricecheck.records import Record
from tests.outbox.conftest import ALL, NOON, clock, letter, metric, price, put, waiting


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

    def test_while_another_process_writes_reads_pass(self, path: Path, outbox: Outbox) -> None:
        """A commit waits for it, in a thread; status is not to wait for the commit."""
        put(outbox, price("a"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            commit = threading.Thread(target=put, args=(outbox, price("b")))
            commit.start()

            counts = [outbox.counts() for _ in range(3)]
            waits = commit.is_alive()
            other.execute("ROLLBACK")
            commit.join()

        assert (counts, waits) == ([{"price": 1}] * 3, True)
        assert outbox.counts() == {"price": 2}

    def test_another_process_is_waited_for_so_long_and_no_longer(
        self, path: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Afterwards it is as it was."""
        monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.8)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                put(outbox, price("a"))
            assert outbox.counts() == {}

        put(outbox, price("a"))
        assert outbox._db.execute("PRAGMA busy_timeout").fetchone() == (800,)

    def test_the_first_alert_of_an_id_stands(self, outbox: Outbox) -> None:
        """Nobody is told twice, whatever a later state of the same thing says."""
        for body in (b"1", b"2"):
            outbox.commit(Commit(records=(Record("alert", "a", "a", body),)))

        assert lookup.latest(outbox, "alert", limit=10) == [b"1"]
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
        monkeypatch.setattr("pricecheck.outbox.store._PAGE_OF_STATES", 3)
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

    def test_without_a_clock_of_its_own_it_takes_the_systems(self, outbox: Outbox) -> None:
        """In whole milliseconds of Unix time."""
        before_ms = int(time.time() * 1_000)

        put(outbox, price("a"))

        waits_since_ms = outbox.backlog("kafka").oldest_ms
        assert type(waits_since_ms) is int
        assert before_ms <= waits_since_ms <= time.time() * 1_000


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

        with pytest.raises(InputError, match=r"price DE:B1:T of Keepa's.*drop it"):
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

    def test_an_alert_whose_reason_lasts_is_kept(self, path: Path) -> None:
        """Or it would be new again, and be told twice; others of its age go."""
        day = 0
        lasting, gone = (Record("alert", id_, id_, b"{}") for id_ in ("lasting", "gone"))
        with closing(Outbox.open(path, now_ms=lambda: day * 86_400_000)) as outbox:
            put(outbox, lasting, gone)
            outbox.acknowledge("notify", 2)
            day = 80
            put(outbox, lasting)

            assert outbox.retain(before_ms=10 * 86_400_000, metrics_cap=0, relays=["notify"]) == 1
            assert outbox.commit(Commit(records=(lasting, gone))) == 1
            assert waiting(outbox, "notify") == [gone]

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

    def test_of_dead_letters_only_keepas_old_ones_go(self, outbox: Outbox) -> None:
        """What a sink refused is kept until somebody looks; what Keepa garbled is asked anew."""
        keepas = (letter("old", source="keepa", at_ms=9), letter("new", source="keepa", at_ms=10))
        outbox.commit(Commit(dead_letters=(*keepas, letter("a sink's", at_ms=9))))

        outbox.retain(before_ms=10, metrics_cap=0, relays=[])

        assert [each.id for each in outbox.dead_letters()] == ["new", "a sink's"]

    def test_gives_the_room_back_to_the_disk(self, path: Path) -> None:
        """The file shrinks after much was deleted."""
        with closing(Outbox.open(path, now_ms=lambda: 1)) as outbox:
            put(outbox, *(price(str(n), b"x" * 4_000) for n in range(500)))
        before = path.stat().st_size

        with closing(Outbox.open(path)) as outbox:
            outbox.retain(before_ms=2, metrics_cap=0, relays=[])

        assert path.stat().st_size < before / 10


class TestSize:
    def test_a_journal_that_goes_meanwhile_takes_no_room(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process deletes it between being listed and being measured."""
        gone = outbox.path.with_name("outbox.db-gone")
        monkeypatch.setattr(schema, "family", lambda path: [gone, path])

        assert outbox.size_bytes() == outbox.path.stat().st_size > 0


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
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        with writer, writer.stdout as lines:
            seen = [lines.readline() for _ in range(chance.randint(1, 40))]
            time.sleep(chance.random() * 0.005)
            writer.kill()
            return int([*seen, *lines][-1])
