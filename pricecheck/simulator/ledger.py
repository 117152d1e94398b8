"""What a simulator was asked and what it charged, a JSON line per call."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pricecheck.errors import InputError


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One call; `status` is null where none was sent."""

    at_ms: int  # simulated
    path: str
    domain: int | None = None
    asins: tuple[str, ...] = ()
    status: int | None = None
    tokens_consumed: int = 0
    tokens_left: int
    fault: str | None = None
    delivered: bool = False  # whether the whole answer went out


class Ledger:
    """Appends entries to a file, or to none; each is the system's before `write` returns.

    Raises InputError when the file can't be opened.
    """

    def __init__(self, file: Path | None) -> None:
        try:
            self._file = file.open("ab", buffering=0) if file else None
        except OSError as error:
            raise InputError(
                f"the ledger can't be written: {error}",
                remedy="name a file in a directory of yours",
            ) from None

    def write(self, entry: Entry) -> None:
        """Append one entry."""
        if self._file is not None:
            self._file.write(msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
