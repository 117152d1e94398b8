"""Property tests: the outbox does what a plain list would, in whatever order things happen."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from pricecheck.outbox import Backlog, Commit, DeadLetter, Outbox, ProductState
from pricecheck.records import Record

RELAYS = ("elasticsearch", "kafka")
KINDS = st.sampled_from(["price", "deal", "metric"])
IDS = st.sampled_from("abcde")
BODIES = st.sampled_from([b"", b"1", b"22", b"333"])
LETTERS = st.builds(
    DeadLetter,
    source=st.sampled_from(RELAYS),
    kind=KINDS,
    id=IDS,
    key=st.just("B1"),
    reason=st.sampled_from(["bad", "too large"]),
    body=BODIES,
    at_ms=st.integers(0, 3),
)


class OutboxModel(RuleBasedStateMachine):
    """An outbox, and beside it a list of all that it should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.now_ms = 100
        self.outbox = self.open()
        self.rows: list[tuple[int, int, Record]] = []  # number in order of arrival, created_ms
        self.arrived = 0
        self.cursors = dict.fromkeys(RELAYS, 0)  # in those numbers
        self.last_seq = dict.fromkeys(RELAYS, 0)  # the greatest that each has acknowledged
        self.letters: dict[tuple[str, str, str], DeadLetter] = {}
        self.states: dict[str, ProductState] = {}

    def open(self) -> Outbox:
        return Outbox.open(self.directory / "outbox.db", now_ms=lambda: self.now_ms)

    def teardown(self) -> None:
        self.outbox.close()
        shutil.rmtree(self.directory)

    def find(self, kind: str, id_: str) -> Record | None:
        return next((r for *_, r in self.rows if (r.kind, r.id) == (kind, id_)), None)

    def append(self, record: Record) -> None:
        self.rows = [row for row in self.rows if identity(row[2]) != identity(record)]
        self.arrived += 1
        self.rows.append((self.arrived, self.now_ms, record))

    def after(self, relay: str) -> list[tuple[int, int, Record]]:
        return [row for row in self.rows if row[0] > self.cursors[relay]]

    @rule(
        records=st.lists(st.builds(Record, KINDS, IDS, st.just("B1"), BODIES), max_size=6),
        letters=st.lists(LETTERS, max_size=2, unique_by=lambda each: (each.kind, each.id)),
        states=st.lists(
            st.builds(ProductState, st.just("DE"), IDS, st.integers(0, 9), BODIES), max_size=2
        ),
        retried=st.booleans(),
    )
    def commit(
        self,
        records: list[Record],
        letters: list[DeadLetter],
        states: list[ProductState],
        retried: bool,
    ) -> None:
        """Store something; sometimes twice, as after an error of unclear outcome."""
        added = 0
        for place, record in enumerate(records):
            overtaken = identity(record) in map(identity, records[place + 1 :])
            if not overtaken and self.find(*identity(record)) != record:
                self.append(record)
                added += 1
        for letter in letters:
            known = self.letters.get((letter.source, *identity(letter)))
            count = known.count + (known.at_ms != letter.at_ms) if known else 1
            self.letters[letter.source, *identity(letter)] = replace(letter, count=count)
        self.states |= {state.asin: state for state in states}
        commit = Commit(records=tuple(records), dead_letters=tuple(letters), states=tuple(states))

        assert self.outbox.commit(commit) == added
        if retried:
            before = self.outbox.read("kafka", limit=1_000, max_bytes=1_000)
            assert self.outbox.commit(commit) == 0
            assert self.outbox.read("kafka", limit=1_000, max_bytes=1_000) == before

    @rule(
        relay=st.sampled_from(RELAYS),
        limit=st.integers(1, 8),
        max_bytes=st.integers(0, 12),
        part=st.floats(0, 1),
    )
    def deliver(self, relay: str, limit: int, max_bytes: int, part: float) -> None:
        """Read a batch and acknowledge some of it, as a relay does."""
        expected = self.after(relay)[:limit]
        while len(expected) > 1 and sum(len(row[2].body) for row in expected) > max_bytes:
            expected.pop()

        batch = self.outbox.read(relay, limit=limit, max_bytes=max_bytes)

        assert [each.record for each in batch] == [row[2] for row in expected]
        seqs = [self.last_seq[relay], *(each.seq for each in batch)]
        assert seqs == sorted(set(seqs))  # nothing twice, nothing out of order
        sent = round(part * len(batch))
        if sent:
            self.outbox.acknowledge(relay, batch[sent - 1].seq)
            self.last_seq[relay] = batch[sent - 1].seq
            self.cursors[relay] = expected[sent - 1][0]

    @rule(relay=st.sampled_from(RELAYS), back=st.integers(0, 3))
    def acknowledge_late(self, relay: str, back: int) -> None:
        """Acknowledge something that has been acknowledged before: nothing moves."""
        self.outbox.acknowledge(relay, max(0, self.last_seq[relay] - back))

    @rule(
        age_ms=st.integers(-1, 12),
        cap=st.integers(0, 4),
        relays=st.lists(st.sampled_from([*RELAYS, "new"]), unique=True),
        limit=st.integers(1, 5),
    )
    def retain(self, age_ms: int, cap: int, relays: list[str], limit: int) -> None:
        """Delete what may go, bite by bite."""
        before_ms = self.now_ms - age_ms
        needed = min((self.cursors.get(relay, 0) for relay in relays), default=self.arrived)
        kept = [row for row in self.rows if row[0] > needed or row[1] >= before_ms]
        metrics = sorted(
            (row for row in kept if row[2].kind == "metric" and row[0] > needed),
            key=lambda row: (row[1], row[0]),
        )
        surplus = metrics[: max(0, len(metrics) - cap)]
        kept = [row for row in kept if row not in surplus]

        bites = [limit]
        while bites[-1] == limit:
            bites.append(
                self.outbox.retain(before_ms=before_ms, metrics_cap=cap, relays=relays, limit=limit)
            )

        assert max(bites) <= limit
        assert sum(bites[1:]) == len(self.rows) - len(kept)
        self.rows = kept

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), retry=st.booleans())
    def settle_a_letter(self, data: st.DataObject, retry: bool) -> None:
        """Retry or drop a dead letter."""
        key = data.draw(st.sampled_from(sorted(self.letters)))
        letter = self.letters.pop(key)

        if retry:
            known = self.find(letter.kind, letter.id)
            self.append(known or Record(letter.kind, letter.id, letter.key, letter.body))
            assert self.outbox.retry(*key)
        else:
            assert self.outbox.drop(*key)

    @rule(by_ms=st.integers(-5, 10))
    def pass_time(self, by_ms: int) -> None:
        """Let the clock go on, or jump back."""
        self.now_ms += by_ms

    @rule()
    def reopen(self) -> None:
        """Restart."""
        self.outbox.close()
        self.outbox = self.open()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        """Nothing is lost, nothing is there twice, and the maintained figures are right."""
        for relay in RELAYS:
            rows = self.after(relay)
            stored = self.outbox.read(relay, limit=1_000, max_bytes=1_000)
            assert [each.record for each in stored] == [row[2] for row in rows]
            expected = Backlog(len(rows), rows[0][1] if rows else None)
            assert self.outbox.backlog(relay) == expected
        assert self.outbox.backlog("new").count == len(self.rows)
        counts = {kind: count for kind, count in self.outbox.counts().items() if count}
        assert counts == Counter(record.kind for *_, record in self.rows)
        letters = {(each.source, *identity(each)): each for each in self.outbox.dead_letters()}
        assert letters == self.letters
        bodies = {asin: state.body for asin, state in self.states.items()}
        assert self.outbox.states("DE", list("abcde")) == bodies
        assert self.outbox.moved_aside is None


def identity(of: Record | DeadLetter) -> tuple[str, str]:
    return of.kind, of.id


TestOutbox = OutboxModel.TestCase
TestOutbox.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
