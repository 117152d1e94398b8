"""People are told through Apprise, over real sockets; nothing is lost, and no secret shown."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from pricecheck import logs
from pricecheck.config import Config, Duration, Notify, Settings
from pricecheck.deliver import notify
from pricecheck.deliver.configured import notifiers
from pricecheck.deliver.notify import KIND, NotifySink, Service, read_services
from pricecheck.deliver.relay import Relay
from pricecheck.deliver.sink import SinkUnsureError
from pricecheck.errors import ConfigError
from pricecheck.outbox import Outbox
from pricecheck.records import Record
from pricecheck.timescale import TimeScale
from tests.deliver.conftest import Answer, Request, Serve, put, running, stored, until
from tests.deliver.test_wording import alert

SECRET = "t0ps3cret-token-of-tests"
AT_ONCE = Notify(every=Duration(0))


def ring(number: int) -> Record:
    """The record of an alert."""
    return alert(asin=f"B{number:09}", title=f"Keyboard {number}", rule="target").record()


class Phone:
    """A service that keeps what it is told, and answers as it is set to."""

    def __init__(self) -> None:
        self.status = 200
        self.told: list[dict[str, Any]] = []
        self.refused = 0
        self.answers = trio.Event()
        self.answers.set()

    async def __call__(self, request: Request) -> Answer:
        await self.answers.wait()
        if self.status == 200:
            self.told.append(json.loads(request.body))
        else:
            self.refused += 1
        return Answer(self.status, b"{}")

    def titles(self) -> list[str]:
        return [one["title"] for one in self.told]


class Clock(TimeScale, frozen=True):
    """A wall clock that a test sets: minutes since midnight UTC."""

    minute: Sequence[int] = (0,)

    def now_ms(self) -> int:
        return 1_800_057_600_000 + self.minute[0] * 60_000  # midnight


Open = Callable[..., Awaitable[NotifySink]]


@pytest.fixture
def open_sink(serve_http: Serve) -> Open:
    """Let a phone answer on a socket; return a sink that tells it."""

    async def open_it(phone: Phone, config: Notify = AT_ONCE, name: str = "phone") -> NotifySink:
        url = await serve_http(phone)
        address = url.replace("http://", f"json://user:{SECRET}@") + f"/{SECRET}2/"
        return NotifySink(Service(name, address), config, time=TimeScale())

    return open_it


async def test_an_alert_is_told(open_sink: Open) -> None:
    """What it is about in the title, the rest in the body."""
    phone = Phone()
    sink = await open_sink(phone)

    assert await sink.connect() == "JSON"
    receipt = await sink.send(stored(ring(1)))

    assert (receipt.refused, receipt.again) == ({}, {})
    [told] = phone.told
    assert told["title"] == "€49.99: Keyboard 1"
    assert "At or below the target of €50.00" in told["message"]
    assert "https://www.amazon.de/dp/" in told["message"]


async def test_what_waits_together_is_one_message(open_sink: Open) -> None:
    """Thirty alerts after a night ring once."""
    phone = Phone()
    sink = await open_sink(phone)

    await sink.send(stored(*map(ring, range(30))))

    assert phone.titles() == ["30 price alerts"]
    assert all(f"Keyboard {number}\n" in phone.told[0]["message"] for number in range(30))


async def test_a_record_that_is_no_alert_costs_itself(open_sink: Open) -> None:
    """Another version may have written it; the others are told."""
    phone = Phone()
    sink = await open_sink(phone)

    receipt = await sink.send(stored(ring(1), Record(KIND, "odd", "odd", b"{}")))

    assert list(receipt.refused) == [1]
    assert phone.titles() == ["€49.99: Keyboard 1"]
    assert list((await sink.send(stored(Record(KIND, "odd", "odd", b"{}")))).refused) == [0]
    assert len(phone.told) == 1


async def test_one_that_is_down_loses_nothing_and_lets_the_others_ring_once(
    open_sink: Open, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a cursor of its own."""
    monkeypatch.setattr("pricecheck.deliver.relay.FIRST_PAUSE_UNSURE_S", 0.1)
    phone, desk = Phone(), Phone()
    phone.status = 503
    sinks = await open_sink(phone), await open_sink(desk, name="desk")
    for sink in sinks:
        outbox.enlist(sink.name, KIND)
    put(outbox, ring(1))

    async with running(Relay(sinks[0], outbox)), running(Relay(sinks[1], outbox)):
        await until(lambda: phone.refused > 1 and desk.told)
        phone.status = 200
        await until(lambda: phone.told)
        put(outbox, ring(2))
        await until(lambda: not sum(outbox.backlog(sink.name).count for sink in sinks))

    assert phone.titles() == desk.titles() == ["€49.99: Keyboard 1", "€49.99: Keyboard 2"]


async def test_after_a_restart_only_what_is_new_rings(open_sink: Open, outbox: Outbox) -> None:
    """What was told is behind the cursor."""
    phone = Phone()
    sink = await open_sink(phone)
    outbox.enlist(sink.name, KIND)

    for number in (1, 2):
        put(outbox, ring(number))
        async with running(Relay(sink, outbox)):
            await until(lambda number=number: len(phone.told) == number)  # type: ignore[misc]
            await until(lambda: not outbox.backlog(sink.name).count)

    assert phone.titles() == ["€49.99: Keyboard 1", "€49.99: Keyboard 2"]


@pytest.mark.parametrize(
    ("quiet", "minute", "is_quiet"),
    [
        ("22:00-07:00", 21 * 60 + 59, False),
        ("22:00-07:00", 22 * 60, True),
        ("22:00-07:00", 3 * 60, True),
        ("22:00-07:00", 7 * 60, False),
        ("12:30-13:00", 12 * 60 + 30, True),
        ("12:30-13:00", 13 * 60, False),
        (None, 0, False),
    ],
)
async def test_in_quiet_hours_it_takes_nothing(
    quiet: str | None, minute: int, is_quiet: bool
) -> None:
    """From the first minute to the last, over midnight too, in the zone that was set."""
    for zone, offset in (("UTC", 0), ("Asia/Kolkata", 330)):
        config = Notify(quiet=quiet, time_zone=zone)
        clock = Clock(minute=[minute - offset])
        sink = NotifySink(Service("phone", "json://127.0.0.1"), config, time=clock)

        assert (sink.limits.records == 0) == is_quiet


async def test_it_rests_after_a_message(open_sink: Open, mock_clock: MockClock) -> None:
    """What comes within a minute is gathered for the next one; a failure is tried again at once."""
    phone = Phone()
    sink = await open_sink(phone, Notify(every=Duration(60)))

    phone.status = 500
    with pytest.raises(SinkUnsureError):
        await sink.send(stored(ring(1)))
    assert sink.limits.records
    phone.status = 200
    await sink.send(stored(ring(1)))

    assert not sink.limits.records
    mock_clock.jump(59)
    assert not sink.limits.records
    mock_clock.jump(1)
    assert sink.limits.records


async def test_a_service_that_never_answers_is_given_up_and_tried_again(
    open_sink: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop never waits for it."""
    monkeypatch.setattr(notify, "ANSWER_WITHIN_S", 0.05)
    phone = Phone()
    phone.answers = trio.Event()
    sink = await open_sink(phone)

    with pytest.raises(SinkUnsureError, match="no answer within"):
        await sink.send(stored(ring(1)))

    phone.answers.set()
    await until(lambda: phone.told)


@pytest.mark.parametrize(("more", "patience"), [("", 30.0), ("?rto=2", 2.0)])
def test_a_slow_service_is_waited_for(more: str, patience: float) -> None:
    """Half a minute, unless its address says otherwise: what is late would be told again."""
    sink = NotifySink(Service("phone", f"json://127.0.0.1/{more}"), AT_ONCE, time=TimeScale())

    [plugin] = sink._service

    assert plugin.request_timeout[1] == patience


@pytest.fixture
def logged() -> io.StringIO:
    """What the program logs, at its loudest."""
    stream = io.StringIO()
    logs.setup("DEBUG", stream=stream)
    return stream


async def test_no_part_of_an_address_is_shown(
    open_sink: Open, outbox: Outbox, logged: io.StringIO
) -> None:
    """Not in the reason, nor in status, nor in the log at its loudest; the cause still is."""
    phone = Phone()
    phone.status = 401
    sink = await open_sink(phone)
    outbox.enlist(sink.name, KIND)
    put(outbox, ring(1))
    relay = Relay(sink, outbox)

    async with running(relay):
        await until(lambda: relay._trouble)
        status = await relay.status()

    assert "error=401" in str(status.trouble)
    assert "not delivering" in logged.getvalue()
    shown = logged.getvalue() + repr(status) + repr(Service("phone", SECRET))
    for word in (SECRET, "JSON Payload", "127.0.0.1"):
        assert word not in shown


async def test_even_a_host_may_be_the_secret() -> None:
    """As Telegram's address has its token there: what Apprise calls it is taken out."""
    address = f"json://127.0.0.1:9/{SECRET}"
    sink = NotifySink(Service("phone", address), AT_ONCE, time=TimeScale())

    with pytest.raises(SinkUnsureError, match="Connection error") as caught:
        await sink.send(stored(ring(1)))

    assert "127.0.0.1" not in str(caught.value)
    assert logs.redacted(f"POST /{SECRET} failed") == "POST /*** failed"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ntfys://ntfy.sh/topic", ["ntfys"]),
        ("phone=ntfys://ntfy.sh/topic\n# a comment\n\ndesk=json://h/?a=b", ["phone", "desk"]),
        ("ntfys://a/b json://c tgram://1:2/3/", ["ntfys", "json", "tgram"]),
        ("phone=json://a/?to=b,c,desk=json://d, json://e,", ["phone", "desk", "json"]),
        ("", []),
    ],
)
def test_addresses_have_names(text: str, names: list[str]) -> None:
    """Their own, or that of their scheme."""
    assert [service.name for service in read_services(text)] == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"json://a\n{SECRET}", "address 2 of 2 is none"),
        (f"json://a/{SECRET} json://b", "two addresses are called json"),
        (f"Phone=json://{SECRET}", "address 1 of 1 is none"),
    ],
)
def test_addresses_that_can_not_be_read_are_refused_unseen(text: str, reason: str) -> None:
    """The remedy says how to write them."""
    with pytest.raises(ConfigError, match=reason) as caught:
        read_services(text)

    assert caught.value.remedy
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", [f"bogus://{SECRET}", f"tgram://{SECRET}"])
def test_an_address_that_apprise_does_not_understand_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, by the name that it was given."""
    monkeypatch.setenv("NOTIFY_URLS", f"phone={address}")

    with pytest.raises(ConfigError, match="the address called phone") as caught:
        notifiers(Settings(Config(notify=Notify()), None))

    assert SECRET not in str(caught.value)


def test_not_even_first_and_last_letter_of_a_secret_are_shown() -> None:
    """Apprise shortens an address to those when it can't use it."""
    address = "mailto://joe:Qsecret99Z@127.0.0.1:1?smtp=127.0.0.1&to=x@y.example"

    with pytest.raises(ConfigError) as caught:
        NotifySink(Service("mail", address), AT_ONCE, time=TimeScale())

    assert "Could not load E-Mail URL: ***" in str(caught.value)


def test_a_section_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would be told, and nobody would know."""
    monkeypatch.delenv("NOTIFY_URLS", raising=False)

    with pytest.raises(ConfigError, match="no address"):
        notifiers(Settings(Config(notify=Notify()), None))
    assert notifiers(Settings(Config(), None)) == []


def test_an_alert_of_a_newer_version_is_read() -> None:
    """Fields that we do not know do not matter."""
    body = msgspec.json.decode(ring(1).body) | {"mood": "glad"}

    assert notify._decode(msgspec.json.encode(body)).asin == "B000000001"
