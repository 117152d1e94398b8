"""The outbox, the one place with SQL: its file (schema), its content (rows), what is done (store).

What is looked up among its records for people and rules is in lookup.
"""

from pricecheck.outbox.rows import (
    Backlog,
    Candidate,
    CandidateState,
    Commit,
    DeadLetter,
    ProductState,
    Stored,
)
from pricecheck.outbox.schema import CorruptStoreError, DiskFullError
from pricecheck.outbox.store import FILE_NAME, Outbox, open_readonly

__all__ = [
    "FILE_NAME",
    "Backlog",
    "Candidate",
    "CandidateState",
    "Commit",
    "CorruptStoreError",
    "DeadLetter",
    "DiskFullError",
    "Outbox",
    "ProductState",
    "Stored",
    "open_readonly",
]
