"""Tests of pricecheck/outbox/schema.py: opened, migrated, corrupt, on a full disk, read only."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck.errors import NewerStoreError, StoreError
from pricecheck.outbox import (
    CorruptStoreError,
    DiskFullError,
    Outbox,
    open_readonly,
    schema,
)
from pricecheck.records import Record
from tests.outbox.conftest import NOON, large, price, put, waiting


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
        monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.01)
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
