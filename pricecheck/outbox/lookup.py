"""What commands, pages and rules look up among the records: histories, and the newest of a kind.

An id begins with domain:asin or domain:category, so that `UNIQUE (kind, id)` finds what is asked.
All may raise CorruptStoreError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pricecheck.keepa.time import to_rfc3339

if TYPE_CHECKING:
    from pricecheck.outbox.store import Outbox


def changes(
    outbox: Outbox, asin: str, *, domain: str | None = None, since_ms: int = 0
) -> list[bytes]:
    """Return the bodies of a product's change records since a Unix time in ms, oldest first."""
    since = to_rfc3339(-(-since_ms // 1_000) * 1_000)  # whole seconds compare as text
    found = sorted(
        (id_.split(":", 3)[-1], id_, body)
        for found_in in _domains(outbox, "change", domain)
        for id_, body in outbox.rows(
            "SELECT id, body FROM records WHERE kind = 'change' AND id >= ? AND id < ?",
            _prefix(found_in, asin),
        )
    )
    return [body for changed_at, _, body in found if changed_at >= since]


def latest_prices(outbox: Outbox, asin: str, *, domain: str | None = None) -> list[bytes]:
    """Return the body of a product's newest price record, one per marketplace."""
    return [
        body
        for found_in in _domains(outbox, "price", domain)
        for (body,) in outbox.rows(
            "SELECT body FROM records WHERE kind = 'price' AND id >= ? AND id < ?"
            " ORDER BY id DESC LIMIT 1",
            _prefix(found_in, asin),
        )
    ]


def last_change(outbox: Outbox, domain: str, asin: str, price_type: str) -> bytes | None:
    """Return the body of the newest change record of one of a product's prices."""
    rows = outbox.rows(
        "SELECT body FROM records WHERE kind = 'change' AND id >= ? AND id < ?"
        " ORDER BY id DESC LIMIT 1",
        _prefix(domain, asin, price_type),
    )
    return rows[0][0] if rows else None


def latest_list(outbox: Outbox, domain: str, category: str) -> bytes | None:
    """Return the body of a category's newest list of best sellers."""
    rows = outbox.rows(
        "SELECT body FROM records WHERE kind = 'bestseller' AND id >= ? AND id < ?"
        " ORDER BY id DESC LIMIT 1",
        _prefix(domain, category),
    )
    return rows[0][0] if rows else None


def latest(outbox: Outbox, kind: str, *, limit: int, domain: str | None = None) -> list[bytes]:
    """Return the bodies of the newest records of a kind, newest first."""
    rows = outbox.rows(
        "SELECT body FROM records INDEXED BY records_by_kind WHERE kind = :kind"
        " AND substr(id, 1, length(:prefix)) = :prefix"
        " ORDER BY created_ms DESC, seq DESC LIMIT :limit",
        {"kind": kind, "prefix": f"{domain}:" if domain else "", "limit": limit},
    )
    return [body for (body,) in rows]


def _domains(outbox: Outbox, kind: str, only: str | None) -> list[str]:
    """Return the marketplaces that have records of a kind, or the only one asked for."""
    if only is not None:
        return [only]
    found: list[str] = []
    after = ""
    # One look-up per marketplace: each starts beyond the ids of the one before.
    while rows := outbox.rows(
        "SELECT id FROM records WHERE kind = ? AND id > ? ORDER BY id LIMIT 1", (kind, after)
    ):
        found.append(rows[0][0].partition(":")[0])
        after = _prefix(found[-1])[1]
    return found


def _prefix(*parts: str) -> tuple[str, str]:
    """Return the bounds of all ids that begin with these parts: ';' comes next after ':'."""
    joined = ":".join(parts)
    return f"{joined}:", f"{joined};"
