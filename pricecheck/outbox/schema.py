"""The outbox's SQLite file: its tables, and how it is opened, checked, migrated and moved aside.

What is done with the tables stands in store.py. SQLite's errors become ours here, so that an
operator reads what to do instead of 'database disk image is malformed'.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pricecheck.errors import NewerStoreError, NoStoreError, StoreError

_log = logging.getLogger(__name__)

BUSY_TIMEOUT_S: Final = 5.0

# AUTOINCREMENT: a seq is never given twice, so a cursor stays true whatever is deleted.
# records_by_kind serves retention and 'the newest of a kind'; `UNIQUE (kind, id)` serves all
# that is asked of one product, for an id begins with domain:asin.
# counts and relays.backlog are figures kept up to date, for counting a million rows is slow:
# store.py adds what it appends, the trigger takes off what goes, for whatever reason it goes.
_VERSION_1 = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    key TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (kind, id)
);
CREATE INDEX records_by_kind ON records (kind, created_ms);
CREATE TABLE counts (
    kind TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE relays (
    name TEXT PRIMARY KEY,
    cursor INTEGER NOT NULL,
    backlog INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER record_gone AFTER DELETE ON records BEGIN
    UPDATE counts SET count = count - 1 WHERE kind = old.kind;
    UPDATE relays SET backlog = backlog - 1 WHERE cursor < old.seq;
END;
CREATE TABLE states (
    number INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    asin TEXT NOT NULL,
    checked_at_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (domain, asin)
);
CREATE TABLE marks (
    task TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE dead_letters (
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (source, kind, id)
);
"""

# NULL: a relay takes every kind of record.
_VERSION_2 = "ALTER TABLE relays ADD COLUMN kind TEXT"

# `number` keeps the order in which they were found, which is that of the best-seller list.
_VERSION_3 = """
CREATE TABLE candidates (
    number INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    asin TEXT NOT NULL,
    rule TEXT NOT NULL,
    state TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (domain, asin, rule)
);
CREATE INDEX candidates_by_state ON candidates (state, rule, number);
"""

MIGRATIONS: Final = (_VERSION_1, _VERSION_2, _VERSION_3)
"""The scripts that lead from each schema version to the next; the first makes an empty file ours.

Append only: what has been released is never edited.
"""


class CorruptStoreError(StoreError):
    """The outbox's file is damaged, or is no SQLite file at all."""


class DiskFullError(StoreError):
    """Nothing more could be written; what was committed before stands, and is still readable."""


def open_database(
    path: Path,
    *,
    verify: bool,
    now_ms: Callable[[], int],
    migrations: Sequence[str] = MIGRATIONS,
) -> tuple[sqlite3.Connection, Path | None]:
    """Open the file for reading and writing, made or migrated where needed.

    With `verify` a damaged file is moved aside and a new one begun; the second result says where
    the old one went. Raises NewerStoreError, CorruptStoreError (without `verify`), StoreError.
    """
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the state directory {path.parent} can't be made: {error.strerror}",
            remedy="make it yourself, owned by the user that pricecheck runs as",
        ) from error
    moved_aside = _verify(path, len(migrations), now_ms) if verify else None
    db = _connect(path)
    try:
        with explained(path):
            _prepare(db, path, migrations)
    except BaseException:
        db.close()
        raise
    return db, moved_aside


def open_database_readonly(path: Path) -> sqlite3.Connection:
    """Open an existing file for reading only, beside a running daemon.

    Raises NoStoreError when there is none, NewerStoreError, StoreError when it may not be read.
    """
    try:
        path.stat()
    except FileNotFoundError:
        raise NoStoreError(
            f"there is no outbox at {path}",
            remedy="start the daemon once, or name its state directory",
        ) from None
    except OSError as error:
        raise _not_permitted(path, str(error.strerror)) from error
    db = _connect(path, "?mode=ro")
    try:
        with explained(path):
            version = _refuse_newer(db, path, len(MIGRATIONS))
        if version < len(MIGRATIONS):
            raise StoreError(
                f"the outbox {path} is of an older pricecheck (version {version})",
                remedy="start the daemon once: it migrates the file",
            )
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn those of SQLite's errors that are about the file or its disk into a StoreError.

    What is left, such as a mistake in our SQL, is a bug of ours and keeps its traceback.
    """
    try:
        yield
    except sqlite3.Error as error:
        ours = _store_error(error, path)
        if ours is None:
            raise
        raise ours from error


def _connect(path: Path, query: str = "") -> sqlite3.Connection:
    # isolation_level None: transactions begin and end where store.py says so.
    with explained(path):
        return sqlite3.connect(
            path.absolute().as_uri() + query,
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )


def _verify(path: Path, known: int, now_ms: Callable[[], int]) -> Path | None:
    """Move the file aside if it is damaged, and return where it is then."""
    with closing(_connect(path)) as db:
        try:
            with explained(path):
                _refuse_newer(db, path, known)
                (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _corrupt(path, verdict)
        except CorruptStoreError as error:
            # Moved before `db` is closed: a close folds the -wal into the file and deletes it,
            # unless SQLite sees that the file is no longer where it was.
            moved_aside = _move_aside(path, now_ms())
            _log.error("%s; it is kept as %s and a new one is begun", error.message, moved_aside)
            return moved_aside
    return None


def _prepare(db: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    # Before anything is written: a newer program's file stays as it is.
    version = _refuse_newer(db, path, len(migrations))
    # Only an empty file takes auto_vacuum, and journal_mode ends its emptiness.
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    for number, script in enumerate(migrations[version:], start=version + 1):
        _migrate(db, script, number)


def _refuse_newer(db: sqlite3.Connection, path: Path, known: int) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise NewerStoreError(
            f"the outbox {path} is of a newer pricecheck (version {version}, not {known})",
            remedy="install that pricecheck again, or put back the backup from before it",
        )
    return version


def _migrate(db: sqlite3.Connection, script: str, number: int) -> None:
    try:
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _move_aside(path: Path, now_ms: int) -> Path:
    """Rename the file with its -wal and -shm to a name that is free, and return it."""
    stamp = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    base = f"{path.name}.corrupt-{stamp}"
    aside = path.with_name(base)
    number = 2
    while family(aside):
        aside = path.with_name(f"{base}-{number}")
        number += 1
    try:
        # The file itself last: a -wal without its file would be deleted by the next to open it.
        for part in reversed(family(path)):
            part.rename(aside.with_name(aside.name + part.name.removeprefix(path.name)))
    except OSError as error:
        raise StoreError(
            f"the corrupt outbox {path} can't be moved aside: {error.strerror}",
            remedy="move it and its -wal and -shm elsewhere by hand",
        ) from error
    return aside


def family(path: Path) -> list[Path]:
    """Return those of the file, its -wal and its -shm that exist."""
    parts = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    return [part for part in parts if part.exists()]


def _store_error(error: sqlite3.Error, path: Path) -> StoreError | None:
    # Extended codes carry the primary one in their low byte; sqlite3's own errors carry none.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _corrupt(path, str(error))
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskFullError(
            f"the outbox {path} can't be written: {error}",
            remedy="make room on that disk, or look in the kernel's log whether it is failing",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(
            f"another process has kept the outbox {path} locked for {BUSY_TIMEOUT_S:g} s",
            remedy="find it with `fuser` and end it",
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return _not_permitted(path, str(error))
    return None


def _corrupt(path: Path, reason: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"the outbox {path} is corrupt: {reason}",
        remedy="restart the daemon: it keeps the file under another name and begins a new one",
    )


def _not_permitted(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"the outbox {path} can't be used: {reason}",
        remedy="check the owner and mode of it and its directory; "
        "run this as the user that the daemon runs as",
    )
