"""What a dashboard consists of: panels, which show values of one kind of record by something."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pricecheck.kibana.expressions import Aggregation, Expression

EVERYTHING = "all"
"""The data view of all kinds of records together; it has no time of its own."""

Look: TypeAlias = Literal["area", "bars", "lines", "steps", "rows", "pie", "table", "figure"]


class Time(msgspec.Struct, frozen=True):
    """By time: `every` is Kibana's interval, such as 1h, or auto."""

    field: str
    every: str = "auto"


class Top(msgspec.Struct, frozen=True):
    """By the most important values of a field, as a value says that is shown beside."""

    field: str
    size: int
    label: str
    by: Aggregation | None = None  # None: the panel's first value
    ascending: bool = False


class Cases(msgspec.Struct, frozen=True):
    """By named cases: label and KQL of each."""

    label: str
    cases: tuple[tuple[str, str], ...]


Bucket: TypeAlias = Time | Top | Cases


class Value(msgspec.Struct, frozen=True):
    """A figure with its name and how it is written."""

    label: str
    shows: Expression
    decimals: int = 0
    percent: bool = False  # 0.5 is written as 50 %


class Layer(msgspec.Struct, frozen=True):
    """Values of one kind of record, by nothing, one or several things, the outermost first.

    In a chart the last is the horizontal axis and the one before it the series.
    """

    of: str
    by: tuple[Bucket, ...]
    values: tuple[Value, ...]


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One rectangle of a dashboard, which is 48 wide; panels flow from left to right."""

    name: str
    title: str
    look: Look
    layers: tuple[Layer, ...]
    where: str = ""  # KQL
    sort: tuple[str, Literal["asc", "desc"]] | None = None  # of a table, by a value's label
    width: int = 24
    height: int = 12


class Control(msgspec.Struct, frozen=True):
    """A list above the panels from which values of a field are chosen."""

    label: str
    of: str
    field: str


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    """A page of panels; `last` is the time that it shows when it is opened."""

    name: str
    title: str
    about: str
    last: str
    panels: tuple[Panel, ...]
    controls: tuple[Control, ...] = ()
