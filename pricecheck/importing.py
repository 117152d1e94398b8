"""Lists of products that others wrote: what `pricecheck watch import` reads.

A CSV with a header (ours, Excel's, a Keepa export) or plain lines of ASINs, ISBNs and addresses.
Each bad line is told with its number and its reason, and costs nothing but itself. Nothing here
knows what is watched already.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from pricecheck.errors import InputError, brief
from pricecheck.identify import identify
from pricecheck.keepa.tables import Marketplace, marketplace
from pricecheck.watchlist import COLUMNS, BadLine, Watch, parse_cells

_ALIASES: Final = {
    "locale": "domain",  # a Keepa export's
    "marketplace": "domain",
    "url": "url",
    "url: amazon": "url",
    "target price": "target_price",
    "price target": "target_price",
    "isbn": "asin",
    "product": "asin",
    "currency": "currency",
} | {name: name for name in COLUMNS}
"""What the columns of others are called here."""

_DELIMITERS: Final = ";\t,"
_SEP: Final = re.compile(r'"?sep=([^"\w])"?', re.IGNORECASE)
"""Excel's own first line, which names the delimiter."""

_ANOTHER: Final = re.compile(r"B0[0-9A-Z]{8}|\S*://\S*")
"""What counts as one more product on a plain line, where there may be words as well."""

_SIGNS: Final = {
    "€": ("EUR",),
    "£": ("GBP",),
    "¥": ("JPY", "CNY"),
    "$": ("USD", "CAD", "MXN"),
    "R$": ("BRL",),
    "₹": ("INR",),
}
_AMOUNT: Final = re.compile(r"(?P<before>\D*?)\s*(?P<number>[0-9][0-9.,]*)\s*(?P<after>\D*)")
_TEXT_KEPT: Final = 80


class Item(msgspec.Struct, frozen=True):
    """A product of a list: the line it stands on, and which cells its line filled in."""

    line: int
    watch: Watch
    given: frozenset[str]


class Listed(msgspec.Struct, frozen=True):
    """What a list holds, in its order: products, each once, and lines that can't be read."""

    items: list[Item]
    bad: list[BadLine]
    repeated: int  # lines that name a product once more
    ignored: list[str]  # columns that say nothing to us


class _Row(msgspec.Struct, frozen=True):
    line: int
    cells: dict[str, str]
    text: str
    too_wide: int = 0  # how many cells, when more than there are columns


def read(path: Path, default: Watch) -> Listed:
    """Read a list; blank cells take their values from `default`.

    Raises InputError when the file can't be read as text at all.
    """
    try:
        text = _decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", remedy="name a file that exists") from None
    if "\0" in text:
        raise InputError(
            f"{path} is no text file", remedy="save the sheet as CSV: 'CSV UTF-8' in Excel"
        )
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    columns, delimiter, begin = _header(lines)
    names = [_ALIASES.get(name, "") for name in columns]
    rows = _table(lines, delimiter, names, begin) if columns else _plain(lines)
    items: dict[tuple[str, str], Item] = {}
    bad: list[BadLine] = []
    repeated = 0
    for row in rows:
        try:
            item = _item(row, default)
        except InputError as error:
            bad.append(BadLine(row.line, row.text[:_TEXT_KEPT], str(error)))
            continue
        known = items.setdefault((item.watch.domain, item.watch.asin), item)
        repeated += known is not item
    ignored = [column for column, name in zip(columns, names, strict=True) if column and not name]
    return Listed(list(items.values()), bad, repeated, ignored)


def plain_price(text: str, market: Marketplace) -> str:
    """Return a price without its currency. Raises InputError when it is not the marketplace's."""
    text = text.strip()
    found = None if text.startswith("-") else _AMOUNT.fullmatch(text)
    for written in (found["before"], found["after"]) if found else ():
        sign = written.strip().upper()
        if sign and market.currency not in _SIGNS.get(sign, (sign,)):
            raise InputError(
                f"{brief(text)!r}: prices on amazon.{market.tld} are in {market.currency}"
            )
    return found["number"] if found else text


def _decode(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's 'Unicode text'
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")  # Excel's 'CSV', in the west


def _header(lines: list[str]) -> tuple[list[str], str, int]:
    """Return the header's columns, its delimiter and its line's number; no columns, no header."""
    delimiters = _DELIMITERS
    for number, line in enumerate(lines, start=1):
        if said := _SEP.fullmatch(line.strip()):
            delimiters = said[1]
        elif not _is_blank(line):
            for delimiter in delimiters:
                columns = [cell.strip().lower() for cell in _split(line, delimiter)]
                if {"asin", "url"} & {_ALIASES.get(name) for name in columns}:
                    return columns, delimiter, number
            break
    return [], ",", 0


def _is_blank(line: str) -> bool:
    return not line.strip('",; \t') or line.lstrip().startswith(("#", '"#'))


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader((line,), delimiter=delimiter), [])
    except csv.Error:  # a cell of more than 128 kB
        return line.split(delimiter)


def _table(lines: list[str], delimiter: str, names: list[str], begin: int) -> Iterator[_Row]:
    """Yield the rows under a header; a cell in quotes may hold line ends."""
    try:
        rows = list(_records(lines[begin:], delimiter, begin + 1))
    except csv.Error:  # a quote left open: each line for itself, so that one costs no more
        rows = [(n, _split(line, delimiter)) for n, line in enumerate(lines, start=1)][begin:]
    for number, cells in rows:
        text = delimiter.join(cells).strip()
        if not _is_blank(text):
            found: dict[str, str] = {}
            for name, cell in zip(names, cells, strict=False):
                if name and cell.strip():
                    found.setdefault(name, cell.strip())
            beyond = any(cell.strip() for cell in cells[len(names) :])
            yield _Row(number, found, text, len(cells) if beyond else 0)


def _records(lines: list[str], delimiter: str, first: int) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
    number = first
    for cells in reader:
        yield number, cells
        number = first + reader.line_num


def _plain(lines: list[str]) -> Iterator[_Row]:
    """Yield lines without a header: a product, and words or further products after it."""
    for number, line in enumerate(lines, start=1):
        if _is_blank(line) or _SEP.fullmatch(line.strip()):
            continue
        first, *rest = re.split(r"[;,\s]+", line.strip('",;\t '))
        for name in (first, *filter(_ANOTHER.fullmatch, rest)):
            yield _Row(number, {"asin": name.strip('"')}, line.strip())


def _item(row: _Row, default: Watch) -> Item:
    if row.too_wide:
        raise InputError(
            f"{row.too_wide} cells, more than the header has columns",
            remedy="write a decimal comma in quotes",
        )
    cells = dict(row.cells)
    written = cells.get("asin") or cells.get("url") or ""
    asin, market = identify(written)
    if market is not None:
        named = cells.setdefault("domain", market.code)
        if marketplace(named) != market:
            raise InputError(
                f"{brief(written)!r} is on amazon.{market.tld}, but the line says {brief(named)!r}",
                remedy="leave one of them out",
            )
    cells["asin"] = asin
    if target := cells.get("target_price"):
        market = marketplace(cells.get("domain") or default.domain)
        cells["target_price"] = plain_price(f"{target} {cells.get('currency', '')}".strip(), market)
    given = frozenset(name for name in COLUMNS[1:] if cells.get(name))
    return Item(row.line, parse_cells([cells.get(name, "") for name in COLUMNS], default), given)
