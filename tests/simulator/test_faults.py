"""Each fault does to a call what its name says, to the connection and to the bucket."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from pricecheck.errors import InputError
from pricecheck.simulator.faults import Dice
from pricecheck.simulator.settings import Fault, Settings, parse_fault

from .conftest import Simulate

ASINS = [f"B0{number:08d}" for number in range(5)]
FIVE: dict[str, Any] = {"domain": 3, "asin": ",".join(ASINS), "stats": 30}


async def faulty(simulate: Simulate, name: str, **settings: Any) -> httpx.AsyncClient:
    """Start a simulator of which every /product call goes wrong."""
    return await simulate(faults=(Fault(name, 1.0, "product"),), **settings)


async def tokens_left(keepa: httpx.AsyncClient) -> int:
    left: int = (await keepa.get("/token")).json()["tokensLeft"]
    return left


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("400", 400, "invalidParameter"),
        ("402", 402, "paymentRequired"),
        ("404", 404, "notFound"),
        ("405", 405, "methodNotAllowed"),
        ("429", 429, "notEnoughToken"),
        ("500", 500, "internalServerError"),
        ("503", 503, "serviceUnavailable"),
        ("error200", 200, "internalServerError"),
    ],
)
async def test_refusals_bring_an_error_object_and_charge_nothing(
    simulate: Simulate, name: str, status: int, kind: str
) -> None:
    """Status, error object and envelope, no products; the tokens are still there."""
    keepa = await faulty(simulate, name)

    response = await keepa.get("/product", params=FIVE)

    answer = response.json()
    assert response.status_code == status
    assert answer["error"]["type"] == kind
    assert "products" not in answer
    assert answer["tokensLeft"] == (0 if name == "429" else 1200)
    assert answer["refillRate"] == 20
    assert await tokens_left(keepa) == 1200


@pytest.mark.parametrize("name", ["refused", "reset", "cut"])
async def test_connections_are_cut(simulate: Simulate, name: str, tmp_path: Path) -> None:
    """No whole answer comes; only a call cut in its body was charged; none was delivered."""
    keepa = await faulty(simulate, name, ledger=tmp_path / "ledger")

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await keepa.get("/product", params=FIVE)

    entry = json.loads((tmp_path / "ledger").read_text().splitlines()[0])
    assert entry["fault"] == name
    assert entry["delivered"] is False
    assert await tokens_left(keepa) == (1195 if name == "cut" else 1200)


async def test_a_timeout_is_charged_and_never_answered(simulate: Simulate, tmp_path: Path) -> None:
    """The connection stays open without a byte; others are served meanwhile."""
    keepa = await faulty(simulate, "timeout", ledger=tmp_path / "ledger")

    with pytest.raises(httpx.ReadTimeout):
        await keepa.get("/product", params=FIVE, timeout=0.3)

    assert await tokens_left(keepa) == 1195
    entry = json.loads((tmp_path / "ledger").read_text().splitlines()[0])
    assert (entry["status"], entry["tokens_consumed"], entry["delivered"]) == (None, 5, False)


async def test_a_slow_body_dribbles_and_arrives(simulate: Simulate) -> None:
    """The answer comes in many pieces and is whole in the end."""
    keepa = await faulty(simulate, "slow", time_factor=100.0)
    pieces = []

    async with keepa.stream("GET", "/product", params=FIVE) as response:
        async for piece in response.aiter_raw():
            pieces.append(piece)

    assert len(pieces) > 10
    assert len(b"".join(pieces)) == int(response.headers["Content-Length"])


async def test_a_truncated_body_is_no_json(simulate: Simulate) -> None:
    """The transport is content with it, the parser is not; it was charged."""
    keepa = await faulty(simulate, "truncated")

    response = await keepa.get("/product", params=FIVE)

    assert response.content.startswith(b'{"timestamp"')
    with pytest.raises(json.JSONDecodeError):
        response.json()
    assert await tokens_left(keepa) == 1195


@pytest.mark.parametrize(
    ("name", "content", "left"), [("notjson", b"<!DOCTYPE html>", 1200), ("empty", b"", 1195)]
)
async def test_bodies_that_are_no_answer(
    simulate: Simulate, name: str, content: bytes, left: int
) -> None:
    """Status 200 with a web page, or with nothing."""
    keepa = await faulty(simulate, name)

    response = await keepa.get("/product", params=FIVE)

    assert response.status_code == 200
    assert response.content[:15] == content
    assert await tokens_left(keepa) == left


async def test_bad_gzip_cannot_be_unpacked(simulate: Simulate) -> None:
    """The header says gzip, the bytes do not."""
    keepa = await faulty(simulate, "badgzip")

    async with keepa.stream("GET", "/product", params=FIVE) as response:
        body = b"".join([piece async for piece in response.aiter_raw()])

    assert response.headers["Content-Encoding"] == "gzip"
    with pytest.raises(zlib.error):
        gzip.decompress(body)
    assert await tokens_left(keepa) == 1195


@pytest.mark.parametrize(
    ("name", "is_spoiled"),
    [
        ("wrongtypes", lambda product: product["title"] == 17),
        ("nulls", lambda product: product["csv"] is None and product["stats"]["avg"] is None),
    ],
)
async def test_one_product_of_the_batch_is_spoiled(
    simulate: Simulate, name: str, is_spoiled: Any
) -> None:
    """One of five does not fit; the other four are right."""
    keepa, right = await faulty(simulate, name), await simulate()

    spoiled = (await keepa.get("/product", params=FIVE)).json()["products"]
    whole = (await right.get("/product", params=FIVE)).json()["products"]

    assert [is_spoiled(product) for product in spoiled].count(True) == 1
    csvs = [(a["csv"], b["csv"]) for a, b in zip(spoiled, whole, strict=True)]
    assert [a == b for a, b in csvs].count(True) == 4


async def test_a_missing_product_is_left_out_and_charged(simulate: Simulate) -> None:
    """Four of five come back."""
    keepa = await faulty(simulate, "missing")

    answer = (await keepa.get("/product", params=FIVE)).json()

    assert len(answer["products"]) == 4
    assert answer["tokensConsumed"] == 5


async def test_negative_sinks_the_bucket(simulate: Simulate) -> None:
    """The answer is right, the bucket ten minutes' worth below zero."""
    keepa = await faulty(simulate, "negative")

    answer = (await keepa.get("/product", params=FIVE)).json()

    assert len(answer["products"]) == 5
    assert answer["tokensLeft"] == -200
    assert (await keepa.get("/product", params=FIVE)).status_code == 429


async def test_lists_of_other_calls_can_be_null_too(simulate: Simulate) -> None:
    """A deal's lists, the list of best sellers, and what the finder found."""
    keepa = await simulate(faults=(Fault("nulls", 1.0),))

    deals = await keepa.post("/deal", json={"domainId": 3, "dateRange": 2, "priceTypes": [1]})
    best = await keepa.get("/bestsellers", params={"domain": 3, "category": 5})

    assert [deal["current"] for deal in deals.json()["deals"]["dr"]].count(None) == 1
    assert best.json()["bestSellersList"]["asinList"] is None
    assert (await keepa.get("/query", params={"domain": 3})).json()["asinList"] is None


async def test_a_fault_that_could_not_strike_is_not_noted(
    simulate: Simulate, tmp_path: Path
) -> None:
    """A call refused for want of tokens is refused, not cut."""
    keepa = await faulty(simulate, "cut", tokens=0, ledger=tmp_path / "ledger")

    response = await keepa.get("/product", params=FIVE)

    assert response.status_code == 429
    entry = json.loads((tmp_path / "ledger").read_text())
    assert (entry["fault"], entry["delivered"]) == (None, True)


async def test_a_client_that_leaves_was_not_delivered_to(
    simulate: Simulate, tmp_path: Path
) -> None:
    """Who hangs up in the middle of a large answer is noted as not served."""
    ledger = tmp_path / "ledger"
    keepa = await simulate(bulk=True, ledger=ledger)
    asins = ",".join(f"B0{number:08d}" for number in range(60))
    params: dict[str, Any] = {"domain": 3, "asin": asins}

    async with keepa.stream(
        "GET", "/product", params=params, headers={"Accept-Encoding": "identity"}
    ) as response:
        assert response.status_code == 200
    with trio.fail_after(5):
        while not ledger.read_text():  # noqa: ASYNC110  # nothing tells when it is written
            await trio.sleep(0.01)

    entry = json.loads(ledger.read_text())
    assert (entry["delivered"], entry["tokens_consumed"]) == (False, 60)


def strikes(seed: int, rate: float, path: str = "product") -> list[bool]:
    dice = Dice(Settings(seed=seed, faults=(Fault("500", rate, "product"),)))
    return [dice.throw(path) is not None for _ in range(1000)]


def test_faults_strike_by_rate_seed_and_path() -> None:
    """A tenth of the calls of that path, the same ones each time."""
    assert 70 < strikes(1, 0.1).count(True) < 130
    assert strikes(1, 0.1) == strikes(1, 0.1) != strikes(2, 0.1)
    assert strikes(1, 1.0) == [True] * 1000
    assert strikes(1, 1.0, path="token") == [False] * 1000


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("timeout:0.1", Fault("timeout", 0.1)),
        ("429:0.2:product", Fault("429", 0.2, "product")),
        ("error200:1", Fault("error200", 1.0)),
    ],
)
def test_faults_are_read_from_the_command_line(text: str, fault: Fault) -> None:
    """Name, rate and perhaps a path."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("earthquake:0.1", "timeout"),
        ("timeout", "timeout:0.1"),
        ("timeout:2", "timeout:0.1"),
        ("timeout:nan", "timeout:0.1"),
        ("timeout:0.1:search", "bestsellers"),
    ],
)
def test_what_is_no_fault_names_what_is(text: str, named: str) -> None:
    """The error's remedy shows what could have been meant."""
    with pytest.raises(InputError) as caught:
        parse_fault(text)

    assert named in caught.value.remedy
