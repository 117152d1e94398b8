"""The state of the daemon at one moment, as `pricecheck status --json` prints it.

The fields of these structs are the documented shape of that output. The module imports next to
nothing, for the command that reads a snapshot must start quickly.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pricecheck.deliver.state import RelayStatus

SHAPE_VERSION = 1
"""Raised when a field changes its meaning or goes; new fields may come at any time."""


class TokenState(msgspec.Struct, frozen=True):
    """What the token bucket knows."""

    tokens: int | None  # what may be spent now; None before the first answer
    capacity: int | None
    refill_rate: float | None  # tokens a minute, after tokenFlowReduction
    refill_in_s: float | None
    reserved: int  # for calls under way
    waiting: int  # callers
    foreign_per_hour: int  # tokens somebody else spent in the last hour
    costs: dict[str, float]  # tokens a unit, as learned


TaskState: TypeAlias = Literal["running", "waiting", "backing off", "stuck"]
"""Waiting means a wait that is declared, stuck a run that outlives its cancel."""


class TaskStatus(msgspec.Struct, frozen=True):
    """What a task is doing. All times are seconds, counted from the moment of asking."""

    name: str
    state: TaskState
    why: str  # the declared wait, else empty
    restarts: int  # how often it ended, be it by a crash, an early return or a stall
    stalls: int  # how many of these were stalls
    last_error: str | None  # why it last ended; kept while it runs again
    since: float  # ago: its start; for a task that is backing off, its end
    last_beat: float | None  # ago, in whichever run; None before the first
    next_start: float | None  # from now; only for a task that is backing off


class Totals(msgspec.Struct, frozen=True):
    """What was asked, spent and learned since the start."""

    calls: int = 0
    failed_calls: int = 0
    tokens: int = 0
    products: int = 0
    records: int = 0


class WatchlistState(msgspec.Struct, frozen=True):
    """How the watchlist is doing."""

    products: int
    bad_lines: int
    due: int  # products whose time has come and that wait for tokens
    next_due_s: float | None
    longest_overdue_s: float
    absent: int  # answers that held no data on the product, since the last (re)load
    set_aside: int  # products that could not be read, since the last (re)load
    changes: int  # price changes found, since the last (re)load
    budget_a_day: float | None = None  # tokens for product checks; None with fixed intervals
    missing_a_day: float = 0.0  # tokens by which it is too small to hold each `every`
    rushes: dict[str, float] = {}  # how many times as often as usual prices change, by domain


class StoreState(msgspec.Struct, frozen=True):
    """How the outbox is doing."""

    path: str
    bytes: int
    records: dict[str, int]  # by kind
    dead_letters: dict[str, int]  # by who refused them
    trouble: str | None  # why nothing can be stored now
    moved_aside: str | None  # where a corrupt predecessor went at this start


class Reloads(msgspec.Struct, frozen=True):
    """How often config and watchlist were read anew when told so, since the start."""

    count: int = 0
    refused: str | None = None  # why the last one changed nothing


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state. `health` is "ok" or, with its `reasons`, "degraded"."""

    shape: int
    version: str
    pid: int
    health: Literal["ok", "degraded"]
    reasons: list[str]
    simulated: bool
    now: str  # RFC 3339, simulated if prices are
    uptime_s: float
    config: str | None  # the file; None for embedded defaults
    notes: list[str]  # what is worth knowing but needs nobody
    tokens: TokenState
    watchlist: WatchlistState
    tasks: list[TaskStatus]
    relays: list[RelayStatus]
    totals: Totals
    store: StoreState
    reloads: Reloads = Reloads()
