"""How a simulator is set up: its bucket, its time, its world and its faults."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from pricecheck.errors import InputError

FAULTS: Final = {
    "400": "refused: invalidParameter, not charged",
    "402": "refused: paymentRequired, not charged",
    "404": "refused: notFound, not charged",
    "405": "refused: methodNotAllowed, not charged",
    "429": "refused: notEnoughToken although there are some, not charged",
    "500": "refused: internalServerError, not charged",
    "503": "refused: serviceUnavailable, not charged",
    "error200": "an error object and no content under status 200, not charged",
    "notjson": "a front end's HTML page under status 200, not charged",
    "refused": "the connection is closed before any answer, not charged",
    "reset": "the connection is reset before any answer, not charged",
    "timeout": "charged, then never answered: the connection is held open",
    "slow": "the body dribbles over 20 simulated seconds",
    "cut": "charged, then the connection is closed in the middle of the body",
    "truncated": "the body ends early, its length announced right: invalid JSON",
    "badgzip": "the body claims to be gzip and is not",
    "empty": "no body at all",
    "wrongtypes": "one item of the answer has fields of wrong types",
    "missing": "one item of the answer is left out",
    "nulls": "null where one item of the answer should hold lists",
    "negative": "the bucket is far below zero after the call",
}
"""What can be injected, by name. All that do not say otherwise are charged as the call is."""

PATHS: Final = ("token", "product", "deal", "bestsellers", "query")


class Fault(msgspec.Struct, frozen=True):
    """A fault to inject into a share of the calls, of one path or of all."""

    name: str
    rate: float
    path: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One simulator. The same settings give the same world, call for call."""

    port: int = 0  # 0: any free one
    key: str | None = None  # None: any key will do
    seed: int = 1
    refill_rate: int = 20  # tokens a minute; 0: tokens without end
    tokens: int | None = None  # at the start; None: a full bucket
    time_factor: float = 1.0  # simulated milliseconds in a real one
    epoch_ms: int | None = None  # when simulated and real time agree; None: at the start
    bulk: bool = False  # products of real size, about 208 kB of JSON
    distinct: int | None = None  # products that differ; further ASINs repeat them, for speed
    not_found: float = 0.0  # share of ASINs that do not exist
    no_deals: bool = False  # a plan without /deal
    replay: Path | None = None  # directory of recorded /product answers
    faults: tuple[Fault, ...] = ()
    ledger: Path | None = None  # file that gets a JSON line per call


class SimulatedTime(msgspec.Struct, frozen=True):
    """Time that passes `factor` times as fast as real time, and agrees with it at `epoch_ms`."""

    factor: float
    epoch_ms: int

    def now_ms(self) -> int:
        """Return the simulated Unix time in milliseconds."""
        return self.epoch_ms + round((real_now_ms() - self.epoch_ms) * self.factor)


def real_now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def parse_fault(text: str) -> Fault:
    """Read a fault as it is written on the command line: `timeout:0.1`, `429:0.2:product`.

    Raises InputError for an unknown name or path, or a rate that is not between 0 and 1.
    """
    name, _, rest = text.partition(":")
    share, _, path = rest.partition(":")
    if name not in FAULTS:
        raise InputError(f"unknown fault {name!r}", remedy="use one of " + ", ".join(FAULTS))
    try:
        rate = float(share)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise InputError(
            f"fault {text!r} has no rate between 0 and 1", remedy=f"write {name}:0.1, for example"
        )
    if path and path not in PATHS:
        raise InputError(
            f"fault {text!r} names an unknown path", remedy="use one of " + ", ".join(PATHS)
        )
    return Fault(name, rate, path or None)
