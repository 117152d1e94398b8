"""The accountant: compares what was delivered, what is held where, and what it cost.

Nothing of the package is used here; the rules are written down and computed a second time.

What is looked into
  Of a price what it costs, of a change, an alert and a metric all its figures. Of deals and best
  sellers the simulator does not write down what it answered: that there are some, for each answer
  one list, and the same everywhere, is all that is known of them.

What may be told twice
  A service is told first, and then it is noted that it was. A kill in between can't be known from
  one before, so after a kill the first message may repeat the last one before it. No other may.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from scripts.soaking.books import Account, Books, Doc
from scripts.soaking.conduct import files, memory, schedule_played, unbroken, well_again
from scripts.soaking.excuses import CUTS_AN_ANSWER, interruptions, under_way_ms, unexcused

PRICE_TYPES = {0: "AMAZON", 1: "NEW", 2: "USED", 4: "LISTPRICE"}
"""The price histories that a plain check brings, by csv index."""

WHOLE = (None, "slow", "negative")
"""Faults of the simulator with which an answer is whole all the same."""

ONE_ITEM = ("wrongtypes", "missing", "nulls")
"""Faults that garble one item of an answer."""

KAFKA_AGAIN = 0.1  # of all messages, that may be repetitions

_TOLD = re.compile(
    r"^(?P<kind>[\w ]+) on amazon\.de since (?P<at>\d{4}-\d\d-\d\d \d\d:\d\d) "
    r"\(rule: (?P<rules>[^)]*)\)\nhttps://www\.amazon\.de/dp/(?P<asin>\w+)$",
    re.MULTILINE,
)
_KINDS = {"New": "NEW", "Used": "USED", "Sold by Amazon": "AMAZON"}


def settle(books: Books) -> list[Account]:
    """Return every account of a run."""
    accounts: tuple[Callable[[Books], Account], ...] = (
        schedule_played,
        _answers,
        _prices,
        _changes,
        _elasticsearch,
        _kafka,
        _tokens,
        _drops,
        _told_once,
        _metrics,
        memory,
        files,
        _refused,
        unbroken,
        well_again,
    )
    return [account(books) for account in accounts]


def lost_answers(books: Books) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Return how many whole answers are kept, those that are not, and what is kept by halves.

    Of deals the newest state is all that is kept, so their answers can't be told from each other.
    """
    kept, missing, torn = 0, [], []
    lists = {id_.split(":", 2)[2] for kind, id_ in books.outbox if kind == "bestseller"}
    for entry in books.ledger:
        path, fault, at = entry["path"], entry["fault"], rfc3339(entry["at_ms"])
        if not entry["delivered"] or entry["status"] != 200:
            continue
        if path == "product" and fault in (*WHOLE, *ONE_ITEM):
            there = sum(("price", f"DE:{asin}:{at}") in books.outbox for asin in entry["asins"])
            least = len(entry["asins"]) - (fault in ONE_ITEM)
        elif path == "bestsellers" and fault in WHOLE:
            there, least = int(at in lists), 1
        else:
            continue
        if there >= least:
            kept += 1
        elif there == 0:
            missing.append(entry)
        else:
            torn.append(f"of the answer of {at} there are {there} of {least} prices")
    return kept, missing, torn


def _answers(books: Books) -> Account:
    kept, missing, faults = lost_answers(books)
    lost = unexcused(books, missing)
    faults += [f"the {entry['path']} answer of {rfc3339(entry['at_ms'])} is lost" for entry in lost]
    answered = {
        f"DE:{asin}:{rfc3339(entry['at_ms'])}"
        for entry in books.ledger
        for asin in entry["asins"]
        if entry["path"] == "product" and entry["delivered"]
    }
    prices = {id_ for kind, id_ in books.outbox if kind == "price"}
    faults += [f"nobody ever answered {id_}" for id_ in sorted(prices - answered)]
    excused, cuts = len(missing) - len(lost), len(interruptions(books))
    if excused > 1 + cuts / CUTS_AN_ANSWER:
        faults.append(f"{excused} answers are too many to have been cut off {cuts} times")
    lists = Counter(kind for kind, _ in books.outbox)
    for path, kind in (("deal", "deal"), ("bestsellers", "bestseller")):
        if not lists[kind] and any(one["path"] == path and _whole(one) for one in books.ledger):
            faults.append(f"there is no {kind} at all")
    found = f"{kept:,} answers with {len(prices):,} prices kept, {excused} lost to {cuts} cuts"
    return Account("answers kept", found, faults)


def _whole(entry: dict[str, Any]) -> bool:
    return bool(entry["delivered"] and entry["status"] == 200 and entry["fault"] in WHOLE)


def _prices(books: Books) -> Account:
    """Look up in the simulated histories what each product cost at each check."""
    faults, compared = [], 0
    none: list[int] = []
    series = {
        (asin, index): (points[::2], points[1::2])
        for asin, histories in books.histories.items()
        for index in PRICE_TYPES
        for points in (histories.get(index, none),)
    }
    for entry in books.ledger:
        if entry["path"] != "product" or not _whole(entry):
            continue
        minute, at = entry["at_ms"] // 60_000 - 21_564_000, rfc3339(entry["at_ms"])
        for asin in entry["asins"]:
            held = books.outbox.get(("price", f"DE:{asin}:{at}"))
            if held is None:
                continue
            compared += 1
            then = {name: _at(*series[asin, index], minute) for index, name in PRICE_TYPES.items()}
            costs = {name: value for name, value in then.items() if value is not None}
            told = {name: held.body["prices"].get(name) for name in PRICE_TYPES.values()}
            told = {name: value for name, value in told.items() if value is not None}
            now = costs.get("NEW", costs.get("AMAZON"))
            if (told, held.body["current_price"]) != (costs, now):
                faults.append(f"{asin} at {at} cost {costs}, not {told}")
    return Account("every price", f"{compared:,} looked up in the simulated histories", faults)


def _at(minutes: list[int], values: list[int], minute: int) -> int | None:
    """Return what a history says of a minute; None for no offer."""
    place = bisect_right(minutes, minute) - 1
    return values[place] if place >= 0 and values[place] >= 0 else None


def _changes(books: Books) -> Account:
    """Recount the changes since the look-back from the simulated histories."""
    expected = {
        ("change", "DE", asin, type_, at): prices
        for asin, type_, at, prices in _recounted(books, books.setup.lookback_days * 1440)
    }
    held = [one for one in books.elastic if one.kind == "change"]
    there = {one.fact: (one.body["old_price"], one.body["new_price"]) for one in held}
    faults = [f"missing: {_said(fact)}" for fact in sorted(expected.keys() - there.keys())]
    faults += [f"never happened: {_said(fact)}" for fact in sorted(there.keys() - expected.keys())]
    faults += [
        f"wrong: {_said(fact)} was {expected[fact]}, is {there[fact]}"
        for fact in sorted(expected.keys() & there.keys())
        if expected[fact] != there[fact]
    ]
    return Account("every price change", f"{len(expected):,} in the simulated histories", faults)


def _drops(books: Books) -> Account:
    """Recount the alerts of one rule: by how much a price drops against the last."""
    least = 1 - books.setup.drop_percent / 100
    expected = {
        (asin, at)
        for asin, type_, at, (old, new) in _recounted(books, 0)
        if type_ == "NEW" and old is not None and new is not None and new <= old * least
    }
    alerts = [one.body for one in books.elastic if one.kind == "alert"]
    rung = {(one["asin"], one["changed_at"]) for one in alerts if one["rule"] == "drop"}
    faults = [f"did not ring: {asin} at {at}" for asin, at in sorted(expected - rung)]
    faults += [f"rang for nothing: {asin} at {at}" for asin, at in sorted(rung - expected)]
    found = f"{len(expected):,} drops, of {len(alerts):,} alerts"
    return Account("alerts recounted", found, faults)


def _recounted(
    books: Books, lookback_minutes: int
) -> Iterator[tuple[str, str, str, tuple[int | None, int | None]]]:
    """Yield every change between the first check (or before it) and the last."""
    checks: dict[str, list[str]] = {asin: [] for asin in books.setup.products}
    for kind, id_ in books.outbox:
        if kind == "price":
            _, asin, at = id_.split(":", 2)
            checks.setdefault(asin, []).append(at)
    for asin, times in checks.items():
        if not times:
            continue
        first, last = (_keepa_minute(at) for at in (min(times), max(times)))
        since = first - lookback_minutes if lookback_minutes else first + 1
        for index, name in PRICE_TYPES.items():
            points = books.histories[asin].get(index, [])
            pairs = zip(points[::2], points[1::2], strict=True)
            values = [(minute, None if value < 0 else value) for minute, value in pairs]
            for (_, old), (minute, new) in pairwise([(0, None), *values]):
                if old != new and since <= minute <= last:
                    at = rfc3339((minute + 21_564_000) * 60_000)
                    yield asin, name, at, (old, new)


def _elasticsearch(books: Books) -> Account:
    faults = [
        f"twice: {_said(fact)}"
        for fact, count in Counter(one.fact for one in books.elastic).items()
        if count > 1
    ]
    faults += _compared(books, {(one.kind, one.id): one for one in books.elastic})
    return Account("Elasticsearch", f"{len(books.elastic):,} documents, nothing twice", faults)


def _kafka(books: Books) -> Account:
    # A record's last message is its newest state, for they are in order of their key.
    newest = {(one.kind, one.id): one for one in books.kafka}
    again = len(books.kafka) - len({(one.kind, one.id, one.digest) for one in books.kafka})
    found = f"{len(books.kafka):,} messages, {again:,} of them sent again"
    faults = _compared(books, newest)
    if again > KAFKA_AGAIN * len(books.kafka):
        faults.append(f"{again:,} messages are too many to be sent again")
    return Account("Kafka", found, faults)


def _compared(books: Books, there: dict[tuple[str, str], Doc]) -> list[str]:
    """Return how what is elsewhere differs from the outbox."""
    ours = books.outbox
    return [
        *(f"missing: {_said(key)}" for key in sorted(ours.keys() - there.keys())),
        *(f"not of the outbox: {_said(key)}" for key in sorted(there.keys() - ours.keys())),
        *(
            f"differs: {_said(key)}"
            for key in sorted(ours.keys() & there.keys())
            if ours[key].digest != there[key].digest
        ),
    ]


def _tokens(books: Books) -> Account:
    """By the ledger: nothing asked for without tokens, and no more spent than there ever were."""
    setup = books.setup
    spent = sum(entry["tokens_consumed"] for entry in books.ledger)
    minutes = (setup.ended_ms - setup.began_ms) / 60_000
    given = setup.tokens + round(minutes * setup.refill_rate)
    faults = [f"{spent:,} tokens are more than {given:,}"] if spent > given else []
    sunk, unknown_until = False, 0.0
    for entry in sorted(books.ledger, key=lambda one: int(one["at_ms"])):
        at, left = rfc3339(entry["at_ms"]), entry["tokens_left"]
        # The simulator may sink its bucket itself, which then refills; its answer says so.
        if entry["fault"] == "negative":
            unknown_until = entry["at_ms"] + under_way_ms(books, entry["at_ms"])
        sunk = entry["fault"] == "negative" or (sunk and left < 0)
        known = not sunk or entry["at_ms"] > unknown_until
        if entry["status"] == 429 and entry["fault"] is None and known:
            faults.append(f"asked for {entry['path']} without tokens at {at}")
        if entry["tokens_consumed"] and left < 0 and not sunk:
            faults.append(f"{-left} tokens overspent at {at}")
    return Account("tokens", f"{spent:,} spent of {given:,}", faults)


def _told_once(books: Books) -> Account:
    kills = [event["at_s"] for event in interruptions(books) if event["by"] == "daemon killed"]
    told: set[tuple[str, str, str, str]] = set()
    faults: list[str] = []
    repeats, before_s, last = 0, 0.0, frozenset[tuple[str, str, str, str]]()
    for message in books.told:
        these = frozenset(told_alerts(message["message"]))
        again = these & told
        killed = any(before_s - 1 <= kill <= message["at_s"] for kill in kills)
        if again and killed and again <= last:
            repeats += 1
        else:
            faults += [f"told twice: {_said(one)}" for one in sorted(again)]
        told |= these
        before_s, last = message["at_s"], these
    rung = {
        (one["asin"], one["price_type"], one["changed_at"][:16].replace("T", " "), one["rule"])
        for kind, id_ in books.outbox
        if kind == "alert"
        for one in (books.outbox[kind, id_].body,)
    }
    faults += [f"never told: {_said(one)}" for one in sorted(rung - told)]
    faults += [f"told for nothing: {_said(one)}" for one in sorted(told - rung)]
    found = f"{len(told):,} in {len(books.told):,} messages, {repeats} told again after a kill"
    return Account("alerts told once", found, faults)


def told_alerts(message: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield ASIN, price type, time of the change and rule of each alert that a message tells."""
    for one in _TOLD.finditer(message):
        kind = _KINDS.get(one["kind"], one["kind"])
        for rule in one["rules"].split(", "):
            yield one["asin"], kind, one["at"], rule


def _metrics(books: Books) -> Account:
    """Every kept answer left its metric; each of another path did so, too, but for the cuts."""
    kept = Counter[tuple[Any, ...]]()
    for entry in books.ledger:
        asins, at = entry["asins"], rfc3339(entry["at_ms"])
        if asins and entry["delivered"] and ("price", f"DE:{asins[0]}:{at}") in books.outbox:
            kept[len(asins), entry["tokens_consumed"], entry["tokens_left"]] += 1
    metrics = [one.body for one in books.elastic if one.kind == "metric"]
    of_products = [one for one in metrics if one["operation"] == "product"]
    held, succeeded = (
        Counter((one["asin_count"], one["tokens_consumed"], one["tokens_left"]) for one in these)
        for these in (of_products, [one for one in of_products if one["success"]])
    )
    faults = [
        f"{count} without a metric: {asins} products for {tokens} tokens, {left} left"
        for (asins, tokens, left), count in (kept - held).items()
    ]
    asked = Counter(
        (len(entry["asins"]), entry["tokens_consumed"], entry["tokens_left"])
        for entry in books.ledger
        if entry["path"] == "product"
    )
    faults += [
        f"noted {count} times too often: {asins} products for {tokens} tokens, {left} left"
        for (asins, tokens, left), count in (succeeded - asked).items()
    ]
    noted = Counter(_call(one, one["operation"]) for one in metrics)
    unnoted = []
    for entry in books.ledger:
        if entry["path"] != "product" and _whole(entry):
            noted[_call(entry, entry["path"])] -= 1
            if noted[_call(entry, entry["path"])] < 0:
                unnoted.append(entry)
    faults += [
        f"the {entry['path']} call of {rfc3339(entry['at_ms'])} left no metric"
        for entry in unexcused(books, unnoted)
    ]
    answered = sum(entry["delivered"] for entry in books.ledger)
    found = f"{len(metrics):,} of calls, {answered:,} of them answered"
    return Account("metrics", found, faults)


def _call(of: dict[str, Any], path: str) -> tuple[Any, ...]:
    return path, of["tokens_consumed"], of["tokens_left"]


def _refused(books: Books) -> Account:
    """Nothing that we made may be refused; what Keepa garbled may be set aside, and no more."""
    faults = [
        f"{one['source']} refused {one['kind']} {one['id']}: {one['reason']}"
        for one in books.dead
        if one["source"] != "keepa"
    ]
    aside = len(books.dead) - len(faults)
    garbled = sum(entry["fault"] not in WHOLE for entry in books.ledger)
    if aside > garbled:
        faults.append(f"{aside} are set aside, but only {garbled} answers were garbled")
    return Account("nothing refused", f"{aside} garbled products set aside", faults)


def rfc3339(unix_ms: int) -> str:
    """Write a time as records do: the fraction only where there is one."""
    text = datetime.fromtimestamp(unix_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{unix_ms % 1000:03d}Z" if unix_ms % 1000 else f"{text}Z"


def _keepa_minute(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() // 60) - 21_564_000


def _said(key: Iterable[Any]) -> str:
    return " ".join(map(str, key))
