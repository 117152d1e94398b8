"""What a panel shows, as an expression: `total("tokens_consumed") / highest("refill_rate")`.

An aggregation by itself becomes a plain column of Kibana's Lens; one that is calculated with
becomes a formula. All of them are in Elasticsearch's core, so they run everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

Function: TypeAlias = Literal["count", "sum", "average", "min", "max", "percentile", "last_value"]

_SIGNS: Final = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}


class _Arithmetic:
    """Lets expressions be written with +, -, * and /."""

    __slots__ = ()

    def __add__(self, other: Expression) -> Call:
        return Call("add", (self, other))  # type: ignore[arg-type]

    def __sub__(self, other: Expression) -> Call:
        return Call("subtract", (self, other))  # type: ignore[arg-type]

    def __mul__(self, other: Expression) -> Call:
        return Call("multiply", (self, other))  # type: ignore[arg-type]

    def __truediv__(self, other: Expression) -> Call:
        return Call("divide", (self, other))  # type: ignore[arg-type]


class Aggregation(_Arithmetic, msgspec.Struct, frozen=True):
    """A figure that Elasticsearch works out, over the documents that match `where` (KQL)."""

    function: Function
    field: str = ""
    where: str = ""
    percentile: int = 0
    newest_by: str = ""  # for last_value: the time that tells which is last

    def __str__(self) -> str:
        """Write it in the language of Lens formulas."""
        arguments = [self.field] if self.field else []
        if self.percentile:
            arguments.append(f"percentile={self.percentile}")
        if self.where:
            arguments.append(f"kql='{self.where}'")
        return f"{self.function}({', '.join(arguments)})"


class Now(_Arithmetic, msgspec.Struct, frozen=True):
    """The moment at which the dashboard is looked at, in milliseconds."""

    def __str__(self) -> str:
        """Write it in the language of Lens formulas."""
        return "now()"


class Call(_Arithmetic, msgspec.Struct, frozen=True):
    """Arithmetic on other expressions, by its name in Kibana's formula language."""

    name: str
    arguments: tuple[Expression, ...]

    def __str__(self) -> str:
        """Write it in the language of Lens formulas."""
        sign = _SIGNS.get(self.name)
        if sign is None:
            return f"{self.name}({', '.join(map(str, self.arguments))})"
        nested = (
            f"({each})" if isinstance(each, Call) and each.name in _SIGNS else str(each)
            for each in self.arguments
        )
        return f" {sign} ".join(nested)


Expression: TypeAlias = Aggregation | Now | Call | int


def leaves(expression: Expression) -> Iterator[Aggregation | Now]:
    """Yield what an expression is calculated from, in reading order."""
    if isinstance(expression, Call):
        for each in expression.arguments:
            yield from leaves(each)
    elif not isinstance(expression, int):
        yield expression


def count(where: str = "") -> Aggregation:
    """Return the number of documents."""
    return Aggregation("count", where=where)


def total(field: str, where: str = "") -> Aggregation:
    """Return the sum of a field."""
    return Aggregation("sum", field, where)


def average(field: str) -> Aggregation:
    """Return the mean of a field."""
    return Aggregation("average", field)


def lowest(field: str, where: str = "") -> Aggregation:
    """Return the least value of a field."""
    return Aggregation("min", field, where)


def highest(field: str, where: str = "") -> Aggregation:
    """Return the greatest value of a field, or its latest time."""
    return Aggregation("max", field, where)


def percentile(field: str, percent: int) -> Aggregation:
    """Return the value that so many per cent of the documents don't exceed."""
    return Aggregation("percentile", field, percentile=percent)


def newest(field: str, by: str) -> Aggregation:
    """Return the value of the document that is the newest by a time."""
    return Aggregation("last_value", field, f'"{field}": *', newest_by=by)


def either(first: Expression, instead: Expression) -> Call:
    """Return the first, or the other where there is none; other arithmetic comes to none then."""
    return Call("defaults", (first, instead))


def later(first: Expression, second: Expression) -> Call:
    """Return the greater of two."""
    return Call("pick_max", (first, second))


def amount(figure: Aggregation) -> Call:
    """Return a price in its currency: our records hold cents, but the yen has none."""
    change = msgspec.structs.replace
    cents = change(figure, where="not currency: JPY")
    yen = change(figure, where="currency: JPY")
    return either(cents, yen * 100) / 100
