"""The soak: what its accountant finds, and which schedule a seed makes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pricecheck.deliver.wording import Voice, message
from pricecheck.records import Alert, Bestsellers, Change, Metric, Price, Record
from scripts.soaking import accountant, schedule
from scripts.soaking.accountant import rfc3339, settle
from scripts.soaking.books import Books, Doc, Setup, doc
from scripts.soaking.faults import FAULTS

SOAK = Path(__file__).parents[2] / "scripts" / "soak"

ASIN = "B000000000"
MINUTE = 8_361_000  # of the first check, in Keepa's count
FIRST_MS, SECOND_MS = ((minute + 21_564_000) * 60_000 + 500 for minute in (MINUTE, MINUTE + 60))
DROPPED_AT = rfc3339(FIRST_MS - 500 + 30 * 60_000)
SETUP = Setup(
    factor=720.0,
    refill_rate=5,
    tokens=300,
    began_ms=FIRST_MS - 60_000,
    ended_ms=SECOND_MS + 60_000,
    products=[ASIN],
    lookback_days=30,
    drop_percent=10,
    calls_at_once=1,
    sampled_s=0.5,
)


def answer(at_ms: int, left: int, **more: Any) -> dict[str, Any]:
    """A line of the simulator's ledger."""
    entry = {"at_ms": at_ms, "path": "product", "asins": [ASIN], "status": 200, "fault": None}
    return entry | {"tokens_consumed": 1, "tokens_left": left, "delivered": True} | more


def price(at_ms: int, now: int) -> Record:
    return Price(
        asin=ASIN,
        domain="DE",
        currency="EUR",
        title="Tastatur",
        timestamp=rfc3339(at_ms),
        current_price=now,
        previous_price=None,
        price_change_percent=None,
        target_price=None,
        prices={"NEW": now},
        stats={},
        sales_rank=None,
        rating=None,
        review_count=None,
        last_update=None,
        url="",
    ).record()


def change(changed_at: str, old: int, new: int) -> Record:
    return Change(
        asin=ASIN,
        domain="DE",
        currency="EUR",
        title="Tastatur",
        price_type="NEW",
        changed_at=changed_at,
        observed_at=rfc3339(SECOND_MS),
        old_price=old,
        new_price=new,
    ).record()


def best_sellers(at_ms: int) -> Record:
    return Bestsellers(
        domain="DE",
        category="340843031",
        observed_at=rfc3339(at_ms),
        last_update=None,
        total=1,
        asins=(ASIN,),
    ).record()


def metric(left: int, operation: str = "product", consumed: int = 1) -> Record:
    return Metric(
        timestamp=rfc3339(FIRST_MS),
        operation=operation,
        tokens_consumed=consumed,
        tokens_left=left,
        refill_rate=5,
        refill_in=1_000,
        response_time_ms=80,
        processing_time_ms=20,
        asin_count=1,
        domain="DE",
        success=True,
        status=200,
        error=None,
    ).record()


ALERT = Alert(
    asin=ASIN,
    domain="DE",
    currency="EUR",
    title="Tastatur",
    rule="drop",
    what="drop",
    against="last",
    price_type="NEW",
    changed_at=DROPPED_AT,
    observed_at=rfc3339(SECOND_MS),
    old_price=4_900,
    new_price=4_000,
    reference_price=4_900,
    change_percent=-18.4,
    url=f"https://www.amazon.de/dp/{ASIN}",
)


def told(at_s: float) -> dict[str, Any]:
    """What the notify service writes down of the alert."""
    return {"at_s": at_s, "message": message([ALERT], Voice(zone=UTC)).body}


def interruption(at_ms: int, by: str = "daemon killed", at_s: float = 100.0) -> dict[str, Any]:
    return {"name": "interruption", "by": by, "at_s": at_s, "begin_ms": at_ms, "end_ms": at_ms}


def samples(minutes: float = 10, leaked_mb: float = 0, leaked_fds: float = 0) -> list[Any]:
    """What the kernel says of a process that comes and goes by some MB and leaks by the minute."""
    return [
        {
            "at_ms": FIRST_MS + number * 500 * 720,
            "pid": 1,
            "load": 0.8,
            "rss_mb": 90 + number % 7 + leaked_mb * number / 120,
            "fds": 20 + number % 5 + int(leaked_fds * number / 120),
        }
        for number in range(round(minutes * 120))
    ]


@pytest.fixture
def books() -> Books:
    """A run in which all went well: two checks, a change before them and one in between."""
    records = [
        price(FIRST_MS, 4_900),
        price(SECOND_MS, 4_000),
        change(rfc3339(FIRST_MS - 500 - 50 * 60_000), 5_000, 4_900),
        change(DROPPED_AT, 4_900, 4_000),
        ALERT.record(),
        *(metric(left) for left in (299, 300)),
        best_sellers(SECOND_MS + 1),
        metric(250, "bestsellers", 50),
    ]
    docs = [doc(one.kind, one.id, msgspec.json.decode(one.body)) for one in records]
    points = [MINUTE - 100_000, 5_000, MINUTE - 50, 4_900, MINUTE + 30, 4_000]
    return Books(
        setup=SETUP,
        ledger=[
            answer(FIRST_MS, 299),
            answer(SECOND_MS, 300),
            answer(SECOND_MS + 1, 250, path="bestsellers", asins=[], tokens_consumed=50),
        ],
        histories={ASIN: {1: points}},
        samples=samples(),
        told=[told(90.0)],
        outbox={(one.kind, one.id): one for one in docs},
        elastic=list(docs),
        kafka=list(docs),
    )


def failed(books: Books) -> dict[str, list[str]]:
    """The accounts that fail, with their faults."""
    return {one.name: one.faults for one in settle(books) if one.faults}


def of_kind(books: Books, kind: str) -> Doc:
    return next(one for one in books.elastic if one.kind == kind)


def lose_answer(books: Books) -> None:
    books.ledger.insert(1, answer(FIRST_MS + 60_000, 298))


def lose_best_sellers(books: Books) -> None:
    rest = {key: one for key, one in books.outbox.items() if one.kind != "bestseller"}
    books.outbox = rest


def invent_price(books: Books) -> None:
    del books.ledger[0]


def falsify_price(books: Books) -> None:
    held = of_kind(books, "price")
    wrong = held._replace(body=held.body | {"current_price": 4_901})
    books.outbox[held.kind, held.id] = wrong


def keep_no_deals(books: Books) -> None:
    books.ledger.append(answer(SECOND_MS, 290, path="deal", asins=[]))


def set_much_aside(books: Books) -> None:
    books.dead.append({"source": "keepa", "kind": "product", "id": "x", "reason": "no form"})


def repeat_all(books: Books) -> None:
    books.kafka += books.kafka


def tear_answer(books: Books) -> None:
    books.ledger[0]["asins"].append("B000000001")


def lose_change(books: Books) -> None:
    books.elastic = [one for one in books.elastic if one.fact[-1] != DROPPED_AT]


def invent_change(books: Books) -> None:
    books.histories[ASIN] = {1: [MINUTE - 100_000, 5_000, MINUTE - 50, 4_900]}


def falsify_change(books: Books) -> None:
    books.histories[ASIN][1][-1] = 4_001


def double_document(books: Books) -> None:
    books.elastic.append(of_kind(books, "price")._replace(id="another"))


def lose_document(books: Books) -> None:
    books.elastic.remove(of_kind(books, "price"))


def leave_old_document(books: Books) -> None:
    place = books.elastic.index(of_kind(books, "price"))
    books.elastic[place] = books.elastic[place]._replace(digest="old")


def lose_message(books: Books) -> None:
    books.kafka.remove(of_kind(books, "alert"))


def leave_old_message(books: Books) -> None:
    books.kafka.append(of_kind(books, "price")._replace(digest="old"))


def overspend(books: Books) -> None:
    books.ledger[1]["tokens_left"] = -1


def spend_more_than_there_was(books: Books) -> None:
    books.ledger[1]["tokens_consumed"] = 700


def ask_without_tokens(books: Books) -> None:
    books.ledger.append(answer(SECOND_MS + 1, 0, status=429, tokens_consumed=0))


def ring_no_more(books: Books) -> None:
    books.told.clear()


def ring_twice(books: Books) -> None:
    books.told.append(told(91.0))


def ring_for_nothing(books: Books) -> None:
    rest = {key: one for key, one in books.outbox.items() if one.kind != "alert"}
    books.outbox = rest


def miss_a_drop(books: Books) -> None:
    books.elastic.remove(of_kind(books, "alert"))


def lose_metric(books: Books) -> None:
    books.elastic.remove(of_kind(books, "metric"))


def leak_memory(books: Books) -> None:
    books.samples = samples(leaked_mb=1)


def leak_much_memory_in_a_short_life(books: Books) -> None:
    books.samples = samples(minutes=1.5, leaked_mb=40)


def leak_files(books: Books) -> None:
    books.samples = samples(leaked_fds=1)


def take_no_samples(books: Books) -> None:
    books.samples = []


def skip_a_fault(books: Books) -> None:
    books.planned.append("clock stepped")


def come_too_late(books: Books) -> None:
    books.planned += ["kafka killed"] * 3
    books.events += [{"name": name, "fault": "kafka killed"} for name in ("fault", "too late")]
    books.events += [{"name": "too late", "fault": "kafka killed"}]


def fill_no_disk(books: Books) -> None:
    books.events += [{"name": "fault", "fault": "disk filled"}] * 3


def kill_nobody(books: Books) -> None:
    books.events.append({"name": "fault", "fault": "daemon killed"})


def double_metric(books: Books) -> None:
    books.elastic.append(of_kind(books, "metric")._replace(id="another", fact=("another",)))


def drop_calls_without_a_metric(books: Books) -> None:
    books.ledger.append(answer(SECOND_MS, 290, path="deal", asins=[]))


def refuse(books: Books) -> None:
    books.dead.append({"source": "kafka", "kind": "price", "id": "x", "reason": "too large"})


def crash(books: Books) -> None:
    books.log = "10:00:00 ERROR task crashed\n  Traceback (most recent call last):\n"


def return_early(books: Books) -> None:
    books.log = "10:00:00 ERROR task returned early task=prices restarts=1\n"


def end_by_itself(books: Books) -> None:
    books.events.append({"name": "trouble", "what": "the daemon ended by itself, with 1"})


def stay_ill(books: Books) -> None:
    books.health.append("prices: no connection to Keepa")


def test_a_run_in_which_all_went_well_has_no_fault(books: Books) -> None:
    """Every account holds."""
    accounts = settle(books)

    assert {one.name for one in accounts if one.faults} == set()
    assert len(accounts) == 15


@pytest.mark.parametrize(
    ("plant", "account", "words"),
    [
        (lose_answer, "answers kept", "the product answer of .* is lost"),
        (lose_best_sellers, "answers kept", "the bestsellers answer of .* is lost"),
        (invent_price, "answers kept", "nobody ever answered DE:B000000000"),
        (keep_no_deals, "answers kept", "there is no deal at all"),
        (falsify_price, "every price", f"{ASIN} at .* cost .*4900"),
        (tear_answer, "answers kept", "there are 1 of 2 prices"),
        (lose_change, "every price change", f"missing: change DE {ASIN} NEW {DROPPED_AT}"),
        (invent_change, "every price change", "never happened: change DE"),
        (falsify_change, "every price change", r"was \(4900, 4001\), is \(4900, 4000\)"),
        (double_document, "Elasticsearch", "twice: price DE"),
        (lose_document, "Elasticsearch", "missing: price DE"),
        (leave_old_document, "Elasticsearch", "differs: price DE"),
        (lose_message, "Kafka", "missing: alert DE"),
        (leave_old_message, "Kafka", "differs: price DE"),
        (repeat_all, "Kafka", "9 messages are too many to be sent again"),
        (overspend, "tokens", "1 tokens overspent"),
        (spend_more_than_there_was, "tokens", "751 tokens are more than"),
        (ask_without_tokens, "tokens", "asked for product without tokens"),
        (ring_no_more, "alerts told once", "never told"),
        (ring_twice, "alerts told once", "told twice"),
        (ring_for_nothing, "alerts told once", "told for nothing"),
        (miss_a_drop, "alerts recounted", f"did not ring: {ASIN} at {DROPPED_AT}"),
        (invent_change, "alerts recounted", f"rang for nothing: {ASIN}"),
        (lose_metric, "metrics", "1 without a metric: 1 products for 1 tokens, 299 left"),
        (double_metric, "metrics", "noted 1 times too often: 1 products for 1 tokens, 299 left"),
        (drop_calls_without_a_metric, "metrics", "the deal call of .* left no metric"),
        (leak_memory, "memory flat", r"\+1\.7 a sixth is more"),
        (leak_much_memory_in_a_short_life, "memory flat", "a sixth is more"),
        (take_no_samples, "memory flat", "only 0 samples"),
        (leak_files, "file descriptors flat", "a sixth is more"),
        (skip_a_fault, "faults", "clock stepped did not happen 1 times"),
        (come_too_late, "faults", "2 faults came too late"),
        (fill_no_disk, "faults", "disk filled happened 3 times, and the log has no"),
        (kill_nobody, "faults", "1 kills, but only 1 daemons"),
        (refuse, "nothing refused", "kafka refused price x: too large"),
        (set_much_aside, "nothing refused", "1 are set aside, but only 0 answers were garbled"),
        (crash, "daemon unbroken", "Traceback"),
        (return_early, "daemon unbroken", "returned early"),
        (end_by_itself, "daemon unbroken", "by itself, with 1"),
        (stay_ill, "well again", "no connection"),
    ],
)
def test_what_was_planted_is_found(
    books: Books, plant: Callable[[Books], None], account: str, words: str
) -> None:
    """Each loss, double, overspending and leak fails the account that is meant to find it."""
    plant(books)

    faults = failed(books)

    assert re.search(words, "\n".join(faults.get(account, ())))


def test_a_call_under_way_when_the_daemon_was_killed_is_no_loss(books: Books) -> None:
    """One is excused where one can be under way, and it is not told as kept."""
    lose_answer(books)
    books.events.append(interruption(FIRST_MS + 61_000))

    assert failed(books) == {}


@pytest.mark.parametrize("ago_ms", [-2 * 1000 * 720 - 1, 2 * 1000 * 720 + 1])
def test_a_kill_at_another_time_excuses_nothing(books: Books, ago_ms: int) -> None:
    """Neither one long before the answer, nor one when the answer must have been committed."""
    lose_answer(books)
    books.events.append(interruption(FIRST_MS + 60_000 + ago_ms))

    assert "answers kept" in failed(books)


@pytest.mark.parametrize(
    ("still", "cut", "excused"),
    [
        ("daemon frozen", "Keepa killed", True),
        ("disk filled", "daemon killed", True),
        ("disk filled", "Keepa killed", False),
    ],
)
def test_the_time_that_a_daemon_stands_still_is_not_counted(
    books: Books, still: str, cut: str, excused: bool
) -> None:
    """What it was answered just before is still under way, unless it only waits for the disk."""
    lose_answer(books)
    answered_ms = FIRST_MS + 60_000
    end_ms = answered_ms + 3 * 1000 * 720
    frozen = {"name": "standstill", "by": still, "begin_ms": answered_ms + 100, "end_ms": end_ms}
    books.events += [frozen, interruption(end_ms, cut)]

    assert ("answers kept" not in failed(books)) == excused


def test_a_daemon_frozen_while_it_is_cut_off_was_not_before(books: Books) -> None:
    """What was under way when the cut began is excused all the same."""
    lose_answer(books)
    cut_ms = FIRST_MS + 61_000
    begin_ms, end_ms = cut_ms + 720_000, cut_ms + 3 * 720_000
    frozen = {"name": "standstill", "by": "daemon frozen", "begin_ms": begin_ms, "end_ms": end_ms}
    books.events += [interruption(cut_ms, "Keepa refused") | {"end_ms": end_ms}, frozen]

    assert failed(books) == {}


def test_a_step_of_memory_is_no_leak(books: Books) -> None:
    """A process that needs more room once, and then no more, holds on to nothing."""
    for sample in books.samples[len(books.samples) // 2 :]:
        sample["rss_mb"] += 8

    assert failed(books) == {}


def test_a_fault_that_needs_root_may_be_left_out(books: Books) -> None:
    """The account says so."""
    books.planned.append("disk filled")
    books.events.append({"name": "needs root", "fault": "disk filled"})

    [account] = [one for one in settle(books) if one.name == "faults"]

    assert "without disk filled" in account.found
    assert not account.faults


def test_on_a_busy_machine_a_call_is_longer_under_way(books: Books) -> None:
    """With three processes for each processor it may be three times as long."""
    lose_answer(books)
    books.samples[0]["load"] = 3.0
    books.events.append(interruption(FIRST_MS + 60_000 + 5 * 1000 * 720))

    assert failed(books) == {}


def test_a_kill_excuses_no_more_answers_than_calls_can_be_under_way(books: Books) -> None:
    """A second one is lost."""
    lose_answer(books)
    lose_answer(books)
    books.events.append(interruption(FIRST_MS + 61_000))

    assert len(failed(books)["answers kept"]) == 1


def test_many_kills_do_not_excuse_as_many_answers(books: Books) -> None:
    """A daemon that loses one at every kill loses too many."""
    for minute in range(4):
        books.ledger.insert(1, answer(FIRST_MS + 60_000 * minute + 1, 298))
        books.events.append(interruption(FIRST_MS + 60_000 * minute))

    faults = failed(books)["answers kept"]

    assert faults == ["4 answers are too many to have been cut off 4 times"]


def test_load_at_another_time_excuses_nothing(books: Books) -> None:
    """The machine was busy long after the cut."""
    lose_answer(books)
    books.samples[-1]["load"] = 3.0
    books.events.append(interruption(FIRST_MS + 60_000 + 5 * 1000 * 720))

    assert "answers kept" in failed(books)


def test_of_an_answer_garbled_in_one_item_one_product_may_be_missing(books: Books) -> None:
    """The others must be there."""
    books.ledger[0] |= {"fault": "wrongtypes", "asins": [ASIN, "B000000001"]}
    one_missing = "answers kept" in failed(books)
    books.ledger[0]["asins"].append("B000000002")

    assert not one_missing
    assert "answers kept" in failed(books)


@pytest.mark.parametrize(("by", "excused"), [("daemon killed", True), ("Keepa killed", False)])
def test_only_a_kill_of_the_daemon_excuses_that_an_alert_is_told_again(
    books: Books, by: str, excused: bool
) -> None:
    """The moment between telling and noting that it was told can't be known from outside."""
    books.told.append(told(110.0))
    books.events.append(interruption(SECOND_MS, by))

    assert ("alerts told once" not in failed(books)) == excused


def test_after_a_kill_only_the_first_message_may_repeat_an_alert(books: Books) -> None:
    """A third time is one too often."""
    books.told += [told(110.0), told(111.0)]
    books.events.append(interruption(SECOND_MS))

    assert "alerts told once" in failed(books)


def test_a_bucket_that_keepa_sank_itself_is_not_overspent(books: Books) -> None:
    """Nor is what is below zero on its way back."""
    books.ledger[0] |= {"fault": "negative", "tokens_left": -50}
    books.ledger[1] |= {"tokens_left": -20}

    assert "tokens" not in failed(books)


@pytest.mark.parametrize(("after_s", "excused"), [(1.9, True), (2.1, False)])
def test_who_asks_before_the_sunken_bucket_is_known_is_excused(
    books: Books, after_s: float, excused: bool
) -> None:
    """And only as long: the answer that sank it has told."""
    books.ledger[0] |= {"fault": "negative", "tokens_left": -50}
    at_ms = FIRST_MS + round(after_s * 1000 * 720)
    books.ledger.insert(0, answer(at_ms, -50, status=429, tokens_consumed=0))

    assert ("tokens" not in failed(books)) == excused


def test_the_accountant_shares_no_code_with_the_program() -> None:
    """Nothing that it imports is of the package, so that no mistake can hide itself."""
    folder = Path(accountant.__file__).parent
    imported = [
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
        for name in ("accountant.py", "books.py", "conduct.py", "excuses.py")
        for node in ast.walk(ast.parse((folder / name).read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    roots = {name.partition(".")[0] for name in imported}

    assert "json" in roots
    assert roots <= sys.stdlib_module_names | {"confluent_kafka", "scripts"}
    scripts = {name for name in imported if name.startswith("scripts")}
    assert scripts == {f"scripts.soaking.{name}" for name in ("books", "conduct", "excuses")}


def test_the_same_seed_makes_the_same_schedule() -> None:
    """And another seed another one."""
    assert schedule.draw(7, 600) == schedule.draw(7, 600)
    assert schedule.draw(7, 600) != schedule.draw(8, 600)


def test_a_seed_makes_its_schedule_anywhere() -> None:
    """What was printed once can be played again, by another process and on another machine."""
    [first, *_] = [schedule.line(fault, 720) for fault in schedule.draw(7, 1_170)]

    assert first == "day  0.05     6.4 s  daemon killed for 1.8 s"


def test_every_fault_happens_and_can_be_played() -> None:
    """In three minutes each is there, and there is none that nobody knows how to do."""
    drawn = {fault.name for seed in range(20) for fault in schedule.draw(seed, 150)}
    every = {name for lane in schedule.LANES.values() for name in lane}

    assert drawn == every == set(FAULTS)


def test_faults_of_one_lane_do_not_overlap_and_kills_end_with_the_first_half() -> None:
    """So no kill meets a full disk, and in the second half one process lives on."""
    faults = schedule.draw(3, 1_200)

    for lane in schedule.LANES:
        own = [fault for fault in faults if fault.lane == lane]
        assert all(one.at_s + one.lasts_s < after.at_s for one, after in pairwise(own))
    kills = [fault.at_s for fault in faults if fault.name == schedule.KILL]
    assert 0 < max(kills) <= 600


def soak(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SOAK, "--minutes", "3"],
        cwd=folder,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_servers_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """CI tells that from a failure by the exit code."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    run = soak(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"), TMPDIR=str(scratch))

    assert run.returncode == os.EX_UNAVAILABLE
    assert "kafka" in run.stderr
    assert list(scratch.iterdir()) == []


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_day_and_a_half_with_everything_that_goes_wrong(tmp_path: Path) -> None:
    """All accounts of a whole run hold."""
    run = soak(tmp_path)
    if run.returncode == os.EX_UNAVAILABLE:
        pytest.skip(run.stderr.strip())

    assert run.returncode == 0, run.stdout + run.stderr
