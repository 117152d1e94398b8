"""The API key appears nowhere: not in a log at its most talkative, nor in any error."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import pytest
import trio

from pricecheck import logs
from pricecheck.keepa.client import Call, FinderQuery, KeepaClient, ProductQuery, Timeouts
from pricecheck.keepa.tables import BY_CODE
from pricecheck.simulator.settings import FAULTS, Fault

from .conftest import KEY, Connect, Listen, Simulate
from .test_client import ASINS, DEALS
from .test_transport import LOCAL, request_of, response, unused_port

DE = BY_CODE["DE"]
IMPATIENT = Timeouts(read_s=0.3)

ASKS: dict[str, Callable[[KeepaClient], Awaitable[Any]]] = {
    "token": lambda keepa: keepa.token(),
    "product": lambda keepa: keepa.products(DE, ASINS, ProductQuery()),
    "deal": lambda keepa: keepa.deals(DE, DEALS),
    "bestsellers": lambda keepa: keepa.bestsellers(DE, "340843031"),
    "query": lambda keepa: keepa.find(DE, FinderQuery(categories_include=(340843031,))),
}


@pytest.fixture
def said() -> io.StringIO:
    """All that is logged, httpx and its transport included, at DEBUG."""
    stream = io.StringIO()
    logs.setup("DEBUG", stream=stream)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    return stream


def everything_of(error: BaseException | None) -> Iterator[str]:
    """All that can be printed of an exception and of those it came from, suppressed or not."""
    while error is not None:
        yield from (str(error), repr(error), repr(vars(error)), *traceback.format_exception(error))
        error = error.__cause__ or error.__context__


async def printed(call: Awaitable[Any]) -> str:
    """Make a call; return all that can be printed of what became of it, and log its error."""
    try:
        return repr(await call)
    except Exception as error:
        logging.getLogger("pricecheck").exception("it failed: %s", error)  # noqa: TRY401
        return "\n".join(everything_of(error))


def assert_secret(*texts: str) -> None:
    for text in texts:
        for spelling in (KEY, quote(KEY), quote(KEY, safe=""), quote_plus(KEY), repr(KEY)[1:-1]):
            assert spelling not in text


@pytest.mark.parametrize(
    ("operation", "fault"),
    [("product", fault) for fault in FAULTS]
    + [(operation, fault) for operation in ASKS for fault in (None, "400", "notjson", "cut")],
)
async def test_no_call_shows_the_key(
    simulate: Simulate, calls: list[Call], said: io.StringIO, operation: str, fault: str | None
) -> None:
    """Whatever is asked, and however it ends: not in logs, errors, tracebacks or figures."""
    faults = (Fault(fault, 1.0),) if fault else ()
    timeouts = IMPATIENT if fault == "timeout" else Timeouts()
    keepa = await simulate(faults=faults, time_factor=1000.0, timeouts=timeouts)

    outcome = await printed(ASKS[operation](keepa))

    assert "send_request_headers" in said.getvalue()  # the log is talkative indeed
    assert_secret(outcome, said.getvalue(), repr(keepa), *map(repr, calls))
    assert_secret(*(msgspec.json.encode(call).decode() for call in calls))


async def test_no_failed_connection_shows_the_key(
    connect: Connect, calls: list[Call], said: io.StringIO
) -> None:
    """Neither one refused, nor one to a name that does not exist, nor one without TLS."""
    port = unused_port()

    for url in (f"{LOCAL}:{port}", f"https://127.0.0.1:{port}", "https://keepa.invalid"):
        outcome = await printed((await connect(url)).token())
        assert "UnreachableError" in outcome
        assert_secret(outcome)

    assert_secret(said.getvalue(), *map(repr, calls))


async def test_no_cancelled_call_shows_the_key(
    connect: Connect, listen: Listen, calls: list[Call], said: io.StringIO
) -> None:
    """Nor one that is given up on while it waits."""
    with trio.CancelScope() as scope:

        async def converse(stream: trio.SocketStream) -> None:
            await request_of(stream)
            scope.cancel()

        await (await connect(await listen(converse))).token()

    assert len(calls) == 1
    assert_secret(said.getvalue(), *map(repr, calls))


@pytest.mark.parametrize("form", ["head", "page", "error", "redirection", "garbage"])
async def test_a_server_that_echoes_the_request_does_not_spread_the_key(
    connect: Connect, listen: Listen, calls: list[Call], said: io.StringIO, form: str
) -> None:
    """In whatever part of its answer the key comes back, it is masked in what is made of it."""

    async def converse(stream: trio.SocketStream) -> None:
        request = await request_of(stream)
        path = request.split(b" ")[1].decode()
        error = msgspec.json.encode({"error": {"type": path, "message": f"no such key: {KEY}"}})
        await stream.send_all(
            {
                "head": request,
                "page": response(request, status="500 " + path),
                "error": response(error, status="400 Bad Request"),
                "redirection": response(b"", f"Location: http://[{path}", status="302 Found"),
                "garbage": request.replace(b"HTTP", b"ECHO"),
            }[form]
        )

    keepa = await connect(await listen(converse), timeouts=IMPATIENT)

    outcome = await printed(keepa.token())

    assert "Error" in outcome
    assert_secret(outcome, said.getvalue(), *map(repr, calls))
