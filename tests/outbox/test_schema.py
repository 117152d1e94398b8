"""Tests of pricecheck/outbox/schema.py: opened, migrated, corrupt, on a full disk, read only."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pricecheck.errors import NewerStoreError, StoreError
from pricecheck.outbox import (
    CorruptStoreError,
    DiskFullError,
    Outbox,
    lookup,
    open_readonly,
    schema,
)
from pricecheck.records import Record
from tests.outbox.conftest import ALL, NOON, large, price, put, waiting


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's rights for a while, where the tests have them."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


class TestOpen:
    def test_makes_the_state_directory(self, tmp_path: Path) -> None:
        """A directory that is missing is made with those above it, closed to strangers."""
        path = tmp_path / "lib" / "state" / "outbox.db"

        Outbox.open(path).close()

        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o027 == 0

    def test_a_directory_that_cannot_be_made_is_explained(self, tmp_path: Path) -> None:
        """The operator reads which directory it is and what to do."""
        (tmp_path / "file").touch()

        with pytest.raises(StoreError, match=r"/file/state can't be made: Not a.*make it yourself"):
            Outbox.open(tmp_path / "file" / "state" / "outbox.db")

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

        with pytest.raises(NewerStoreError, match=r"version 99.*install that pricecheck") as caught:
            Outbox.open(path, verify=verify)

        assert str(path) in caught.value.message
        assert path.read_bytes() == before
        assert sorted(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("verify", [True, False])
    def test_a_locked_file_is_not_taken_for_corrupt(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, verify: bool
    ) -> None:
        """Another process that holds the lock is named as the reason; the file stays."""
        monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.01)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TABLE theirs (x)")
            other.execute("BEGIN EXCLUSIVE")

            with pytest.raises(StoreError, match=r"locked.*fuser.*end it") as caught:
                Outbox.open(path, verify=verify)

        assert str(path) in caught.value.message
        assert not isinstance(caught.value, CorruptStoreError)
        assert path.exists()

    def test_a_file_that_may_not_be_opened_is_not_taken_for_corrupt(self, path: Path) -> None:
        """A directory in its place, as a stand-in for missing rights, is explained and stays."""
        path.mkdir()

        with pytest.raises(StoreError, match=r"can't be used: unable.*check the owner") as caught:
            Outbox.open(path)

        assert str(path) in caught.value.message
        assert path.is_dir()

    def test_closing_twice_is_harmless(self, outbox: Outbox) -> None:
        """The daemon's way out need not know whether somebody closed it."""
        outbox.close()
        outbox.close()

    def test_a_mistake_of_ours_keeps_its_traceback(self, outbox: Outbox) -> None:
        """What is not about the file or its disk gets no remedy that would mislead."""
        outbox.close()

        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            put(outbox, price("a"))


class TestMigration:
    NEXT = "CREATE TABLE extra (x); INSERT INTO extra SELECT id FROM records"

    def open(self, path: Path, *scripts: str) -> sqlite3.Connection:
        db, _ = schema.open_database(
            path, verify=True, now_ms=lambda: NOON, migrations=(*schema.MIGRATIONS, *scripts)
        )
        return db

    def test_an_older_file_is_brought_forward(self, path: Path) -> None:
        """Every missing step is taken, in order, on the content of the older program."""
        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("a"))

        with closing(self.open(path, self.NEXT, "UPDATE extra SET x = x || '!'")) as db:
            assert db.execute("SELECT x FROM extra").fetchall() == [("a!",)]
            assert db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS) + 2,)

    def test_a_step_that_fails_leaves_the_version_before_it(self, path: Path) -> None:
        """Each step is one transaction: the good ones stay, the bad one leaves no trace."""
        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("a"))

        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            self.open(path, self.NEXT, "DELETE FROM extra; INSERT INTO nowhere VALUES (1)")

        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT x FROM extra").fetchall() == [("a",)]
            assert db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS) + 1,)

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


def overwrite_all_but_the_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(random.Random(1).randbytes(path.stat().st_size - 4096))


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
            (logged,) = caplog.messages
            assert logged.startswith(f"the outbox {path} is corrupt: ")
            assert "corrupt: None" not in logged
            assert logged.endswith(f"; it is kept as {new.moved_aside} and a new one is begun")
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
        first = "outbox.db.corrupt-20270115T080000Z"
        assert [each.name for each in kept] == [first, f"{first}-2", f"{first}-3"]

    def test_the_name_of_a_corrupt_file_tells_when_in_utc(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever time zone the machine is in."""
        path.write_text("text" * 1_000)
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("TZ", "Asia/Tokyo")
            time.tzset()
            with closing(Outbox.open(path, now_ms=lambda: NOON)) as outbox:
                assert outbox.moved_aside == path.with_name("outbox.db.corrupt-20270115T080000Z")
        time.tzset()

    def test_a_file_that_cannot_be_moved_aside_is_explained(self) -> None:
        """In a directory that is not the daemon's own it stays where it is."""
        with tempfile.TemporaryDirectory() as theirs:  # pytest's own are closed to nobody
            path = Path(theirs) / "outbox.db"
            path.write_text("text" * 1_000)
            path.chmod(0o644)
            path.parent.chmod(0o555)

            expected = r"can't be moved aside: Permission denied.*move it"
            with as_nobody(), pytest.raises(StoreError, match=expected) as caught:
                Outbox.open(path)

            assert str(path) in caught.value.message
            assert list(path.parent.iterdir()) == [path]
            path.parent.chmod(0o755)

    def test_a_second_writer_does_not_move_the_file(self, path: Path) -> None:
        """Without `verify` nothing is pulled from under a daemon that may be running."""
        path.write_text("text" * 1_000)

        with pytest.raises(CorruptStoreError, match=r"is corrupt.*restart the daemon") as caught:
            Outbox.open(path, verify=False)

        assert str(path) in caught.value.message
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize(
        "use",
        [
            lambda outbox: put(outbox, *(price(str(n), b"y") for n in range(200))),
            lambda outbox: outbox.read("kafka", **ALL),
            lambda outbox: outbox.backlog("kafka"),
            lambda outbox: outbox.retain(before_ms=1 << 60, metrics_cap=0, relays=[]),
            lambda outbox: lookup.latest(outbox, "price", limit=1_000),
        ],
    )
    def test_corruption_met_while_running_is_raised(
        self, path: Path, use: Callable[[Outbox], object]
    ) -> None:
        """Whatever meets a damaged part of the file says so, and which file it is."""
        fill(path)
        with closing(Outbox.open(path, verify=False)) as outbox:
            overwrite_all_but_the_head(path)

            with pytest.raises(CorruptStoreError, match="is corrupt: ") as caught:
                use(outbox)

            assert str(path) in caught.value.message


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a tmpfs can't be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


class TestFullDisk:
    def test_a_refused_commit_leaves_no_trace_and_later_ones_succeed(self, path: Path) -> None:
        """The outbox waits for room: what is in stays readable, what is not can be tried again."""
        with closing(Outbox.open(path)) as outbox:
            put(outbox, price("before"))
            pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
            outbox._db.execute(f"PRAGMA max_page_count = {pages + 5}")
            many = [large(n) for n in range(100)]

            with pytest.raises(
                DiskFullError, match=r"outbox\.db can't be written: .*full.*make room"
            ):
                put(outbox, price("first"), *many)

            assert waiting(outbox) == [price("before")]
            assert outbox.backlog("kafka").count == 1
            assert put(outbox, price("small")) == 1
            outbox._db.execute("PRAGMA max_page_count = 1000000")
            assert put(outbox, *many) == 100
            assert outbox.counts() == {"price": 102}

    def test_a_disk_that_is_really_full(self, disk: Path) -> None:
        """On a file system of 2 MB everything committed survives, and room brings it back."""
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

    def test_room_may_be_lacking_to_give_room_back(self, disk: Path) -> None:
        """Where nothing is to be deleted, the vacuum is the first to write."""
        with closing(Outbox.open(disk / "outbox.db")) as outbox:
            put(outbox, *map(large, range(200)))
            outbox._db.execute("DELETE FROM records")
            outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            left = os.statvfs(disk)
            (disk / "ballast").write_bytes(bytes(left.f_bavail * left.f_frsize))

            with pytest.raises(DiskFullError, match=rf"{outbox.path} can't be written"):
                outbox.retain(before_ms=0, metrics_cap=0, relays=[])

    def fill(self, outbox: Outbox, stored: list[Record]) -> None:
        for n in range(10_000):
            put(outbox, large(n))
            stored.append(large(n))


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
            there = [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]
            assert reader.size_bytes() == sum(part.stat().st_size for part in there)

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

        expected = (
            r"outbox\.db can't be used: Permission denied.*as the user that the daemon runs as"
        )
        with as_nobody(), pytest.raises(StoreError, match=expected):
            open_readonly(path)

    def test_a_file_that_is_no_outbox_is_explained(self, path: Path) -> None:
        """A text file is called corrupt, and left where it is."""
        path.write_text("text" * 1_000)

        with pytest.raises(CorruptStoreError, match=r"outbox\.db is corrupt: file is not a"):
            open_readonly(path)

        assert path.read_text() == "text" * 1_000

    @pytest.mark.parametrize(
        ("version", "error", "expected"),
        [
            (99, NewerStoreError, r"outbox\.db is of a newer pricecheck.*install that"),
            (0, StoreError, r"outbox\.db is of an older pricecheck.*start the daemon once"),
        ],
    )
    def test_another_version_is_not_read(
        self, path: Path, version: int, error: type[StoreError], expected: str
    ) -> None:
        """Tables of another version may mean something else."""
        with closing(Outbox.open(path)) as outbox:
            outbox._db.execute(f"PRAGMA user_version = {version}")

        with pytest.raises(error, match=expected):
            open_readonly(path)
