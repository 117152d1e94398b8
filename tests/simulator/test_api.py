"""The API as a client sees it, over real sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from pricecheck.errors import InputError
from pricecheck.simulator.replay import load
from pricecheck.simulator.server import serve
from pricecheck.simulator.settings import Settings
from pricecheck.simulator.world import KEYBOARDS_DE

from .conftest import Simulate

FIGURES = {
    "timestamp",
    "tokensLeft",
    "refillIn",
    "refillRate",
    "tokenFlowReduction",
    "tokensConsumed",
    "processingTimeInMs",
}
ONE: dict[str, Any] = {"domain": 3, "asin": "B000000001"}


async def test_token_is_free_and_tells_the_bucket(simulate: Simulate) -> None:
    """/token answers with the whole envelope and charges nothing."""
    keepa = await simulate(tokens=77)

    answer = (await keepa.get("/token")).json()

    assert set(answer) == FIGURES
    assert (answer["tokensLeft"], answer["refillRate"], answer["tokensConsumed"]) == (77, 20, 0)
    assert 0 < answer["refillIn"] <= 60_000


async def test_a_hundred_products_cost_a_hundred_tokens_less_the_missing(
    simulate: Simulate,
) -> None:
    """Each product found costs a token, one that is not costs none."""
    keepa = await simulate()
    asins = [f"B0{number:08d}" for number in range(90)] + [f"B00MISS{n:03d}" for n in range(10)]

    answer = (await keepa.get("/product", params={"domain": 3, "asin": ",".join(asins)})).json()

    found = [product["asin"] for product in answer["products"] if product["title"]]
    assert found == asins[:90]
    assert answer["tokensConsumed"] == 90
    assert answer["tokensLeft"] == 1110


async def test_answers_are_packed_for_those_who_take_it(simulate: Simulate) -> None:
    """gzip when the client accepts it, plain otherwise; the connection is kept."""
    keepa = await simulate()

    packed = await keepa.get("/product", params=ONE, headers={"Accept-Encoding": "zstd, gzip"})
    plain = await keepa.get("/product", params=ONE, headers={"Accept-Encoding": "identity"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json()["products"] == plain.json()["products"]
    assert packed.headers["Server"] == "pricecheck-simulator"
    streams = [response.extensions["network_stream"] for response in (packed, plain)]
    assert len({stream.get_extra_info("client_addr") for stream in streams}) == 1


async def test_another_key_is_refused_with_zeros(simulate: Simulate) -> None:
    """invalidParameter and every token figure 0; the bucket stays as it was."""
    keepa = await simulate(key="the-right-one")

    refused = await keepa.get("/product", params=ONE)
    right = await keepa.get("/token", params={"key": "the-right-one"})

    answer = refused.json()
    assert refused.status_code == 400
    assert answer["error"]["type"] == "invalidParameter"
    assert [answer[name] for name in sorted(FIGURES - {"timestamp"})] == [0] * 6
    assert right.json()["tokensLeft"] == 1200


@pytest.mark.parametrize(
    "params",
    [
        {"domain": 13, "asin": "B000000001"},
        {"domain": 7, "asin": "B000000001"},
        {"domain": "de", "asin": "B000000001"},
        {"asin": "B000000001"},
        {"domain": 3},
        {"domain": 3, "asin": "keyboard"},
        {"domain": 3, "asin": ",".join(f"B0{n:08d}" for n in range(101))},
        {"domain": 3, "asin": "B000000001", "days": 0},
        {"domain": 3, "asin": "B000000001", "offers": 19},
        {"domain": 3, "asin": "B000000001", "offers": 101},
    ],
)
async def test_what_makes_no_sense_is_rejected_uncharged(
    simulate: Simulate, params: dict[str, Any]
) -> None:
    """400 with an invalidParameter object beside the true figures."""
    keepa = await simulate()

    response = await keepa.get("/product", params=params)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalidParameter"
    assert response.json()["tokensLeft"] == 1200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "search", 404), ("POST", "product", 405)]
)
async def test_calls_that_do_not_exist(
    simulate: Simulate, method: str, path: str, status: int
) -> None:
    """An unknown path is 404, a wrong method 405, with the envelope all the same."""
    keepa = await simulate()

    response = await keepa.request(method, path, params=ONE)

    assert response.status_code == status
    assert set(response.json()) == FIGURES | {"error"}


async def test_an_overdrawn_bucket_refuses_until_it_is_positive(simulate: Simulate) -> None:
    """One token admits a call of 13; the next gets 429 and a refillIn, and no product."""
    keepa = await simulate(tokens=1)

    admitted = await keepa.get("/product", params=ONE | {"offers": 20})
    refused = await keepa.get("/product", params=ONE)

    assert admitted.json()["tokensLeft"] == -12
    assert refused.status_code == 429
    assert refused.json()["tokensLeft"] == -12
    assert 0 < refused.json()["refillIn"] <= 60_000
    assert "products" not in refused.json()


async def test_simulated_time_refills_and_moves_prices(simulate: Simulate) -> None:
    """At a simulated day a millisecond the bucket is full again and prices have changed."""
    keepa = await simulate(tokens=10, time_factor=86_400_000.0)
    asins = ",".join(f"B0{number:08d}" for number in range(50))

    first = (await keepa.get("/product", params={"domain": 3, "asin": asins})).json()
    second = (await keepa.get("/product", params={"domain": 3, "asin": asins})).json()

    assert second["timestamp"] > first["timestamp"]
    assert second["tokensLeft"] == 1150
    changed = [
        (a["csv"][1], b["csv"][1])
        for a, b in zip(first["products"], second["products"], strict=True)
        if len(b["csv"][1]) > len(a["csv"][1])
    ]
    assert changed
    assert all(after[: len(before)] == before for before, after in changed)


async def test_time_is_told_from_the_epoch(simulate: Simulate) -> None:
    """Two simulators with one epoch agree on the time, whenever they were started."""
    epoch_ms = 1_780_000_000_000
    early = await simulate(time_factor=1000.0, epoch_ms=epoch_ms)
    one = (await early.get("/token")).json()["timestamp"]
    late = await simulate(time_factor=1000.0, epoch_ms=epoch_ms)
    two = (await late.get("/token")).json()["timestamp"]
    three = (await early.get("/token")).json()["timestamp"]

    assert one <= two <= three


async def test_deals_by_post_and_by_get_are_the_same(simulate: Simulate) -> None:
    """POST with a JSON body or GET with `selection`: 5 tokens and one page of deals."""
    keepa = await simulate(time_factor=1e-6)
    selection = {
        "page": 0,
        "domainId": 3,
        "priceTypes": [1],
        "dateRange": 2,
        "includeCategories": [KEYBOARDS_DE],
        "deltaPercentRange": [10, 90],
        "isRangeEnabled": True,
        "sortType": 4,
    }

    posted = (await keepa.post("/deal", json=selection)).json()
    got = (await keepa.get("/deal", params={"selection": json.dumps(selection)})).json()

    asins = [deal["asin"] for deal in posted["deals"]["dr"]]
    assert asins
    assert asins == [deal["asin"] for deal in got["deals"]["dr"]]
    assert posted["tokensConsumed"] == 5
    assert bytes(posted["deals"]["dr"][0]["image"]).endswith(b".jpg")
    products = await keepa.get("/product", params={"domain": 3, "asin": asins[0], "stats": 30})
    current = products.json()["products"][0]["stats"]["current"]
    assert current[1] == posted["deals"]["dr"][0]["current"][1]


@pytest.mark.parametrize(
    "selection", [{"domainId": 3, "priceTypes": [0, 1]}, {"domainId": 30}, {"page": -1}, [1]]
)
async def test_a_selection_that_makes_no_sense_is_rejected(
    simulate: Simulate, selection: object
) -> None:
    """400, uncharged."""
    keepa = await simulate()

    response = await keepa.post("/deal", json=selection)

    assert response.status_code == 400
    assert response.json()["tokensConsumed"] == 0


async def test_a_plan_without_deals_answers_404(simulate: Simulate) -> None:
    """Only /deal is missing."""
    keepa = await simulate(no_deals=True)

    deals = await keepa.post("/deal", json={"domainId": 3})
    products = await keepa.get("/product", params=ONE)

    assert (deals.status_code, products.status_code) == (404, 200)


async def test_best_sellers_have_a_list_or_null(simulate: Simulate) -> None:
    """50 tokens either way, the list best first."""
    keepa = await simulate()

    known = await keepa.get("/bestsellers", params={"domain": 3, "category": KEYBOARDS_DE})
    unknown = await keepa.get("/bestsellers", params={"domain": 3, "category": 0})

    assert len(known.json()["bestSellersList"]["asinList"]) == 400
    assert known.json()["tokensConsumed"] == 50
    assert unknown.json()["bestSellersList"] is None


async def test_the_finder_sifts_by_what_products_cost_now(simulate: Simulate) -> None:
    """Only those within every bound, in the order asked for, with the number of all."""
    keepa = await simulate(time_factor=1e-6)
    selection = {
        "categories_include": [KEYBOARDS_DE],
        "brand": ["lumikey", "Nordkey"],
        "title": "tastatur",
        "current_NEW_gte": 3_000,
        "current_NEW_lte": 9_000,
        "current_RATING_gte": 40,
        "current_COUNT_REVIEWS_gte": 300,
        "productType": [0, 1],
        "sort": [["current_NEW", "desc"]],
    }

    found = (await find(keepa, selection)).json()
    asins = ",".join(found["asinList"])
    shown = (await keepa.get("/product", params={"domain": 3, "asin": asins, "stats": 1})).json()

    current = [product["stats"]["current"] for product in shown["products"]]
    assert found["totalResults"] == len(current) > 2
    assert all(3_000 <= each[1] <= 9_000 and each[16] >= 40 for each in current)
    assert min(each[17] for each in current) >= 300
    assert [each[1] for each in current] == sorted((each[1] for each in current), reverse=True)
    assert {product["brand"] for product in shown["products"]} == {"Lumikey", "Nordkey"}
    assert all(
        "Tastatur" in product["title"].split() or "Tastatur," in product["title"]
        for product in shown["products"]
    )


async def test_pages_of_the_finder_make_up_the_whole(simulate: Simulate) -> None:
    """10 tokens each, and 1 more for every 100 ASINs; behind the last there is nothing."""
    keepa = await simulate(time_factor=1e-6)

    pages = [(await find(keepa, {"perPage": 150, "page": page})).json() for page in range(4)]

    assert [len(page["asinList"]) for page in pages] == [150, 150, 100, 0]
    assert [page["tokensConsumed"] for page in pages] == [12, 12, 11, 10]
    assert len({asin for page in pages for asin in page["asinList"]}) == 400


@pytest.mark.parametrize(
    "selection",
    [
        [],
        {"perPage": 49},
        {"perPage": 10_001},
        {"perPage": 5_000, "page": 2},
        {"sort": [["current_NEW", "up"]]},
        {"sort": ["current_NEW", "asc"]},
        {"curent_NEW_gte": 5},
    ],
)
async def test_a_search_that_makes_no_sense_is_rejected(
    simulate: Simulate, selection: object
) -> None:
    """400, uncharged."""
    keepa = await simulate()

    response = await find(keepa, selection)

    assert response.status_code == 400
    assert response.json()["tokensConsumed"] == 0


async def find(keepa: httpx.AsyncClient, selection: object) -> httpx.Response:
    """Ask for what a selection finds on amazon.de."""
    return await keepa.get("/query", params={"domain": 3, "selection": json.dumps(selection)})


async def test_products_beyond_the_distinct_ones_repeat_them(simulate: Simulate) -> None:
    """Each has its own ASIN and one of the few histories, the same whoever asks."""
    keepa = await simulate(distinct=3, time_factor=1e-6)
    asins = [f"B0{number:08d}" for number in range(30)]

    answer = (await keepa.get("/product", params={"domain": 3, "asin": ",".join(asins)})).json()
    alone = (await keepa.get("/product", params={"domain": 3, "asin": asins[9]})).json()

    assert [product["asin"] for product in answer["products"]] == asins
    assert len({json.dumps(product["csv"]) for product in answer["products"]}) == 3
    assert alone["products"][0]["csv"][1] == answer["products"][9]["csv"][1]


RECORDED = b'{"asin":"B0RECORD01","domainId":3, "title" : "x",  "unknown":[1,null], "csv":null}'


async def test_recorded_products_are_served_as_they_are(simulate: Simulate, tmp_path: Path) -> None:
    """Byte for byte, on their own marketplace only; there are no deals or best sellers."""
    (tmp_path / "one.json").write_bytes(b'{"tokensLeft": 5, "products": [' + RECORDED + b"]}")
    keepa = await simulate(replay=tmp_path)

    here = await keepa.get("/product", params={"domain": 3, "asin": "B0RECORD01"})
    elsewhere = await keepa.get("/product", params={"domain": 4, "asin": "B0RECORD01"})
    deals = await keepa.post("/deal", json={"domainId": 3, "dateRange": 2, "priceTypes": [1]})
    best = await keepa.get("/bestsellers", params={"domain": 3, "category": KEYBOARDS_DE})

    assert RECORDED in here.content
    assert (here.json()["tokensConsumed"], here.json()["tokensLeft"]) == (1, 1199)
    assert elsewhere.json()["tokensConsumed"] == 0
    assert deals.json()["deals"]["dr"] == []
    assert best.json()["bestSellersList"] is None
    assert (await keepa.get("/query", params={"domain": 3})).json()["asinList"] == []


@pytest.mark.parametrize("content", [None, b"{}", b"[1", b'{"products": [{"title": "x"}]}'])
def test_what_is_no_recording_is_said_so(tmp_path: Path, content: bytes | None) -> None:
    """An empty directory or another kind of file is the operator's to mend."""
    if content is not None:
        (tmp_path / "one.json").write_bytes(content)

    with pytest.raises(InputError):
        load(tmp_path)


async def test_every_call_has_its_line_in_the_ledger(simulate: Simulate, tmp_path: Path) -> None:
    """Whoever has read an answer finds its line: what was asked, charged and left."""
    file = tmp_path / "ledger.jsonl"
    keepa = await simulate(ledger=file, tokens=2)

    for path, params in (("token", {}), ("product", ONE | {"offers": 20}), ("product", ONE)):
        await keepa.get(path, params=params)
        last = file.read_text().splitlines()[-1]
        assert json.loads(last)["path"] == path

    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert entries[1].pop("at_ms") >= entries[0]["at_ms"]
    assert entries[1] == {
        "path": "product",
        "domain": 3,
        "asins": ["B000000001"],
        "status": 200,
        "tokens_consumed": 13,
        "tokens_left": -11,
        "fault": None,
        "delivered": True,
    }
    assert (entries[2]["status"], entries[2]["tokens_consumed"]) == (429, 0)


async def test_a_port_in_use_is_said_so(simulate: Simulate) -> None:
    """The operator's error, not a traceback."""
    keepa = await simulate()

    with pytest.raises(InputError, match="port"):
        await serve(Settings(port=httpx.URL(keepa.base_url).port or 0))
