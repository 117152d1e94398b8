"""What the outbox stores and gives back, beside the records: one struct per kind of row."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pricecheck.records import Record


class ProductState(msgspec.Struct, frozen=True):
    """What a collector keeps about one product; `body` is JSON that only the collector reads."""

    domain: str
    asin: str
    checked_at_ms: int
    body: bytes


CandidateState: TypeAlias = Literal["found", "waiting", "unfit", "accepted", "rejected"]
"""Found: too little is known to tell whether it fits; waiting: it fits; rejected: by a person."""


class Candidate(msgspec.Struct, frozen=True):
    """A product that a discovery rule found; `body` is JSON that only discovery reads."""

    domain: str
    asin: str
    rule: str
    state: CandidateState
    at_ms: int  # when it was looked at, or decided upon
    body: bytes


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Something refused for good, with the reason; `count` is how often it was refused."""

    source: str  # who refused it: "keepa", "elasticsearch", "kafka"
    kind: str
    id: str
    key: str
    reason: str
    body: bytes
    at_ms: int
    count: int = 1


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """What one response teaches; it is stored whole or not at all."""

    records: tuple[Record, ...] = ()
    states: tuple[ProductState, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    marks: tuple[tuple[str, int], ...] = ()  # task name, Unix ms of its last success
    candidates: tuple[Candidate, ...] = ()


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A record in the outbox; a greater `seq` was stored later."""

    seq: int
    record: Record


class Backlog(msgspec.Struct, frozen=True):
    """How many records wait for a relay, and since when (Unix ms) the first of them does."""

    count: int
    oldest_ms: int | None  # None when nothing waits
