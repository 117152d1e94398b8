"""What becomes of a product or deal that can't be read: it is set aside with its bytes."""

from __future__ import annotations

import zlib

from pricecheck.keepa.wire import Misfit
from pricecheck.outbox import DeadLetter


def dead_letter(kind: str, domain: str, bad: Misfit, at_ms: int) -> DeadLetter:
    """Return the dead letter of a misfit: one of each product, and one of each illegible thing."""
    # By its bytes, so that two of an answer are two letters, and the same again is the same.
    asin = bad.asin or f"unknown-{zlib.crc32(bad.raw):08x}"
    return DeadLetter(
        source="keepa",
        kind=kind,
        id=f"{domain}:{asin}",
        key=bad.asin or "unknown",
        reason=bad.reason,
        body=bad.raw,
        at_ms=at_ms,
    )
