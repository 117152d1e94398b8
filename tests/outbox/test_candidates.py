"""The outbox's candidates: what is found, judged and decided upon, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from pricecheck.config import Config, Prices, Settings
from pricecheck.config import Outbox as OutboxSection
from pricecheck.errors import StoreError
from pricecheck.outbox import FILE_NAME, Candidate, CandidateState, Commit, Outbox, schema
from pricecheck.watched import accepted, grown, watched

NOON = 1_800_000_000_000
DAY = 86_400_000


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / FILE_NAME, now_ms=lambda: NOON)) as outbox:
        yield outbox


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A config beside the outbox, with a watchlist of one product."""
    (tmp_path / "watchlist.csv").write_text("asin,target_price\nB000000001,9.99\n")
    config = Config(state_directory=".", prices=Prices(weight=2.0), outbox=OutboxSection())
    return Settings(config, tmp_path / "pricecheck.toml")


def one(
    state: CandidateState,
    asin: str = "B000000001",
    rule: str = "a",
    at_ms: int = NOON,
    body: bytes = b"{}",
) -> Candidate:
    return Candidate("DE", asin, rule, state, at_ms, body)


def keep(outbox: Outbox, *candidates: Candidate) -> None:
    outbox.commit(Commit(candidates=candidates))


@pytest.mark.parametrize(
    ("before", "again", "after"),
    [
        ("found", "waiting", "waiting"),
        ("found", "unfit", "unfit"),
        ("waiting", "found", "waiting"),
        ("unfit", "found", "unfit"),
        ("unfit", "waiting", "waiting"),
        ("accepted", "waiting", "accepted"),
        ("rejected", "found", "rejected"),
        ("rejected", "accepted", "rejected"),
    ],
)
def test_finding_again_changes_no_opinion_and_no_decision(
    outbox: Outbox, before: CandidateState, again: CandidateState, after: CandidateState
) -> None:
    """Opinions give way to opinions, and neither to a product that is only found again."""
    keep(outbox, one(before, at_ms=1))

    keep(outbox, one(again, at_ms=2))

    assert [found.state for found in outbox.candidates(after)] == [after]


def test_what_did_not_fit_is_looked_at_again_after_a_month(outbox: Outbox) -> None:
    """Prices and ratings move."""
    keep(outbox, one("unfit", at_ms=NOON - 31 * DAY), one("unfit", "B000000002", at_ms=NOON - DAY))

    keep(outbox, one("found"), one("found", "B000000002"))

    assert [found.asin for found in outbox.candidates("found")] == ["B000000001"]


@pytest.mark.parametrize("decision", ["accepted", "rejected"])
def test_a_decision_holds_for_every_rule(outbox: Outbox, decision: CandidateState) -> None:
    """A product that is decided upon waits for nobody, and is found by nobody."""
    keep(outbox, one("waiting", rule="a"), one("waiting", rule="b"))

    outbox.decide([one(decision, rule="a")])
    keep(outbox, one("found", rule="c"))

    assert outbox.candidates("waiting") == outbox.candidates("found") == []
    assert [found.rule for found in outbox.candidates(decision)] == ["a"]


def test_a_person_may_think_again(outbox: Outbox) -> None:
    """The last decision stands, and an opinion of a rule's does not touch it."""
    outbox.decide([one("rejected")])

    outbox.decide([one("accepted")])
    outbox.review([one("unfit")])

    assert outbox.candidates("accepted") == [one("accepted")]
    assert outbox.candidates("rejected") == []


def test_another_opinion_takes_the_place_of_the_first(outbox: Outbox) -> None:
    """Of that rule; what another thought of the product stands."""
    keep(outbox, one("waiting", at_ms=1), one("waiting", rule="b", at_ms=1))

    outbox.review([one("unfit", at_ms=2, body=b"[]")])

    assert outbox.candidates("unfit") == [one("unfit", at_ms=2, body=b"[]")]
    assert outbox.candidates("waiting") == [one("waiting", rule="b", at_ms=1)]


def test_candidates_come_in_the_order_in_which_they_were_found(outbox: Outbox) -> None:
    """Which is that of the best sellers, whoever was judged first; of one rule if it is named."""
    names = ["B000000003", "B000000001", "B000000002"]
    keep(outbox, *(one("found", asin) for asin in names), one("found", rule="b"))

    keep(outbox, *(one("waiting", asin) for asin in sorted(names)))

    assert [found.asin for found in outbox.candidates("waiting", rule="a", limit=2)] == names[:2]


def test_what_was_learnt_serves_every_rule_for_a_month(outbox: Outbox) -> None:
    """But nothing is learnt of what was only found."""
    keep(
        outbox,
        one("unfit", "B000000001"),
        one("waiting", "B000000002", at_ms=NOON - 31 * DAY),
        one("found", "B000000003"),
    )

    known = outbox.learnt("DE", ["B000000001", "B000000002", "B000000003", "B000000004"])

    assert [found.asin for found in known] == ["B000000001"]


def test_old_candidates_go_with_old_records(outbox: Outbox) -> None:
    """Those that did not fit; decisions and offers stay."""
    states: tuple[CandidateState, ...] = ("found", "waiting", "unfit", "accepted", "rejected")
    for number, state in enumerate(states):
        keep(outbox, one(state, f"B00000000{number}", at_ms=NOON - 91 * DAY))
    keep(outbox, one("unfit", "B000000009"))

    outbox.retain(before_ms=NOON - 90 * DAY, metrics_cap=0, relays=[])

    left = [found.asin for state in states for found in outbox.candidates(state)]
    assert left == ["B000000001", "B000000009", "B000000003", "B000000004"]


def test_what_did_not_fit_is_remembered_for_a_month_at_least(outbox: Outbox) -> None:
    """However short records are kept, it would be found and paid for again."""
    keep(outbox, one("unfit", at_ms=NOON - 2 * DAY))

    outbox.retain(before_ms=NOON - DAY, metrics_cap=0, relays=[])

    assert outbox.candidates("unfit") == [one("unfit", at_ms=NOON - 2 * DAY)]


def test_accepted_products_are_watched_beside_the_file(outbox: Outbox, settings: Settings) -> None:
    """As lines that name nothing but them; a line of the file wins."""
    outbox.decide([one("accepted", "B000000002"), one("accepted", "B000000001")])

    found = watched(settings).watches

    assert [(watch.asin, watch.target_price) for watch in found] == [
        ("B000000001", 999),
        ("B000000002", None),
    ]
    assert found[1] == msgspec.structs.replace(found[0], asin="B000000002", target_price=None)
    assert grown(watched(settings), settings, outbox).watches == found  # nothing comes twice


def test_without_an_outbox_the_file_is_all(settings: Settings) -> None:
    """Before the first start nothing was discovered."""
    assert accepted(settings) == []
    assert len(watched(settings).watches) == 1


def test_an_outbox_that_can_not_be_read_is_no_empty_one(tmp_path: Path, settings: Settings) -> None:
    """Such as one that the first start of a newer program is to migrate."""
    old, _ = schema.open_database(
        tmp_path / FILE_NAME, verify=True, now_ms=lambda: 0, migrations=schema.MIGRATIONS[:2]
    )
    old.close()

    with pytest.raises(StoreError, match="of an older pricecheck"):
        watched(settings)
    with closing(Outbox.open(tmp_path / FILE_NAME)) as migrated:
        migrated.decide([one("accepted", "B000000002")])
    assert len(watched(settings).watches) == 2


def test_candidates_are_counted_as_they_are_listed(outbox: Outbox) -> None:
    """By state, of a rule or of all; a decision counts for no other rule's opinion."""
    keep(outbox, one("found"), one("waiting", "B000000002"), one("unfit", "B000000002", rule="b"))
    keep(outbox, one("found", "B000000003", rule="b"), one("found", "B000000004"))
    outbox.decide([one("accepted", "B000000002")])

    assert outbox.candidate_counts() == {"found": 3, "accepted": 1}
    assert outbox.candidate_counts("a") == {"found": 2, "accepted": 1}
    assert outbox.candidate_counts("b") == {"found": 1}
    assert outbox.candidate_counts("c")["found"] == 0
