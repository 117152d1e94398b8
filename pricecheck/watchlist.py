"""watchlist.csv: which products to watch, on which marketplace, and how often.

Every line stands for itself: a bad one, even one with a quote left open, costs one product and
is reported with its number. Nothing here knows when a product was checked.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from pricecheck.durations import parse_duration
from pricecheck.errors import ConfigError, InputError, brief
from pricecheck.extras import PLAIN, Extras, parse_extras
from pricecheck.keepa.tables import ASIN, BY_CODE, marketplace

COLUMNS: Final = (
    "asin",
    "domain",
    "weight",
    "target_price",
    "every",
    "buybox",
    "offers",
    "update",
)
"""The columns of the file; only the first is required."""

_BAD_LINES_KEPT: Final = 1000
_BAD_LINES_NAMED: Final = 5
_TEXT_KEPT: Final = 200
_BOM: Final = b"\xef\xbb\xbf"
_NUMBER: Final = re.compile(r"([0-9]{1,9})(?:[.,]([0-9]{1,9}))?")


class Watch(msgspec.Struct, frozen=True, gc=False):
    """One watched product: a line of the watchlist with its blanks filled in."""

    asin: str
    domain: str  # the marketplace's code; the very object of the table, so a million cost nothing
    weight: float
    target_price: int | None  # in the smallest unit of the marketplace's currency
    every_s: int
    extras: Extras = PLAIN  # one object for all lines that ask for the same


class BadLine(msgspec.Struct, frozen=True):
    """A line that was skipped, and why."""

    line: int
    text: str
    reason: str


class Watchlist(msgspec.Struct, frozen=True):
    """What a watchlist holds: its products in the order of the file, and what was skipped."""

    watches: tuple[Watch, ...]
    bad: tuple[BadLine, ...]  # the first thousand
    bad_count: int


class Layout(msgspec.Struct, frozen=True):
    """How the header says that lines are to be read."""

    columns: list[str]
    delimiter: str


def load(
    path: Path,
    *,
    domain: str,
    weight: float = 1.0,
    every_s: int = 21_600,
    extras: Extras = PLAIN,
    strict: bool = False,
) -> Watchlist:
    """Read a watchlist; blank cells take the defaults given here.

    Bad lines are skipped and counted, or with `strict` refused. Raises ConfigError for those,
    and for a file that can't be read or whose header is not one of a watchlist.
    """
    default = Watch("", marketplace(domain).code, weight, None, every_s, extras)
    lines = _lines(path, _raw_lines(path))
    layout = _header(path, lines)
    # A column that the file lacks is read from one more cell, which is always blank.
    fields = itemgetter(*(_index(layout.columns, name) for name in COLUMNS))
    watches: list[Watch] = []
    bad: list[BadLine] = []
    bad_count = 0
    numbers = array("L")  # of each watch's line; a million ints as objects would leave a hole
    known: defaultdict[str, set[str]] = defaultdict(set)
    first_lines: dict[tuple[str, str], int] = {}  # filled only as far as a duplicate needs it
    for number, text in lines:
        try:
            watch = parse_cells(fields(cut(text, layout)), default)
            if watch.asin in known[watch.domain]:
                for i in range(len(first_lines), len(watches)):
                    first_lines[watches[i].domain, watches[i].asin] = numbers[i]
                first_line = first_lines[watch.domain, watch.asin]
                raise InputError(f"{watch.domain} {watch.asin} is already on line {first_line}")
        except InputError as error:
            bad_count += 1
            if len(bad) < _BAD_LINES_KEPT:
                bad.append(BadLine(number, text[:_TEXT_KEPT], str(error)))
        else:
            watches.append(watch)
            numbers.append(number)
            known[watch.domain].add(watch.asin)
    if strict and bad:
        raise _refuse(path, bad, bad_count)
    return Watchlist(tuple(watches), tuple(bad), bad_count)


def products(
    path: Path, raw_lines: Sequence[bytes], *, domain: str
) -> tuple[Layout, dict[int, tuple[str, str]]]:
    """Return how a watchlist is laid out, and which product each line of it names.

    Those are marketplace and ASIN by the line's number; `load` may skip such a line all the same,
    for another of its cells. For whoever edits the file. Raises ConfigError like `load`.
    """
    code = marketplace(domain).code
    lines = _lines(path, raw_lines)
    layout = _header(path, lines)
    fields = itemgetter(*(_index(layout.columns, name) for name in COLUMNS[:2]))
    named: dict[int, tuple[str, str]] = {}
    for number, text in lines:
        with suppress(InputError):
            asin, cell = fields(cut(text, layout))
            named[number] = _domain(cell, code), parse_asin(asin)
    return layout, named


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}",
            remedy=f"put a file there with the header line {','.join(COLUMNS)}, readable by the "
            "user that pricecheck runs as, or name another: prices.watchlist",
        ) from error


def _lines(path: Path, raw_lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers: no comments and no blank ones."""
    try:
        for number, raw in enumerate(raw_lines, start=1):
            text = (raw.removeprefix(_BOM) if number == 1 else raw).decode().strip()
            # Excel pads blank lines with delimiters, and quotes a comment that holds one.
            if text.strip('",; ') and not text.startswith(("#", '"#')):
                yield number, text
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: line {number} is not UTF-8",
            remedy="save it as UTF-8; Excel calls that 'CSV UTF-8 (comma delimited)'",
        ) from error


def _header(path: Path, lines: Iterator[tuple[int, str]]) -> Layout:
    number, text = next(lines, (1, ""))
    delimiter = ";" if ";" in text else ","
    columns = [name.strip().strip('"').lower() for name in text.split(delimiter)]
    while columns and not columns[-1]:  # Excel leaves delimiters at the end of a line
        columns.pop()
    remedy = "the columns are " + ", ".join(COLUMNS) + "; only asin is required"
    if COLUMNS[0] not in columns:
        raise ConfigError(f"{path}: line {number} is no header with a column asin", remedy=remedy)
    for name in columns:
        if name not in COLUMNS:
            raise ConfigError(
                f"{path}: line {number}: unknown column {brief(name)!r}", remedy=remedy
            )
        if columns.count(name) > 1:
            raise ConfigError(f"{path}: line {number}: column {name} stands twice", remedy=remedy)
    return Layout(columns, delimiter)


def _index(columns: list[str], name: str) -> int:
    return columns.index(name) if name in columns else len(columns)


def cut(text: str, layout: Layout) -> list[str]:
    """Cut a line into its cells, and at least one more that is blank. Raises InputError."""
    width, delimiter = len(layout.columns), layout.delimiter
    if '"' in text:
        try:
            cells = next(csv.reader((text,), delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise InputError(f"quotes that do not match: {error}") from None
    else:
        cells = text.split(delimiter)
    if len(cells) > width and any(cell.strip() for cell in cells[width:]):
        raise InputError(
            f"{len(cells)} cells under {width} columns",
            remedy="write a decimal comma in quotes" if delimiter == "," else "",
        )
    return cells + [""] * (width + 1 - len(cells))


def parse_cells(cells: Sequence[str], default: Watch) -> Watch:
    """Read the cells of a line, in the order of COLUMNS. Raises InputError for a bad one."""
    asin, domain, weight, target_price, every, buybox, offers, update = cells
    code = _domain(domain, default.domain)
    return Watch(
        parse_asin(asin),
        code,
        _weight(weight, default.weight),
        parse_price(target_price, BY_CODE[code].minor_digits),
        _every(every, default.every_s),
        default.extras
        if not (buybox or offers or update)
        else parse_extras(buybox, offers, update, default.extras),
    )


def parse_asin(cell: str) -> str:
    """Return the ASIN that a person wrote, in capitals. Raises InputError when it is none."""
    asin = cell.strip().upper()
    if ASIN.fullmatch(asin) is None:
        raise InputError(
            f"{brief(cell.strip())!r} is not an ASIN" if asin else "no ASIN",
            remedy="B and nine letters or digits, or a book's ISBN-10 with its leading zeros",
        )
    if asin[0] != "B" and _isbn_sum(asin) % 11:
        raise InputError(f"{asin} is not an ISBN-10: its check digit is wrong")
    return asin


def _isbn_sum(isbn: str) -> int:
    # ISO 2108: weights 10 down to 1, X for ten; a multiple of 11 is valid.
    digits = (10 if digit == "X" else int(digit) for digit in isbn)
    return sum(weight * digit for weight, digit in zip(range(10, 0, -1), digits, strict=True))


# The columns below repeat few values over a million lines: the caches make them fast, and let
# equal values share one object. A cell that is refused is not cached.


@lru_cache(maxsize=1024)
def _domain(cell: str, default: str) -> str:
    return marketplace(cell).code if cell.strip() else default


@lru_cache(maxsize=1024)
def _weight(cell: str, default: float) -> float:
    if not cell.strip():
        return default
    found = _NUMBER.fullmatch(cell.strip())
    weight = float(found[0].replace(",", ".")) if found else 0.0
    if weight <= 0:
        raise InputError(f"weight {brief(cell.strip())!r} is not a number above 0")
    return weight


@lru_cache(maxsize=65_536)
def parse_price(cell: str, minor_digits: int) -> int | None:
    """Return a target price in the smallest unit, None for a blank. Raises InputError."""
    if not cell.strip():
        return None
    found = _NUMBER.fullmatch(cell.strip())
    if found is None:
        raise InputError(
            f"target_price {brief(cell.strip())!r} is not a price",
            remedy="write it plain, without a currency: 49.99",
        )
    fraction = found[2] or ""
    if len(fraction) > minor_digits:
        raise InputError(
            f"target_price {brief(cell.strip())!r} has more decimals than the currency: "
            f"{minor_digits}",
            remedy="write no separator between thousands",
        )
    price = int(found[1] + fraction.ljust(minor_digits, "0"))
    if not price:
        raise InputError("target_price is 0", remedy="leave it blank for none")
    return price


@lru_cache(maxsize=1024)
def _every(cell: str, default: int) -> int:
    return parse_duration(cell) if cell.strip() else default


def profiles(watches: Iterable[Watch]) -> list[Extras]:
    """Return the different extras that products ask for; none when there is no product."""
    return list(dict.fromkeys(watch.extras for watch in watches))


def _refuse(path: Path, bad: list[BadLine], bad_count: int) -> ConfigError:
    named = "; ".join(f"line {line.line}: {line.reason}" for line in bad[:_BAD_LINES_NAMED])
    more = bad_count - _BAD_LINES_NAMED
    return ConfigError(
        f"{path}: {bad_count} bad line{'s' * (bad_count > 1)}: {named}"
        + (f"; and {more} more" if more > 0 else ""),
        remedy="mend or remove them",
    )
