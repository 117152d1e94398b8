"""`pricecheck outbox`: dead letters looked at, sent again, and dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck.outbox import FILE_NAME, Commit, DeadLetter, Outbox
from pricecheck.records import Record
from tests.cli.conftest import Run

OPEN = Callable[[], Outbox]


def letter(source: str, kind: str, id_: str, body: bytes = b'{"price":1}') -> DeadLetter:
    return DeadLetter(
        source=source,
        kind=kind,
        id=id_,
        key="B000000001",
        reason="mapper_parsing_exception: no",
        body=body,
        at_ms=1_795_000_000_000,
    )


@pytest.fixture
def letters(home: Path) -> None:
    """One record, and dead letters of three sources."""
    with closing(Outbox.open(home / "state" / FILE_NAME)) as outbox:
        outbox.commit(
            Commit(
                records=(Record("price", "DE:B000000001:x", "B000000001", b"{}"),),
                dead_letters=(
                    letter("elasticsearch", "price", "DE:B000000002:x"),
                    letter("kafka", "deal", "DE:B000000003:NEW:x"),
                    letter("keepa", "product", "DE:B000000004", b"\xff not json"),
                ),
            )
        )


@pytest.mark.usefixtures("letters")
async def test_alone_it_tells_what_is_there(run: Run) -> None:
    """Records by kind, sinks, and dead letters by source."""
    done = await run("outbox")

    assert done.returncode == 0
    assert "1 price" in done.stdout
    assert "no sink is configured" in done.stdout
    assert "dead letters: 1 of elasticsearch, 1 of kafka, 1 of keepa" in done.stdout


@pytest.mark.usefixtures("letters")
async def test_tells_the_backlog_of_each_configured_sink(run: Run, home: Path) -> None:
    """Before a relay's first delivery everything waits for it."""
    with (home / "pricecheck.toml").open("a") as file:
        file.write("[kafka]\n")

    done = await run("outbox")

    assert "1 records wait for kafka" in done.stdout


@pytest.mark.usefixtures("letters")
async def test_lists_them_with_reason_and_name(run: Run) -> None:
    """As a table, as JSON, and of one source."""
    table = await run("outbox", "list")
    raw = await run("outbox", "list", "--json", "--source", "kafka")

    assert "elasticsearch/price/DE:B000000002:x" in table.stdout
    assert "mapper_parsing_exception" in table.stdout
    assert "3 of 3 dead letters" in table.stdout
    assert [each["id"] for each in json.loads(raw.stdout)] == ["DE:B000000003:NEW:x"]


@pytest.mark.usefixtures("letters")
async def test_shows_one_whole_whatever_its_bytes(run: Run) -> None:
    """JSON is laid out; anything else is shown as far as it can be."""
    good = await run("outbox", "show", "kafka/deal/DE:B000000003:NEW:x")
    odd = await run("outbox", "show", "keepa/product/DE:B000000004")

    assert '{\n  "price": 1\n}' in good.stdout
    assert "reason: mapper_parsing_exception: no" in good.stdout
    assert "\\xff not json" in odd.stdout


@pytest.mark.usefixtures("letters")
async def test_retry_puts_the_record_back(run: Run, outbox: OPEN) -> None:
    """It is a record again, and no longer a dead letter."""
    done = await run("outbox", "retry", "elasticsearch/price/DE:B000000002:x")

    assert done.stdout == "1 will be delivered again\n"
    assert outbox().counts() == {"price": 2}
    assert outbox().dead_letter_counts() == {"kafka": 1, "keepa": 1}


@pytest.mark.usefixtures("letters")
async def test_what_keepa_sent_can_not_be_retried(run: Run, outbox: OPEN) -> None:
    """It is no record; the message says what happens instead."""
    done = await run("outbox", "retry", "--source", "keepa")

    assert done.returncode == 65
    assert "asked for anew at its next check" in done.stderr
    assert outbox().dead_letter_counts()["keepa"] == 1


@pytest.mark.usefixtures("letters")
async def test_drop_deletes_those_of_a_source(run: Run, outbox: OPEN) -> None:
    """And no others."""
    done = await run("outbox", "drop", "--source", "keepa")

    assert done.stdout == "1 dropped\n"
    assert outbox().dead_letter_counts() == {"elasticsearch": 1, "kafka": 1}


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("verb", ["retry", "drop"])
async def test_letters_and_a_source_are_not_named_together(
    run: Run, outbox: OPEN, verb: str
) -> None:
    """Whoever names one does not mean all of its source."""
    before = outbox().dead_letter_counts()
    name = (await run("outbox", "list", "--source", "kafka")).stdout.splitlines()[1].split()[0]

    done = await run("outbox", verb, name, "--source", "kafka")

    assert done.returncode == 2
    assert "not both" in done.stderr
    assert outbox().dead_letter_counts() == before
    assert (await run("outbox", "drop", name, name)).stdout == "1 dropped\n"


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("verb", ["show", "retry", "drop"])
async def test_an_unknown_letter_is_said(run: Run, verb: str) -> None:
    """Nothing happens, and the way to the names is shown."""
    done = await run("outbox", verb, "kafka/deal/none")

    assert done.returncode == 65
    assert "no dead letter kafka/deal/none" in done.stderr


@pytest.mark.parametrize("verb", ["retry", "drop"])
async def test_nothing_named_is_a_usage_error(run: Run, home: Path, verb: str) -> None:
    """All letters at once only when a source is named."""
    with closing(Outbox.open(home / "state" / FILE_NAME)):
        done = await run("outbox", verb)

    assert done.returncode == 2


async def test_looking_makes_no_outbox(run: Run, home: Path) -> None:
    """Where there is none, none is made."""
    done = await run("outbox", "drop", "--source", "keepa")

    assert done.returncode == 73
    assert not (home / "state").exists()


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("words", ["outbox --config {} list", "outbox list --config {}"])
async def test_the_config_may_be_named_before_the_verb_or_after_it(
    run: Run, home: Path, words: str
) -> None:
    """As people expect of every option."""
    elsewhere = home / "elsewhere.toml"
    (home / "pricecheck.toml").rename(elsewhere)

    done = await run(*words.format(elsewhere).split())

    assert done.returncode == 0
    assert "3 of 3 dead letters" in done.stdout
