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


@pytest.mark.parametrize(("acknowledged", "expected"), [(0, "abcde"), (3, "de"), (5, "")])
def test_reading_goes_on_after_the_cursor(outbox: Outbox, acknowledged: int, expected: str) -> None:
    """What was acknowledged is not read again."""
    outbox.acknowledge("kafka", acknowledged)

    found = outbox.read("kafka", limit=10, max_bytes=1_000)

    assert "".join(stored.record.id for stored in found) == expected
