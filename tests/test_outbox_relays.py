"""What a relay that reads ahead needs of the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck.outbox import Commit, Outbox
from pricecheck.records import Record


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "outbox.db")) as outbox:
        outbox.commit(Commit(records=tuple(Record("price", id_, id_, b"{}") for id_ in "abcde")))
        yield outbox


@pytest.mark.parametrize(
    ("acknowledged", "after", "expected"),
    [(0, 0, "abcde"), (0, 2, "cde"), (3, 2, "de"), (2, 4, "e"), (5, 0, ""), (0, 5, "")],
)
def test_reading_goes_on_after_the_cursor_and_the_seq_named(
    outbox: Outbox, acknowledged: int, after: int, expected: str
) -> None:
    """What was read but not acknowledged is not read twice, nor what was acknowledged."""
    outbox.acknowledge("kafka", acknowledged)

    found = outbox.read("kafka", limit=10, max_bytes=1_000, after=after)

    assert "".join(stored.record.id for stored in found) == expected
