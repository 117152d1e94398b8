"""Tells people of alerts, through Apprise: each service is a sink of its own.

Each has a relay and a cursor, so that one that is down keeps its alerts for later, and the
others neither wait nor ring twice. What waits together is told in one message: a sink takes
nothing during quiet hours, nor so soon after its last message, and then all there is.

One alert by itself comes with a chart, where the service takes pictures. A picture that a service
refuses costs no alert, and none is told twice for its sake: see `_WITH_TEXT`.

Addresses hold secrets: they are shown to nobody, and neither is what Apprise says, before all
that is part of an address has been taken out of it.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import unquote

import msgspec
import trio

from pricecheck import logs
from pricecheck.config import Notify
from pricecheck.deliver.sink import Limits, Receipt, SinkUnsureError
from pricecheck.deliver.wording import Message, Voice, message
from pricecheck.errors import ConfigError
from pricecheck.logs import kv
from pricecheck.outbox import Outbox, Stored, lookup
from pricecheck.records import Alert, Change
from pricecheck.timescale import TimeScale

if TYPE_CHECKING:
    import apprise

_log = logging.getLogger(__name__)

KIND: Final = "alert"
"""The records that are told; a relay of ours is enlisted for them."""

ANSWER_WITHIN_S: Final = 60.0
_READ_WITHIN_S: Final = 30.0
_AT_ONCE: Final = Limits(records=30, bytes=1_000_000)
_NOTHING: Final = Limits(records=0, bytes=0)
_LONG: Final = 12
"""What is as long in an address, and no host's name, is kept out of every log."""

_REASON: Final = 300

_NAMED: Final = re.compile(
    r"(?:(?P<name>[a-z0-9][a-z0-9_-]{0,30})=)?(?P<url>(?P<scheme>\w+)://\S+)"
)

_BETWEEN: Final = re.compile(r",*\s+|,+(?=(?:[\w-]+=)?\w+://)|,+$")
"""A comma ends an address only where another begins, for it may be part of one."""

_ADDRESS: Final = re.compile(r"\w+://\S+")

_WITH_TEXT: Final = frozenset(
    {
        "E-Mail",
        "Form",
        "JSON",
        "Mattermost",
        "ntfy",
        "Pushover",
        "Signal API",
        "Telegram",
        "XML",
    }
)
"""Services that get picture and text at once, so that what is refused was not told either.

From Apprise's plugins, each of which has its own way with attachments."""

_AFTER_TEXT: Final = frozenset({"Discord", "Slack"})
"""Services that get a picture after the text: whether it arrives or not, the alert was told."""

_REFUSALS: Final = 3
"""So many messages in a row that arrive only without their picture end the pictures."""

Form: TypeAlias = Literal["text", "markdown", "html"]

_decode = msgspec.json.Decoder(Alert).decode
_decode_change = msgspec.json.Decoder(Change).decode


class Service(msgspec.Struct, frozen=True):
    """Where to tell somebody: a name for people, and Apprise's address."""

    name: str
    url: str

    def __repr__(self) -> str:
        """Without the address, for it holds secrets."""
        return f"Service({self.name!r})"


def read_services(text: str) -> list[Service]:
    """Read addresses apart by space, lines or commas; `phone=ntfys://...` names one, # comments.

    One without a name is called by its scheme. Raises ConfigError, without showing any.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    words = [word for word in _BETWEEN.split(" ".join(lines)) if word]
    services: list[Service] = []
    for number, word in enumerate(words, start=1):
        found = _NAMED.fullmatch(word)
        if found is None:
            raise ConfigError(
                f"notify: address {number} of {len(words)} is none",
                remedy="write them like phone=ntfys://ntfy.sh/topic, one a line",
            )
        services.append(Service(found["name"] or found["scheme"].lower(), found["url"]))
    names = [service.name for service in services]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"notify: two addresses are called {min(twice)}",
            remedy="name them apart: phone=... and desk=...",
        )
    return services


class NotifySink:
    """One service."""

    notes: Sequence[str] = ()

    outbox: Outbox | None = None
    """What charts are drawn from; without it, there are none."""

    def __init__(
        self, service: Service, config: Notify, *, time: TimeScale, simulated: bool = False
    ) -> None:
        """Set it up without reaching it. Raises ConfigError for an address that is none."""
        self.name = f"notify:{service.name}"
        self.voice = Voice(config.language, config.zone, simulated)
        self._config = config
        self._time = time
        self._pieces = _hide(service.url)
        self._service = self._open(service)
        self._kind = str(self._service[0].service_name)
        self._follows = self._kind in _AFTER_TEXT  # a picture does
        shown = self._follows or self._kind in _WITH_TEXT
        self._takes_pictures = shown and bool(self._service[0].attachment_support)
        self._rests_until = -math.inf
        self._plain = False  # the last try, which failed, had a picture
        self._refusals = 0
        self._calls = trio.CapacityLimiter(1)  # one that hangs is not joined by a second

    @property
    def limits(self) -> Limits:
        """How much it takes now: nothing while it is quiet, or has just rung."""
        now = datetime.fromtimestamp(self._time.now_ms() / 1000).astimezone(self._config.zone)
        quiet = self._config.is_quiet(now.hour * 60 + now.minute)
        return _NOTHING if quiet or trio.current_time() < self._rests_until else _AT_ONCE

    async def connect(self) -> str:
        """Return what kind of service it is; to ask it anything would ring."""
        return self._kind

    async def send(self, batch: Sequence[Stored]) -> Receipt:
        """Tell of all alerts of a batch in one message. Raises SinkUnsureError."""
        refused: dict[int, str] = {}
        alerts: list[Alert] = []
        for place, stored in enumerate(batch):
            try:
                alerts.append(_decode(stored.record.body))
            except msgspec.DecodeError as error:
                refused[place] = str(error)
        if alerts:
            picture = None if self._plain else await self._picture(alerts)
            try:
                await self.tell(message(alerts, self.voice), picture=picture)
            except SinkUnsureError:
                self._plain = self._plain or picture is not None
                raise
            self._count_refusals(picture)
            rest_s = self._config.every * self._time.factor
            self._rests_until = trio.current_time() + rest_s
        return Receipt(refused=refused)

    async def tell(
        self, told: Message, form: Form = "text", *, picture: bytes | None = None
    ) -> None:
        """Send a message now, with a PNG if there is one and the service takes it.

        Raises SinkUnsureError, with the service's reason. Cancelled or out of time, the message
        may still arrive.
        """
        call = partial(self._notify, told, form, picture)
        with trio.move_on_after(ANSWER_WITHIN_S * self._time.factor) as patience:
            reason = await trio.to_thread.run_sync(
                call, abandon_on_cancel=True, limiter=self._calls
            )
        if patience.cancelled_caught:
            reason = f"no answer within {ANSWER_WITHIN_S:.0f} s"
        if reason is not None:
            raise SinkUnsureError(reason)

    async def close(self) -> None:
        """Nothing is kept open between two messages."""

    def _open(self, service: Service) -> apprise.Apprise:
        import apprise

        asset = apprise.AppriseAsset(app_id="pricecheck", app_desc="price alerts")
        opened = apprise.Apprise(asset=asset)
        with _listening() as said:
            known = opened.add(service.url)
        if not known:
            raise ConfigError(
                f"notify: Apprise does not understand the address called {service.name}"
                + (f": {self._without_secrets(said)}" if said else ""),
                remedy="see its list of services: github.com/caronc/apprise/wiki",
            )
        for plugin in opened:
            if "overflow=" not in service.url:  # of what is too long for one, make two
                plugin.overflow_mode = apprise.OverflowMode.SPLIT
            if "rto=" not in service.url:  # Apprise's 4 s: what comes late would be told again
                plugin.socket_read_timeout = _READ_WITHIN_S
        return opened

    async def _picture(self, alerts: Sequence[Alert]) -> bytes | None:
        """Draw the chart of an alert that is told by itself, where it can be shown."""
        if self.outbox is None or self._refusals == _REFUSALS or not self._takes_pictures:
            return None
        first = alerts[0]
        if any((one.domain, one.asin) != (first.domain, first.asin) for one in alerts):
            return None
        return await trio.to_thread.run_sync(self._draw, first, self.outbox)

    def _draw(self, alert: Alert, outbox: Outbox) -> bytes | None:
        from pricecheck.deliver import chart

        now_ms = self._time.now_ms()
        try:
            since_ms = now_ms - chart.REACH_MS
            bodies = lookup.changes(outbox, alert.asin, domain=alert.domain, since_ms=since_ms)
            changes = map(_decode_change, bodies)
            return chart.draw(alert, changes, self.voice, now_ms=now_ms)
        except Exception as error:  # noqa: BLE001  # nothing of a picture's keeps an alert back
            why = f"{type(error).__name__}: {error}"
            _log.warning("there is no chart of an alert", extra=kv(to=self.name, error=why))
            return None

    def _count_refusals(self, picture: bytes | None) -> None:
        if picture is not None:
            self._refusals = 0
        elif self._plain:
            self._plain = False
            self._refusals += 1
            if self._refusals == _REFUSALS:
                _log.warning("charts are refused: there are no more", extra=kv(to=self.name))

    def _notify(self, told: Message, form: Form, picture: bytes | None) -> str | None:
        """Send, in a thread; return why that failed, or None."""
        arrived = False
        with _listening() as said:
            try:
                attach = _attachment(picture) if picture and self._takes_pictures else None
                arrived = bool(
                    self._service.notify(
                        body=told.body,
                        title=told.title,
                        body_format=form,
                        attach=None if self._follows else attach,
                    )
                )
                if arrived and self._follows and attach:
                    self._service.notify(body="", attach=attach)
            except Exception as error:  # noqa: BLE001  # a hundred services' code, each its own
                said.append(f"{type(error).__name__}: {error}")
        return None if arrived else self._without_secrets(said) or "it does not say why"

    def _without_secrets(self, said: Sequence[str]) -> str:
        # What Apprise has shortened itself is not whole, but has its ends.
        return _ADDRESS.sub("***", self._pieces.sub("***", "; ".join(said)))[:_REASON]


def _attachment(picture: bytes) -> apprise.AppriseAttachment:
    from apprise import AppriseAttachment
    from apprise.attachment.memory import AttachMemory

    memory: Any = AttachMemory  # not typed
    return AppriseAttachment(memory(picture, name="chart.png", mimetype="image/png"))


class _Ear(logging.Handler):
    """Gathers what Apprise says in the course of one call, in whatever thread."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning or worse, if somebody listens."""
        said = _listener.get()
        if said is not None and record.levelno >= logging.WARNING:
            said.append(record.getMessage())


_listener: ContextVar[list[str] | None] = ContextVar("_listener", default=None)
_apprise = logging.getLogger("apprise")
_apprise.propagate = False  # it names addresses
_apprise.addHandler(_Ear())


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Gather what Apprise says meanwhile."""
    said: list[str] = []
    token = _listener.set(said)
    try:
        yield said
    finally:
        _listener.reset(token)


def _hide(url: str) -> re.Pattern[str]:
    """Keep an address out of every log; return a pattern of all that is in it.

    Any part may be the secret, even what stands in a host's place. Short ones are words of the
    log's own as well, so they are taken only out of what Apprise says.
    """
    parts = {part for part in re.split(r"[/:@?&=#,]+", url.partition("://")[2]) if len(part) > 2}
    logs.redact(url)
    for part in parts:
        if len(part) >= _LONG and "." not in part:
            logs.redact(part)
    longest_first = sorted({url, *parts, *map(unquote, parts)}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
