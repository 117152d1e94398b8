"""How figures and tables are written for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from pricecheck.keepa.tables import MINOR_DIGITS

_TEXTS: Final = ("ASIN", "Title", "Market", "Letter", "When", "Reason", "Rule")
"""The columns that are not figures."""

_GIVES_WAY: Final = ("Title", "Reason", "Rule")
"""The columns that are cut where the terminal is too narrow."""

_ASIN_WIDTH: Final = 10
"""An ASIN that is cut is none: other commands want it whole."""

_SIZES: Final = ("B", "kB", "MB", "GB")


def in_colour() -> bool:
    """Tell whether to print in colour: to people, unless NO_COLOR (no-color.org) says not to."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def amount(minor: int | None, currency: str) -> str:
    """Write a price of the smallest unit: 4999 of EUR is `49.99`; None is a dash."""
    if minor is None:
        return "-"
    digits = MINOR_DIGITS[currency]
    return f"{minor / 10**digits:,.{digits}f}"


def percent(change: float | None) -> str:
    """Write a change in per cent with its sign."""
    return "" if change is None else f"{change:+.1f} %"


def size(count: float) -> str:
    """Write a number of bytes."""
    for unit in _SIZES:
        if count < 1000 or unit == _SIZES[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError  # the last unit takes all


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows on standard output, without the columns that hold nothing but dashes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = [
        (header, cells)
        for header, *cells in zip(headers, *rows, strict=True)
        if any(cell not in ("", "-") for cell in cells)
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header, _ in columns:
        # A column that may wrap gives way first, and its cells are cut instead.
        table.add_column(
            header,
            no_wrap=header not in _GIVES_WAY,
            min_width=_ASIN_WIDTH if header == "ASIN" else None,
            justify="left" if header in _TEXTS else "right",
        )
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    Console(highlight=False).print(table)
