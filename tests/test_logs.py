"""What the log looks like, and what never appears in it."""

from __future__ import annotations

import html
import io
import json
import logging
import os
import pty
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import httpx
import pytest
import trio

from pricecheck.logs import excerpt, kv, redact, redacted, setup

SECRET = "tr0ub4dor/&3 +'ü\""

log = logging.getLogger("pricecheck.test")


@pytest.fixture(autouse=True)
def no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one read what the tests write."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


@pytest.fixture
def written() -> Callable[[], str]:
    """Log at DEBUG into memory; call it for what was written."""
    stream = io.StringIO()
    setup("DEBUG", stream=stream)
    return stream.getvalue


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Log at DEBUG into a file that systemd claims to read."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        file = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{file.st_dev}:{file.st_ino}")
        setup("DEBUG", stream=stream)
        yield path


def test_people_read_time_level_event_and_fields(written: Callable[[], str]) -> None:
    """Without a terminal the line is plain."""
    log.info("prices checked", extra=kv(domain="DE", asked=31))
    log.warning("foreign tokens")

    info, warning = written().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO  prices checked domain=DE asked=31", info)
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARN  foreign tokens", warning)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (7, "7"),
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("one\ntwo", r'"one\ntwo"'),
        ("\x1b[31mred\x9b", r'"\x1b[31mred\x9b"'),
        ("größer", "größer"),
    ],
)
def test_a_value_is_quoted_where_it_has_to_be(
    written: Callable[[], str], value: object, shown: str
) -> None:
    """The fields can be told apart again, and none breaks the line."""
    log.info("e", extra=kv(key=value))

    assert written().endswith(f" e key={shown}\n")


def test_a_newline_in_a_message_stays_on_the_line(written: Callable[[], str]) -> None:
    """No text from outside can forge a line of the log."""
    log.info("title %s", "one\n00:00:00 ERROR forged\x1b[2J")

    assert written().endswith(r"title one\n00:00:00 ERROR forged\x1b[2J" + "\n")


def test_a_level_keeps_out_what_is_below_it() -> None:
    """The level is a name in either case; the second setup replaces the first."""
    first, second = io.StringIO(), io.StringIO()
    setup("DEBUG", stream=first)

    setup("warning", stream=second)
    log.info("below")
    log.warning("at")

    assert first.getvalue() == ""
    assert [line.split()[-1] for line in second.getvalue().splitlines()] == ["at"]


def test_the_journal_gets_priorities_instead_of_times(journal: Path) -> None:
    """systemd takes the syslog priority from the line's beginning."""
    for level in (10, 20, 25, 30, 40, 50):
        log.log(level, "event", extra=kv(n=level))

    assert journal.read_text().splitlines() == [
        "<7>event n=10",
        "<6>event n=20",
        "<6>event n=25",
        "<4>event n=30",
        "<3>event n=40",
        "<2>event n=50",
    ]


def test_a_traceback_follows_in_the_journal_with_the_same_priority(journal: Path) -> None:
    """Each line of a traceback has the priority of its event and is indented."""
    try:
        raise ValueError("bad\nvalue\x1b")
    except ValueError:
        log.exception("task crashed")

    lines = journal.read_text().splitlines()
    assert lines[:2] == ["<3>task crashed", "<3>  Traceback (most recent call last):"]
    assert all(line.startswith("<3>  ") for line in lines[1:])
    assert lines[-2:] == ["<3>  ValueError: bad", r"<3>  value\x1b"]


def test_another_stream_than_the_journals_is_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JOURNAL_STREAM is inherited by shells too; only the very same file counts."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "log").open("w+") as stream:
        setup(stream=stream)
        log.info("event")

        stream.seek(0)
        assert not stream.read().startswith("<")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colour_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    """Only a real terminal, without NO_COLOR."""
    monkeypatch.setenv("NO_COLOR", no_color)
    ours, terminal = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(terminal, "w") as stream:
        setup(stream=stream)
        log.error("event")

        assert (b"\x1b[31mERROR\x1b[0m" in screen.read(200)) is coloured


@pytest.mark.parametrize(
    "spelt",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        repr(SECRET),
        json.dumps(SECRET),
        repr(SECRET.encode()),
        html.escape(SECRET),
        json.dumps(SECRET).replace("/", "\\/").replace("&", "\\u0026"),
        str(httpx.URL("http://host/", params={"q": SECRET})),
    ],
)
def test_a_secret_is_hidden_however_it_is_quoted(spelt: str) -> None:
    """Plain, for URLs, for code and for JSON."""
    redact(SECRET)

    text = redacted(f"<{spelt}>")

    assert re.search(r"tr0ub4dor|3", text) is None
    assert "***" in text


@pytest.mark.parametrize("before", ["", "u", "me", "me:", "user:"])
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_a_secret_within_base64_is_hidden(encode: Callable[[bytes], bytes], before: str) -> None:
    """As it stands in headers that a server may quote: no more than its ends are to be seen."""
    redact(SECRET)

    shown = redacted(f"Basic {encode(f'{before}{SECRET}'.encode()).decode()} refused")

    assert re.fullmatch(r"Basic [\w+/-]{0,8}\*\*\*[\w=+/-]{0,4} refused", shown)


def test_a_short_secret_is_not_looked_for_in_base64() -> None:
    """It would hide parts of words."""
    redact("the")

    assert redacted(f"{b64encode(b'the').decode()} the") == "dGhl ***"


def test_a_secret_within_a_secret_leaves_nothing_to_see() -> None:
    """The longer one is hidden first, in whichever order they came."""
    redact("abc")
    redact("abcdef")

    assert redacted("abcdef abc") == "*** ***"


@pytest.mark.parametrize("before", [0, 75, 95, 100, 10_000_000])
def test_an_excerpt_ends_in_no_half_of_a_secret(before: int) -> None:
    """Wherever in a text the secret stands, and however long that is."""
    redact(SECRET)

    shown = excerpt("-" * before + SECRET, 100)

    assert set(shown) <= {"-", "*"}
    assert len(shown) == min(before + 3, 100)


def test_an_empty_secret_hides_nothing() -> None:
    """A credential that isn't set must not turn the log into asterisks."""
    redact("")

    assert redacted("plain") == "plain"


def test_the_key_of_any_url_is_hidden() -> None:
    """Even a key nobody registered, wherever it stands in the query."""
    text = "GET 'https://api.keepa.com/token?key=abc' /product?domain=3&key=d%2Fef&asin=B0 monkey=1"

    assert redacted(text) == (
        "GET 'https://api.keepa.com/token?key=***' /product?domain=3&key=***&asin=B0 monkey=1"
    )


def test_no_secret_gets_into_a_line(written: Callable[[], str]) -> None:
    """Not by the message, its arguments or a field."""
    redact(SECRET)

    log.debug(f"in the message {SECRET}")
    log.debug("in the arguments %s %r", SECRET, {"password": SECRET})
    log.debug("in a field", extra=kv(password=SECRET, config={"password": SECRET}))

    assert "tr0ub4dor" not in written()
    assert written().count("***") == 5


def test_arguments_that_do_not_fit_are_logged_without_the_secret() -> None:
    """Our own mistake in a call to log costs neither the line nor a secret."""
    redact(SECRET)
    stream = io.StringIO()
    setup(stream=stream)  # in the test itself: pytest's own handlers would raise

    log.info("asked %d", SECRET)

    assert stream.getvalue().endswith(" asked %d ('***',)\n")


def test_no_secret_gets_into_a_traceback(written: Callable[[], str]) -> None:
    """Nor by the cause, a note or a group."""
    redact(SECRET)

    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            error.add_note(SECRET)
            raise ExceptionGroup("group", [ValueError(SECRET)]) from error
    except ExceptionGroup:
        log.exception("crashed")

    assert "tr0ub4dor" not in written()
    assert written().count("***") == 3


def test_no_line_of_a_longer_secret_gets_into_a_traceback(written: Callable[[], str]) -> None:
    """A private key is found although a traceback is written line by line."""
    redact("first line\nsecond line")

    try:
        raise ValueError("first line\nsecond line")
    except ValueError:
        log.exception("crashed")

    assert "ValueError: ***" in written()
    assert "second line" not in written()


async def answer(stream: trio.SocketStream) -> None:
    """Answer one HTTP request with an error."""
    async with stream:
        await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 402 Payment Required\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("chatty", [False, True])
async def test_no_secret_gets_out_through_httpx(
    nursery: trio.Nursery, written: Callable[[], str], chatty: bool
) -> None:
    """A real request logs nothing of its own, and no key even where someone turns that on."""
    redact(SECRET)
    if chatty:
        logging.getLogger("httpx").setLevel(logging.DEBUG)
        logging.getLogger("httpcore").setLevel(logging.DEBUG)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/{quote(SECRET, safe='')}/token"

    async with httpx.AsyncClient() as client:
        response = await client.get(url, params={"key": "planted", "secret": SECRET})
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError:
        log.exception("call failed")

    assert ("HTTP Request" in written()) is chatty
    assert "402 Payment Required" in written()
    assert "key=***" in written()
    assert re.search("planted|tr0ub4dor", written()) is None
