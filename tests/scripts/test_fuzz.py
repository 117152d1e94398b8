"""What is kept of fuzzing holds, each input on its own target; and what is broken is found."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from pricecheck import status
from pricecheck.keepa import wire
from scripts.fuzzing import search
from scripts.fuzzing.doors import door_targets
from scripts.fuzzing.search import Target, attempt
from scripts.fuzzing.targets import file_targets

CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """What is set aside is told to the log, and pytest would gather all of it."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def targets(folder: Path) -> Iterator[dict[str, Target]]:
    with file_targets(folder) as files, door_targets(folder / "daemon") as doors:
        yield {target.name: target for target in (*files, *doors)}


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_whatever_was_kept_is_borne(targets: dict[str, Target], name: str) -> None:
    """No error but the declared one, which says where; what is read can be written again."""
    failures = {
        path.name: repr(failure)
        for path in sorted((CORPUS / name).iterdir())
        if (failure := attempt(targets[name], path.read_bytes()))
    }

    assert failures == {}


def test_every_target_has_a_corpus(targets: dict[str, Target]) -> None:
    """Or the test above would pass over it."""
    assert {path.name for path in CORPUS.iterdir() if any(path.iterdir())} == set(targets)


def broken_decode(body: bytes) -> wire.Answer:
    if b"\xff" in body:
        raise IndexError("not declared")
    return DECODE(body)


def endless_decode(body: bytes) -> wire.Answer:
    while b"{}" in body:
        time.sleep(0.01)
    return DECODE(body)


def forgetful_decode(body: bytes) -> wire.Answer:
    raise wire.WireError


DECODE = wire.decode


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (broken_decode, "IndexError: not declared"),
        (endless_decode, "TooSlowError"),
        (forgetful_decode, "AssertionError"),
    ],
)
def test_a_search_finds_what_is_broken(
    targets: dict[str, Target], monkeypatch: pytest.MonkeyPatch, broken: object, fault: str
) -> None:
    """An error that is not declared, a hang, an error without words: cut down to what it takes."""
    monkeypatch.setattr(wire, "decode", broken)
    monkeypatch.setattr(search, "SLOW_S", 0.1)
    corpus = [b'{"tokensLeft": 1, "products": [{}, "\xff"]}']

    outcome = search.search(targets["wire"], corpus, 0.0, Random(1))

    [finding] = outcome.findings
    assert fault in finding.trace
    assert len(finding.data) <= 2


def test_a_daemon_that_falls_silent_is_found(
    targets: dict[str, Target], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next client's answer is part of every input at a door."""
    assert attempt(targets["status"], b"r") is None
    pid = status.ask(folder / "daemon").pid
    monkeypatch.setattr(status, "_ANSWER_WITHIN_S", 0.1)

    os.kill(pid, signal.SIGSTOP)
    failure = attempt(targets["status"], b"g")
    os.kill(pid, signal.SIGCONT)

    assert "no answer: timed out" in str(failure)


def test_what_reaches_new_lines_is_kept(targets: dict[str, Target]) -> None:
    """Of many inputs only those, cut down; the lines that ran are counted."""
    outcome = search.search(
        targets["identify"], [b"B0D8W1YVBX", b"https://keepa.com/"], 0.3, Random(1)
    )

    assert 0 < len(outcome.fresh) < outcome.tried / 2
    assert outcome.findings == []
    assert 0 < outcome.lines <= outcome.of_lines
