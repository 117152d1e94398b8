"""How delivery is going, as status shows it; imports next to nothing, like snapshot.py."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

RelayState: TypeAlias = Literal["starting", "idle", "delivering", "resting", "backing off"]
"""Idle means that nothing waits; resting, that the sink takes nothing by its own rules, such as at
night; backing off, that it does not take what waits."""


class RelayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a relay is doing. All times are seconds, counted from the moment of asking."""

    name: str
    state: RelayState
    peer: str | None  # who answered at the last connect; None while there is no connection
    backlog: int  # records that wait, dead letters not counted
    lag_s: float  # how long the oldest of them has waited
    delivered: int  # since the start of the process
    refused: int  # for good, since the start of the process
    failures: int  # tries that brought nothing, since the start of the process
    trouble: str | None  # what is wrong now
    last_error: str | None  # kept when all is well again
    last_error_s: float | None  # ago
    last_delivery_s: float | None  # ago
    next_try_s: float | None  # from now, while backing off
    notes: tuple[str, ...]  # what the sink found that people may want to know
