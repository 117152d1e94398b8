"""What reads files and answers of strangers, and what must hold whatever is in them.

Nothing but the declared error comes, and it says something; what was read can be written again,
and then reads as the same; an edit changes what it says it does, and nothing else.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from pricecheck import (
    config,
    durations,
    extras,
    identify,
    importing,
    status,
    watchfile,
    watchlist,
)
from pricecheck.collect import digest, products
from pricecheck.collect.deals import DerivedDeals, digest_deals
from pricecheck.config import Config, DealRule, Domain, checks, loading
from pricecheck.deliver import notify
from pricecheck.errors import ConfigError, InputError, NotRunningError
from pricecheck.keepa import errors, wire
from pricecheck.keepa.client import DealsAnswer, ProductsAnswer
from pricecheck.keepa.tables import PRICE_TYPES, PriceType
from pricecheck.outbox import Commit
from pricecheck.watchlist import COLUMNS, Watch
from scripts.fuzzing.search import Target

_NOW_MS: Final = 1_790_000_000_000
_DEFAULT: Final = Watch("", "DE", 1.0, None, 21_600)
_READABLE: Final = 600
_ASIN: Final = "B0D8W1YVBX"
_EXAMPLE: Final = "phone=ntfys://ntfy.sh/topic"  # of the remedy


@contextmanager
def file_targets(folder: Path) -> Iterator[list[Target]]:
    """Yield the targets that need no daemon; files and a socket are made in the folder."""
    answers = _words(_ASIN, '"products":[', '"asin":', "null", "[", "{")
    cells = _words(*COLUMNS, _ASIN, "3446268000", "DE", "12,5", "1h", ";", ",", "\t", "sep=")
    addresses = _words("https://", "amazon.", "/dp/", "%2F", "#!product/3-", "978", "X", "[", "@")
    tables = (f"\n[{name}]\n" for name in Config.__struct_fields__)
    keys = _words(*tables, '\nevery = "6h"', '\nname = "a"', "[[", "]]", "'")
    links = _words("json://", "phone=", ",", " ", "\n#")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / status.SOCKET_NAME))
    listening.listen()
    yield [
        Target("wire", judge_answer, (wire, errors), answers, is_json=True),
        Target("digest", judge_digest, (digest, products), answers, is_json=True),
        Target("watchlist", _on_file(folder, judge_watchlist), (watchlist, watchfile), cells),
        Target("importing", _on_file(folder, judge_list), (importing, extras), cells + addresses),
        Target("identify", judge_name, (identify,), addresses),
        Target("config", _on_file(folder, judge_config), (loading, checks, durations), keys),
        Target("services", judge_services, words=links),
        Target("told", _asked(folder, listening), (status,), is_json=True),
    ]
    listening.close()


def judge_answer(body: bytes) -> None:
    """Judge Keepa's answer: a WireError, or each part can be read, or else says why not."""
    try:
        answer = wire.decode(body)
    except wire.WireError as error:
        _judge_error(error)
        return
    for code in (200, 302, 400, 404, 429, 500):
        failure = errors.of_answer(code, answer.fault, answer.envelope)
        assert failure is None or str(failure)
        wait_ms = failure.retry_after_ms if failure else None
        assert wait_ms is None or 0 <= wait_ms <= 86_400_000
    good, bad = wire.products(answer)
    with _says_why(wire.WireError):
        good_deals, bad_deals = wire.deals(answer)
        bad = bad + bad_deals
        for deal in good_deals:
            assert msgspec.json.decode(msgspec.json.encode(deal), type=wire.Deal) == deal
    with _says_why(wire.WireError):
        found = wire.bestsellers(answer)
        assert found is None or all(isinstance(asin, str) for asin in found.asin_list)
    with _says_why(wire.WireError):
        assert all(isinstance(asin, str) for asin in wire.found(answer))
    for misfit in bad:
        assert misfit.reason
        assert misfit.raw in body
    for product in good:
        assert msgspec.json.decode(msgspec.json.encode(product), type=wire.Product) == product
        for series in PRICE_TYPES:
            wire.last_value(product, series)
            with _says_why(wire.WireError):
                _judge_history(product, series)


def _judge_history(product: wire.Product, series: PriceType) -> None:
    history = wire.points(product, series)
    minutes = [point.minute for point in history]
    assert minutes == sorted(minutes)
    for since in {0, *minutes[-2:]}:
        whole = wire.points(product, series, since)
        assert wire.points(product, series, since, only_tail=True) == whole


def judge_digest(body: bytes) -> None:
    """Judge what is committed of an answer: no bug is in it, and nothing is told twice."""
    try:
        answer = wire.decode(body)
    except wire.WireError:
        return
    good, bad = wire.products(answer)
    watches = [Watch(product.asin, "DE", 1.0, 5_000, 21_600) for product in good]
    known: dict[str, products.Known | None] = {}
    rule = DealRule(domain=Domain("DE"))
    for again in (False, True):
        if watches:
            done = digest.digest_products(
                ProductsAnswer(answer.envelope, good, bad),
                watches,
                known,
                now_ms=_NOW_MS,
                lookback_s=7_776_000,
                derived=DerivedDeals(),
                rules=Config().alert_rules,
            )
            _judge_commit(done.commit)
            ids = [(record.kind, record.id) for record in done.commit.records]
            assert len(ids) == len(set(ids)), "an id twice"
            if again:
                assert not any(lesson.changes for lesson in done.lessons), "told twice"
                assert not done.alerts, "rung twice"
            for lesson in done.lessons:
                known[lesson.asin] = products.recall(products.remember(lesson.known))
                assert known[lesson.asin] == lesson.known
    with suppress(wire.WireError):
        page = digest_deals(
            DealsAnswer(answer.envelope, *wire.deals(answer)), rule, page=0, now_ms=_NOW_MS
        )
        _judge_commit(page)


def _judge_commit(commit: Commit) -> None:
    for letter in commit.dead_letters:
        assert letter.reason
        # A bug of ours names its type there; a fault of Keepa's is told in words.
        assert "Error: " not in letter.reason, letter.reason
    for record in commit.records:
        json.loads(record.body)


def judge_watchlist(path: Path, content: bytes) -> None:
    """Judge what the daemon and the editor see, and that an edit does just what it says."""
    try:
        read = watchlist.load(path, domain="DE")
    except ConfigError as error:
        _judge_error(error, path)
        return
    file = watchfile.parse(path, content, domain="DE")
    watched = {(watch.domain, watch.asin) for watch in read.watches}
    assert watched <= file.first.keys()
    assert all(0 < bad.line <= len(file.lines) for bad in read.bad)
    assert all(0 < len(bad.reason) < _READABLE for bad in read.bad)
    assert watchfile.removed(file, ()) == watchfile.edited(file, ()) == content
    emptied = watchfile.parse(path, watchfile.removed(file, file.first), domain="DE")
    assert not emptied.first
    for product in [*file.first][:1]:
        fewer = watchfile.parse(path, watchfile.removed(file, [product]), domain="DE")
        assert list(fewer.first) == [one for one in file.first if one != product]
    with _says_why(InputError):  # no column for what has to be written
        rows = [watchfile.cells_of(file, watch, COLUMNS) for watch in read.watches]
        path.write_bytes(watchfile.edited(emptied, rows))
        assert watchlist.load(path, domain="DE").watches == read.watches
    if "weight" in file.layout.columns and not read.bad:
        heavy = {line: {"weight": "7"} for line in file.first.values()}
        path.write_bytes(watchfile.edited(file, (), heavy))
        after = watchlist.load(path, domain="DE").watches
        assert after == tuple(msgspec.structs.replace(one, weight=7.0) for one in read.watches)


def judge_list(path: Path, content: bytes) -> None:
    """Judge what others wrote: each product once, each bad line with its number and a reason."""
    del content
    try:
        listed = importing.read(path, _DEFAULT)
    except InputError as error:
        _judge_error(error, path)
        return
    products_of = [(item.watch.domain, item.watch.asin) for item in listed.items]
    assert len(products_of) == len(set(products_of))
    assert all(bad.line > 0 and 0 < len(bad.reason) < _READABLE for bad in listed.bad)
    for item in listed.items:
        cells = watchfile.written(item.watch)
        again = watchlist.parse_cells([cells[name] for name in COLUMNS], _DEFAULT)
        assert again == item.watch


def judge_name(written: bytes) -> None:
    """Judge what a person wrote for a product: InputError, or an ASIN that is known as itself."""
    try:
        asin, market = identify.identify(written.decode(errors="surrogateescape"))
    except InputError as error:
        _judge_error(error)
        return
    assert identify.identify(asin) == (asin, None)
    if market is not None:
        assert identify.identify(products.product_url(market, asin)) == (asin, market)


def judge_config(path: Path, content: bytes) -> None:
    """Judge a config: ConfigError that names the file, or settings whose every part can be used."""
    del content
    try:
        settings = config.load(path)
    except ConfigError as error:
        _judge_error(error, path)
        return
    assert config.load(path) == settings
    whole = settings.config
    with _says_why(ConfigError):  # a ~ of somebody unknown
        assert settings.watchlist
        assert settings.state_directory()
    assert whole.time.now_ms() > 0
    assert [rule.name for rule in whole.alert_rules]
    assert whole.others_a_minute(whole.prior_costs) >= 0
    assert all(rule.name for rule in whole.deals)
    assert all(rule.name for rule in whole.bestsellers)
    assert all(rule.source_name for rule in whole.discovery)
    assert all(whole.names.by_kind().values())
    _ = whole.web and whole.web.place
    _ = whole.notify and (whole.notify.zone, whole.notify.is_quiet(0))


def judge_services(text: bytes) -> None:
    """Judge addresses of services: ConfigError that shows none of them, or names that are apart."""
    written = text.decode(errors="replace")
    try:
        services = notify.read_services(written)
    except ConfigError as error:
        _judge_error(error, "notify: ")
        _judge_hidden(written, str(error).replace(_EXAMPLE, ""))
        return
    names = [service.name for service in services]
    assert len(names) == len(set(names))
    assert "://" not in repr(services)


def _judge_hidden(written: str, said: str) -> None:
    """Judge that no address of what was written is said, neither whole nor without its scheme."""
    assert "://" not in said, said
    # What has none of these signs may be a word of ours, or a name.
    rests = re.findall(r"://([^\s,]*[/@?][^\s,]*)", written)
    assert not any(rest in said for rest in rests), said


def _asked(folder: Path, listening: socket.socket) -> Callable[[bytes], None]:
    """Judge the client of the status socket: whatever answers there, it says what is wrong."""

    def judge(answer: bytes) -> None:
        def speak() -> None:
            with listening.accept()[0] as asker, suppress(OSError):
                asker.sendall(answer)

        daemon = threading.Thread(target=speak)
        daemon.start()
        try:
            status.ask(folder)
        except NotRunningError as error:
            _judge_error(error, str(folder) if "version" not in str(error) else "")
        finally:
            daemon.join()

    return judge


def _words(*words: str) -> tuple[bytes, ...]:
    return tuple(word.encode() for word in words)


def _on_file(folder: Path, judge: Callable[[Path, bytes], None]) -> Callable[[bytes], None]:
    path = folder / "given"

    def on_file(content: bytes) -> None:
        path.write_bytes(content)
        judge(path, content)

    return on_file


@contextmanager
def _says_why(kind: type[Exception]) -> Iterator[None]:
    """Let an error of that kind pass, if it says something."""
    try:
        yield
    except kind as error:
        _judge_error(error)


def _judge_error(error: Exception, place: Path | str = "") -> None:
    assert str(error)
    assert str(place) in str(error), f"does not say where: {error}"
