"""Exchange rates: where they come from, and what they make of a price."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from pricecheck import config
from pricecheck.exchange import (
    FILE_NAME,
    ExchangeError,
    Rates,
    fetch,
    keep_rates,
    parse,
    read_rates,
)
from pricecheck.keepa.tables import BY_CODE, MARKETPLACES
from pricecheck.supervisor import Heartbeat
from pricecheck.timescale import TimeScale
from tests.daemons import until
from tests.deliver.conftest import Answer, Request, Serve, serve_http  # noqa: F401  # the fixture

# Made up, in the form of the bank's daily file.
DOCUMENT = b"""<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
    xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
  <gesmes:subject>Reference rates</gesmes:subject>
  <Cube>
    <Cube time='2026-11-24'>
      <Cube currency='USD' rate='1.25'/>
      <Cube currency='JPY' rate='160'/>
    </Cube>
  </Cube>
</gesmes:Envelope>
"""
NOWHERE = "http://127.0.0.1:9/daily.xml"


@pytest.mark.parametrize(
    ("amount", "source", "target", "converted"),
    [
        (1_000, "DE", "FR", 1_000),
        (1_000, "DE", "US", 1_250),
        (1_250, "US", "DE", 1_000),
        (1_000, "DE", "JP", 1_600),
        (1_600, "JP", "US", 1_250),
        (1_000, "DE", "UK", None),
        (1_000, "UK", "UK", 1_000),
    ],
)
def test_a_price_is_converted(amount: int, source: str, target: str, converted: int | None) -> None:
    """Between smallest units, of which the yen has no smaller; not without both rates."""
    rates = Rates({"USD": 1.25, "JPY": 160})

    assert rates.convert(amount, BY_CODE[source], BY_CODE[target]) == converted


@given(
    amount=st.integers(10_000, 10**9),
    there=st.sampled_from(MARKETPLACES),
    rate=st.floats(0.5, 2.0),
)
def test_there_and_back_is_the_same_price(amount: int, there: object, rate: float) -> None:
    """Within what rounding to the smallest unit costs."""
    market = next(each for each in MARKETPLACES if each == there)
    rates = Rates({market.currency: rate * (100 if market.minor_digits == 0 else 1)})
    home = BY_CODE["DE"]

    away = rates.convert(amount, home, market)
    back = None if away is None else rates.convert(away, market, home)

    assert back == pytest.approx(amount, abs=2)


def test_the_bank_s_file_is_read() -> None:
    """Its day, and each currency's rate."""
    assert parse(DOCUMENT) == Rates({"USD": 1.25, "JPY": 160.0}, "2026-11-24")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html><body>Sign in</body></html>",
        DOCUMENT.replace(b"1.25", b"-1"),
        DOCUMENT.replace(b"1.25", b"nan"),
        DOCUMENT.replace(b"1.25", b"much"),
        DOCUMENT.replace(b"2026-11-24", b"today"),
        DOCUMENT.replace(b"currency", b"money"),
        DOCUMENT[:200],
        b"<?xml version='1.0' encoding='klingon'?><a/>",
    ],
)
def test_anything_else_is_refused(document: bytes) -> None:
    """Wrong rates are worse than none."""
    with pytest.raises(ExchangeError):
        parse(document)


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_breaks_nothing(document: bytes) -> None:
    """With the one error that it may raise."""
    with pytest.raises(ExchangeError):
        parse(document)


async def test_the_bank_can_not_be_reached() -> None:
    """What is said names the reason."""
    with pytest.raises(ExchangeError, match="Connect"):
        await fetch(NOWHERE, TimeScale())


async def test_rates_are_kept_for_commands_and_the_next_start(
    tmp_path: Path,
    nursery: trio.Nursery,
    serve_http: Serve,  # noqa: F811
) -> None:
    """Fetched, and read back beside the operator's own, which win."""

    async def answer(_: Request) -> Answer:
        return Answer(200, DOCUMENT)

    url = await serve_http(answer)
    file = tmp_path / "pricecheck.toml"
    file.write_text(
        f'state_directory = "."\n[exchange]\nurl = "{url}/daily.xml"\nrates = {{ USD = 1.5 }}\n'
    )
    settings = config.load(file)
    path = settings.state_directory() / FILE_NAME

    nursery.start_soon(keep_rates, Heartbeat(60), f"{url}/daily.xml", path, TimeScale())
    await until(path.exists)

    assert read_rates(settings) == Rates({"USD": 1.5, "JPY": 160.0}, "2026-11-24")
    nursery.cancel_scope.cancel()


async def test_without_rates_it_tries_again(
    tmp_path: Path,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For ever; the log says why once, and the last rates stay."""
    path = tmp_path / FILE_NAME
    path.write_bytes(b"the last ones")

    nursery.start_soon(keep_rates, Heartbeat(60), NOWHERE, path, TimeScale())
    await trio.sleep(86_400)

    assert [record.getMessage() for record in caplog.records] == ["no exchange rates"]
    assert path.read_bytes() == b"the last ones"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"per_euro": 1}'])
def test_rates_that_can_not_be_read_are_none(tmp_path: Path, content: bytes | None) -> None:
    """The next fetch writes them anew."""
    file = tmp_path / "pricecheck.toml"
    file.write_text(f'state_directory = "."\n[exchange]\nurl = "{NOWHERE}"\n')
    if content is not None:
        (tmp_path / FILE_NAME).write_bytes(content)

    assert read_rates(config.load(file)) == Rates()
