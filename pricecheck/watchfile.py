"""Edits of watchlist.csv: lines come and go, every other byte stays as the operator wrote it.

Comments, order, columns, delimiter, line ends and a BOM are theirs. The file is replaced in one
step: whoever reads it meanwhile, or after a crash, sees the old one or the new one. What its
lines mean is read by watchlist.py.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec

from pricecheck import watchlist
from pricecheck.durations import format_duration
from pricecheck.errors import InputError, brief
from pricecheck.extras import written_extras
from pricecheck.keepa.tables import BY_CODE, marketplace
from pricecheck.watchlist import COLUMNS, Layout, Watch

Product: TypeAlias = tuple[str, str]
"""A marketplace's code and an ASIN."""

_AS_OWNER: Final = "edit it as its owner and a member of its group, or as root with sudo"


class WatchFile(msgspec.Struct, frozen=True):
    """The lines of a watchlist as they stand in the file, and the products that they name."""

    path: Path
    domain: str  # of lines that name none
    lines: list[bytes]
    layout: Layout
    products: dict[int, Product]  # by the line's number, which begins at 1
    first: dict[Product, int]  # the number of the first line that names it

    def domains(self, asin: str) -> list[str]:
        """Return the marketplaces on which the file names a product."""
        return [domain for domain, named in self.first if named == asin]


@contextmanager
def editing(path: Path, *, domain: str) -> Iterator[WatchFile]:
    """Read a watchlist to edit it; a second edit waits until this one has ended.

    `domain` is that of lines that name none. Raises ConfigError when it can't be read or has no
    header.
    """
    path = path.resolve()  # or a link would be replaced, not what it leads to
    with _only_edit(path):
        try:
            content = path.read_bytes()
        except OSError:
            watchlist.load(path, domain=domain)  # which says what is wrong and what to do
            raise
        yield parse(path, content, domain=domain)


def parse(path: Path, content: bytes, *, domain: str) -> WatchFile:
    """Read the content of a watchlist. Raises ConfigError when it has no header."""
    lines = io.BytesIO(content).readlines()
    layout, products = watchlist.products(path, lines, domain=domain)
    first: dict[Product, int] = {}
    for number, product in products.items():
        first.setdefault(product, number)
    return WatchFile(path, marketplace(domain).code, lines, layout, products, first)


def edited(
    file: WatchFile,
    rows: Iterable[Sequence[str]],
    changes: Mapping[int, Mapping[str, str]] = MappingProxyType({}),
) -> bytes:
    """Return the file with lines put at its end: cells in the order of COLUMNS.

    `changes` are cells of lines that are there already, by line and column.
    """
    end = b"\r\n" if file.lines[0].endswith(b"\r\n") else b"\n"
    new = [_line(file.layout, cells).encode() + end for cells in rows]
    before = b"".join(
        _changed(file.layout, line, changes[number]) if number in changes else line
        for number, line in enumerate(file.lines, start=1)
    )
    return before + (b"" if before.endswith(b"\n") or not new else end) + b"".join(new)


def removed(file: WatchFile, products: Collection[Product]) -> bytes:
    """Return the file without any line that names one of these products."""
    return b"".join(
        line
        for number, line in enumerate(file.lines, start=1)
        if file.products.get(number) not in products
    )


def written(watch: Watch) -> dict[str, str]:
    """Write a product as cells that are read as the same, by column."""
    target = ""
    if watch.target_price is not None:
        digits = BY_CODE[watch.domain].minor_digits
        target = f"{watch.target_price / 10**digits:.{digits}f}"
    return {
        "asin": watch.asin,
        "domain": watch.domain,
        "weight": f"{watch.weight:.9f}".rstrip("0").rstrip("."),
        "target_price": target,
        "every": format_duration(watch.every_s),
    } | written_extras(watch.extras)


def cells_of(file: WatchFile, watch: Watch, given: Collection[str]) -> tuple[str, ...]:
    """Write a product as the cells of a line; columns not `given` are left blank.

    The domain must stand there only where it is not the default. Raises InputError when the file
    has no column for one that is given.
    """
    cells = written(watch)
    if file.layout.delimiter == ";":  # of a spreadsheet that writes decimal commas
        for name in ("weight", "target_price"):
            cells[name] = cells[name].replace(".", ",")
    needed = set(given) - {"domain"}
    if watch.domain != file.domain or ("domain" in given and "domain" in file.layout.columns):
        needed.add("domain")
    for name in COLUMNS:
        if name in needed and name not in file.layout.columns:
            raise InputError(
                f"{file.path.name} has no column {name}, for {brief(cells[name])!r}",
                remedy=f"write {file.layout.delimiter}{name} at the end of its header line",
            )
    return tuple(cells[name] if name == "asin" or name in needed else "" for name in COLUMNS)


def replace(file: WatchFile, content: bytes) -> None:
    """Put new content in the place of the file that was read, in one step and for good.

    Mode, owner and extended attributes stay. Raises InputError, with nothing changed, when the
    file is not what was read any more or can't be written.
    """
    path = file.path
    if content == b"".join(file.lines):
        return
    temporary = None
    try:
        state = path.stat()
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as new:
            new.write(content)
            new.flush()
            if os.fstat(handle).st_uid != state.st_uid or os.fstat(handle).st_gid != state.st_gid:
                os.fchown(handle, state.st_uid, state.st_gid)
            os.fchmod(handle, state.st_mode & 0o7777)
            for name in os.listxattr(path):
                with suppress(OSError):  # labels that only the system may set are set by it
                    os.setxattr(handle, name, os.getxattr(path, name))
            os.fsync(handle)
        if path.read_bytes() != b"".join(file.lines):
            raise InputError(f"{path} has just been changed by somebody else", remedy="try again")
        Path(temporary).replace(path)
        temporary = None
        _sync(path.parent)
    except OSError as error:
        raise InputError(f"{path} can't be replaced: {error.strerror}", remedy=_AS_OWNER) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _changed(layout: Layout, line: bytes, cells: Mapping[str, str]) -> bytes:
    text = line.decode()
    content = text.rstrip("\r\n")
    row = watchlist.cut(content.strip(), layout)
    for name, cell in cells.items():
        row[layout.columns.index(name)] = cell
    return (_row(layout, row) + text[len(content) :]).encode()


def _line(layout: Layout, cells: Sequence[str]) -> str:
    by_name = dict(zip(COLUMNS, cells, strict=True))
    return _row(layout, [by_name[name] for name in layout.columns])


def _row(layout: Layout, row: list[str]) -> str:
    while not row[-1]:
        row.pop()
    text = io.StringIO()
    csv.writer(text, delimiter=layout.delimiter, lineterminator="").writerow(row)
    return text.getvalue()


@contextmanager
def _only_edit(path: Path) -> Iterator[None]:
    # The directory's lock: one on the file itself would go with the file that is replaced.
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path.parent}: {error.strerror}", remedy=_AS_OWNER) from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
