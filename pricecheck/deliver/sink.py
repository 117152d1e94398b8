"""What a relay and a sink have to know of each other.

A sink is the one door to a foreign system. It tells of each record what became of it; when to try
again, and how to keep count, is the relay's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pricecheck.errors import PricecheckError
from pricecheck.logs import redacted
from pricecheck.outbox import Stored


class Limits(msgspec.Struct, frozen=True):
    """How much a sink takes at once; no records at all while it rests."""

    records: int
    bytes: int


class Receipt(msgspec.Struct, frozen=True):
    """What became of a batch: every record that neither dict names has arrived.

    Both hold the sink's own reason by the record's place in the batch: `refused` for good, or to
    be tried `again`.
    """

    refused: dict[int, str] = {}
    again: dict[int, str] = {}


class SinkError(PricecheckError):
    """The sink took nothing, or can't tell what it took; the same batch is to be tried again.

    What a server says may hold what it was sent, so the message is redacted.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(redacted(message), remedy=remedy)


class SinkAwayError(SinkError):
    """Nobody answers, or only to say: not yet. To ask again costs next to nothing."""


class SinkBusyError(SinkError):
    """The sink answers, but can't take it now: overloaded, full, or set up wrong."""


class SinkUnsureError(SinkError):
    """It may have arrived all the same, and people see each attempt: not to be tried often."""


class Sink(Protocol):
    """Where records go. A cancelled call may leave the sink in any state but must end soon."""

    @property
    def name(self) -> str:
        """What the relay's cursor, its dead letters and its task go by."""

    @property
    def limits(self) -> Limits:
        """How much `send` takes at once; it may change from one batch to the next."""

    @property
    def notes(self) -> Sequence[str]:
        """What is worth knowing since the last `connect`, for people."""

    async def connect(self) -> str:
        """Make or check all that delivery needs, and return who answered. Raises SinkError."""

    async def send(self, batch: Sequence[Stored]) -> Receipt:
        """Deliver a batch. Raises SinkError when nothing can be said of the single records.

        After an error, or for the records to be tried again, it is called again with the same
        records in the same order before any others.
        """

    async def close(self) -> None:
        """Let go of everything; the next `connect` begins anew. Never raises a SinkError."""
