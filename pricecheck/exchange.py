"""Exchange rates: the operator's own, and the European Central Bank's of each working day.

The bank's are kept in a file in the state directory, so that commands and the next start have
them, too. Nothing here knows what the rates are for.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree  # expat refuses entities that multiply

import msgspec

from pricecheck.errors import PricecheckError
from pricecheck.logs import kv

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.supervisor import Heartbeat
    from pricecheck.timescale import TimeScale

log = logging.getLogger(__name__)

FILE_NAME: Final = "exchange-rates.json"
"""What the bank's rates are kept in, in the state directory."""

_EVERY_S: Final = 6 * 3600
_AGAIN_S: Final = 1800
_WITHIN_S: Final = 30
_MOST_BYTES: Final = 1_000_000


class ExchangeError(PricecheckError):
    """The bank's rates can't be had now."""


class Rates(msgspec.Struct, frozen=True):
    """How many units of each currency one euro buys."""

    per_euro: dict[str, float] = {}
    day: str | None = None  # which the bank's rates are of; None when there are none

    def convert(self, amount: int, source: Marketplace, target: Marketplace) -> int | None:
        """Return an amount of one marketplace in the other's currency, both in its smallest unit.

        None when a rate is missing.
        """
        if source.currency == target.currency:
            return amount
        rates = {"EUR": 1.0} | self.per_euro
        if source.currency not in rates or target.currency not in rates:
            return None
        rate = rates[target.currency] / rates[source.currency]
        scale: float = 10.0 ** (target.minor_digits - source.minor_digits)
        return round(amount * rate * scale)


_decode = msgspec.json.Decoder(Rates).decode


def read_rates(settings: Settings) -> Rates:
    """Return the rates that hold: the config's, and for other currencies the bank's last ones."""
    exchange = settings.config.exchange
    bank = Rates()
    if exchange.url is not None:
        # None yet, or not to be read: the next fetch writes it anew.
        with suppress(OSError, msgspec.DecodeError):
            bank = _decode((settings.state_directory() / FILE_NAME).read_bytes())
    return Rates(bank.per_euro | exchange.rates, bank.day)


def parse(document: bytes) -> Rates:
    """Read the bank's daily file (its "Euro foreign exchange reference rates", as XML).

    Raises ExchangeError for anything else.
    """
    try:
        cubes = list(ElementTree.fromstring(document).iter())  # noqa: S314  # see above
        day = next(each.attrib["time"] for each in cubes if "time" in each.attrib)
        rates = {
            each.attrib["currency"]: float(each.attrib["rate"])
            for each in cubes
            if "currency" in each.attrib
        }
    except (ElementTree.ParseError, StopIteration, LookupError, ValueError):
        raise ExchangeError("it is not the bank's daily file") from None
    whole = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day) and rates
    if not whole or not all(0 < rate < 1e9 for rate in rates.values()):
        raise ExchangeError("it holds no rates that can be used")
    return Rates(rates, day)


async def fetch(url: str, time: TimeScale) -> Rates:
    """Ask for the bank's daily file. Raises ExchangeError when it can't be had."""
    import httpx

    try:
        async with (
            httpx.AsyncClient(timeout=_WITHIN_S * time.factor, follow_redirects=True) as client,
            client.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
            document = bytearray()
            async for part in answer.aiter_bytes():
                document += part
                if len(document) > _MOST_BYTES:
                    raise ExchangeError("it is far longer than the bank's daily file")
    except httpx.HTTPStatusError as error:
        raise ExchangeError(f"status {error.response.status_code}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ExchangeError(f"{type(error).__name__}: {error}") from None
    return parse(bytes(document))


async def keep_rates(heartbeat: Heartbeat, url: str, path: Path, time: TimeScale) -> None:
    """Fetch the bank's rates some times a day, for ever, and keep them in a file."""
    import trio

    before = ""
    while True:
        try:
            rates = await fetch(url, time)
            await trio.to_thread.run_sync(_write, path, msgspec.json.encode(rates))
        except (ExchangeError, OSError) as error:
            said, wait_s = f"no new rates: {error}", _AGAIN_S
            if said != before:
                log.warning("no exchange rates", extra=kv(url=url, reason=str(error)))
        else:
            said, wait_s = f"rates of {rates.day}", _EVERY_S
            if said != before:
                log.info("exchange rates", extra=kv(day=rates.day, currencies=len(rates.per_euro)))
        before = said
        heartbeat.beat()
        heartbeat.expect(trio.current_time() + wait_s, said)
        await trio.sleep(wait_s)


def _write(path: Path, content: bytes) -> None:
    """Put the file there in one step: a reader never sees half of it."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    temporary.replace(path)
