"""One instance per state directory: a lock that ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pricecheck.errors import AlreadyRunningError, StoreError


@contextmanager
def only_instance(directory: Path) -> Iterator[None]:
    """Hold the lock of a state directory, made if absent.

    Raises AlreadyRunningError, with the pid, when another process holds it, and StoreError
    when the directory can't be used.
    """
    path = directory / "lock"
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise _unusable(error, path) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"pricecheck is already running with its state in {directory}: pid {pid}",
                remedy="stop that one, or give this one a state_directory of its own",
            ) from None
        except OSError as error:
            raise _unusable(error, path) from None
        yield
    finally:
        os.close(lock)


def _unusable(error: OSError, path: Path) -> StoreError:
    return StoreError(
        f"{error.filename or path}: {error.strerror}",
        remedy="check owner, mode and room of the state directory",
    )
