"""What a relay that reads ahead needs of the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck.outbox import Backlog, Commit, Outbox, schema
from pricecheck.records import Record


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "outbox.db")) as outbox:
        outbox.commit(Commit(records=tuple(Record("price", id_, id_, b"{}") for id_ in "abcde")))
        yield outbox


@pytest.mark.parametrize(("acknowledged", "expected"), [(0, "abcde"), (3, "de"), (5, "")])
def test_reading_goes_on_after_the_cursor(outbox: Outbox, acknowledged: int, expected: str) -> None:
    """What was acknowledged is not read again."""
    outbox.acknowledge("kafka", acknowledged)

    found = outbox.read("kafka", limit=10, max_bytes=1_000)

    assert "".join(stored.record.id for stored in found) == expected


class TestOneKindOnly:
    """A relay that is enlisted for a kind sees nothing else, and holds nothing else back."""

    def put(self, outbox: Outbox, *records: tuple[str, str]) -> None:
        outbox.commit(Commit(records=tuple(Record(kind, id_, id_, b"{}") for kind, id_ in records)))

    def waiting(self, outbox: Outbox) -> str:
        found = outbox.read("notify", limit=10, max_bytes=1_000)
        return "".join(stored.record.id for stored in found)

    def test_it_begins_with_what_comes_after(self, outbox: Outbox) -> None:
        """What was told before there was anybody to tell is old; a restart changes nothing."""
        self.put(outbox, ("alert", "1"))
        outbox.enlist("notify", "alert")

        self.put(outbox, ("alert", "2"), ("price", "f"), ("alert", "3"))
        outbox.enlist("notify", "alert")

        assert self.waiting(outbox) == "23"
        assert outbox.enlisted() == ["notify"]
        assert outbox.backlog("notify").count == 2
        outbox.acknowledge("notify", outbox.read("notify", limit=1, max_bytes=9)[0].seq)
        assert self.waiting(outbox) == "3"
        assert outbox.backlog("notify").count == 1

    def test_what_it_does_not_take_is_trimmed(self, outbox: Outbox) -> None:
        """Only from the first alert on that waits is anything kept for it."""
        outbox.enlist("notify", "alert")
        self.put(outbox, ("price", "f"), ("alert", "1"), ("price", "g"))

        assert outbox.retain(before_ms=2**62, metrics_cap=0, relays=["notify"]) == 6
        assert self.waiting(outbox) == "1"

        outbox.acknowledge("notify", 7)
        assert outbox.retain(before_ms=2**62, metrics_cap=0, relays=["notify"]) == 2
        assert outbox.counts() == {"price": 0, "alert": 0}
        assert outbox.backlog("notify") == Backlog(0, None)

    def test_a_store_of_before_takes_every_kind(self, tmp_path: Path) -> None:
        """The relays in it are those that were there."""
        path = tmp_path / "older.db"
        db, _ = schema.open_database(
            path, verify=True, now_ms=lambda: 0, migrations=schema.MIGRATIONS[:1]
        )
        with closing(db):
            db.execute("INSERT INTO relays VALUES ('kafka', 0, 0)")

        with closing(Outbox.open(path)) as outbox:
            self.put(outbox, ("price", "f"), ("alert", "1"))

            assert len(outbox.read("kafka", limit=9, max_bytes=99)) == 2
            assert outbox.backlog("kafka").count == 2
