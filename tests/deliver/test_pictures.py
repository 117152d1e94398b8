"""Charts in messages: they arrive where they can, and no alert is lost or told twice for them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from pricecheck.config import Duration, Notify
from pricecheck.deliver import chart
from pricecheck.deliver.notify import NotifySink, Service
from pricecheck.deliver.sink import SinkUnsureError
from pricecheck.outbox import Outbox
from pricecheck.records import Alert
from pricecheck.timescale import TimeScale
from tests.deliver.conftest import Answer, Request, Serve, stored
from tests.deliver.test_wording import alert

ONE = alert(asin="B000000001", old_price=6_000)


class Wall:
    """A service that keeps what it is sent, and refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.told: list[Request] = []
        self.refuses: Callable[[Request], bool] = lambda _: False

    async def __call__(self, request: Request) -> Answer:
        if self.refuses(request):
            return Answer(400, b"{}")
        self.told.append(request)
        return Answer(200, b"{}")


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def sink(wall: Wall, serve_http: Serve, outbox: Outbox) -> NotifySink:
    """A JSON service with an outbox to draw from."""
    return opened((await serve_http(wall)).replace("http://", "json://"), outbox)


def opened(url: str, outbox: Outbox) -> NotifySink:
    sink = NotifySink(Service("wall", url), Notify(every=Duration(0)), time=TimeScale())
    sink.outbox = outbox
    return sink


def pictures(request: Request) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(request.body)["attachments"]
    return found


async def send(sink: NotifySink, *alerts: Alert) -> None:
    assert (await sink.send(stored(*(one.record() for one in alerts)))).refused == {}


async def test_one_alert_comes_with_a_chart(sink: NotifySink, wall: Wall) -> None:
    """In the same message, as a picture that can be opened."""
    await send(sink, ONE)

    [told] = wall.told
    [picture] = pictures(told)
    assert (picture["filename"], picture["mimetype"]) == ("chart.png", "image/png")
    assert Image.open(io.BytesIO(base64.b64decode(picture["base64"]))).size == chart.SIZE


async def test_several_products_come_without(sink: NotifySink, wall: Wall) -> None:
    """One picture would be of one of them only; several rules of one product are one thing."""
    await send(sink, ONE, alert(asin="B000000002"))
    await send(sink, ONE, alert(asin="B000000001", rule="another"))

    assert [len(pictures(told)) for told in wall.told] == [0, 1]


async def test_a_refused_picture_costs_no_alert(sink: NotifySink, wall: Wall) -> None:
    """The next try is without it; the next alert has one again."""
    wall.refuses = lambda request: bool(pictures(request))
    with pytest.raises(SinkUnsureError):
        await send(sink, ONE)
    await send(sink, ONE)
    wall.refuses = lambda _: False
    await send(sink, ONE)

    assert [len(pictures(told)) for told in wall.told] == [0, 1]


async def test_a_service_that_never_takes_one_is_spared(
    sink: NotifySink, wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """After three in a row every alert arrives at the first try."""
    wall.refuses = lambda request: bool(pictures(request))
    for _ in range(3):
        with pytest.raises(SinkUnsureError):
            await send(sink, ONE)
        await send(sink, ONE)
    await send(sink, ONE)
    await send(sink, ONE)

    assert len(wall.told) == 5
    assert caplog.text.count("charts are refused") == 1


async def test_what_cannot_be_drawn_keeps_no_alert_back(
    sink: NotifySink, wall: Wall, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that can't be read is no reason to be silent."""
    outbox.close()
    await send(sink, ONE)

    assert [len(pictures(told)) for told in wall.told] == [0]
    assert "there is no chart of an alert" in caplog.text


async def test_ntfy_gets_text_and_picture_at_once(
    wall: Wall, serve_http: Serve, outbox: Outbox
) -> None:
    """As its own server wants it: the picture as the body, the text beside it."""
    url = (await serve_http(wall)).replace("http://", "ntfy://")
    sink = opened(f"{url}/topic", outbox)

    await send(sink, ONE)

    [told] = wall.told
    assert Image.open(io.BytesIO(told.body)).size == chart.SIZE
    assert ONE.url in unquote(str(told))


async def test_where_pictures_follow_the_text_it_is_told_once(
    wall: Wall, serve_http: Serve, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discord gets two requests; that it refuses the second makes no alert ring again."""
    from apprise.plugins.discord import NotifyDiscord

    monkeypatch.setattr(NotifyDiscord, "notify_url", await serve_http(wall))
    sink = opened("discord://123456789012345678/" + "t" * 68, outbox)
    wall.refuses = lambda request: b"chart.png" in request.body

    await send(sink, ONE)
    wall.refuses = lambda _: False
    await send(sink, ONE)

    texts = [b"chart.png" not in told.body for told in wall.told]
    assert texts == [True, True, False]
