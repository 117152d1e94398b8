"""The Elasticsearch sink and a real node: what it really accepts, keeps, refuses and finds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from pricecheck.config import Elasticsearch, Names
from pricecheck.deliver import templates
from pricecheck.deliver.elasticsearch import ElasticsearchSink
from pricecheck.deliver.relay import Relay
from pricecheck.deliver.sink import Receipt, SinkBusyError
from pricecheck.outbox import Outbox
from pricecheck.records import Record
from tests.deliver.conftest import (
    Answer,
    Request,
    Serve,
    Services,
    change,
    deal,
    drained,
    metric,
    put,
    running,
    stored,
    until,
)

pytestmark = pytest.mark.services

Open = Callable[..., ElasticsearchSink]


@pytest.fixture
def index(names: Names) -> dict[str, str]:
    """What this test's indices are called, by kind."""
    return names.by_kind()


@pytest.fixture
async def node(elasticsearch_url: str, names: Names) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the node; the test's indices and templates are deleted after it."""
    async with httpx.AsyncClient(base_url=elasticsearch_url, timeout=30) as client:
        yield client
        await client.delete(f"/{names.prefix}*")
        await client.delete(f"/.ds-{names.prefix}*")
        for name in names.by_kind().values():
            await client.delete(f"/_index_template/{name}")


@pytest.fixture
async def open_sink(elasticsearch_url: str, names: Names) -> AsyncIterator[Open]:
    """Make a sink for the real node; it is closed with the test."""
    async with AsyncExitStack() as sinks:

        def make(address: str = elasticsearch_url, **settings: Any) -> ElasticsearchSink:
            sink = ElasticsearchSink(Elasticsearch(hosts=(address,), **settings), names)
            sinks.push_async_callback(sink.close)
            return sink

        yield make


async def search(node: httpx.AsyncClient, index: str, query: str = "*") -> list[dict[str, Any]]:
    """Find documents, after a refresh."""
    await node.post(f"/{index}/_refresh")
    answer = await node.get(f"/{index}/_search", params={"q": query, "size": "10000"})
    return [hit["_source"] | {"_id": hit["_id"]} for hit in answer.json()["hits"]["hits"]]


async def test_documents_are_there_and_are_found(
    open_sink: Open, node: httpx.AsyncClient, index: dict[str, str]
) -> None:
    """A plain search finds them, by id, by number, and by German and English word stems."""
    sink = open_sink()
    record = change(42, title="Mechanische Tastaturen, mechanical keyboards")

    peer = await sink.connect()
    receipt = await sink.send(stored(record, change(1, title="Maus"), metric()))

    assert peer.startswith("Elasticsearch 8.")
    assert receipt == Receipt()
    for query in (
        "new_price:42",
        "asin:B000000042",
        "title.german:mechanisch AND title.german:tastatur",
        "title.english:keyboard",
        "tastatur",
        "keyboard",
    ):
        [found] = await search(node, index["change"], query)
        assert found == json.loads(record.body) | {"_id": record.id}, query
    assert len(await search(node, index["metric"], "success:true AND tokens_left:>1000")) == 1


@pytest.mark.parametrize("layout", ["index", "data_stream"])
async def test_redelivery_changes_nothing(
    open_sink: Open, node: httpx.AsyncClient, index: dict[str, str], layout: str
) -> None:
    """At least once means exactly one document, in either layout."""
    sink = open_sink(layout=layout)
    batch = stored(*map(change, range(20)), deal("2026-11-24T12:00:00Z", 5_000), metric())
    await sink.connect()

    receipts = [await sink.send(batch) for _ in range(3)]

    assert receipts == [Receipt()] * 3
    ids = [found["_id"] for found in await search(node, f"{index['change']},{index['deal']}")]
    assert sorted(ids) == sorted(one.record.id for one in batch[:-1])
    kept = (await node.get(f"/_resolve/index/{index['change']}")).json()
    assert bool(kept["data_streams"]) == (layout == "data_stream")


async def test_the_newest_state_of_a_deal_wins_in_whichever_order(
    open_sink: Open, node: httpx.AsyncClient, index: dict[str, str]
) -> None:
    """A frozen node that carries out an old request late does not bring the old price back."""
    sink = open_sink()
    await sink.connect()

    receipts = [
        await sink.send(stored(deal(f"2026-11-24T12:00:{second}Z", price)))
        for second, price in (("00", 3), ("20", 1), ("10", 2), ("20", 1), ("00", 3))
    ]

    assert receipts == [Receipt()] * 5
    [found] = await search(node, index["deal"])
    assert found["current_price"] == 1


@pytest.mark.long
async def test_templates_and_indices_are_made_once_and_updated_when_ours_are_newer(
    open_sink: Open,
    node: httpx.AsyncClient,
    index: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A newer pricecheck adds its new field to templates and indices; an older one leaves them."""
    name = index["change"]
    await open_sink().connect()
    newer = templates.FIELDS["change"] | {"colour": {"type": "keyword"}}
    monkeypatch.setitem(templates.FIELDS, "change", newer)
    await open_sink().connect()
    same_version = (await node.get(f"/{name}/_mapping")).json()[name]["mappings"]
    monkeypatch.setattr(templates, "TEMPLATE_VERSION", templates.TEMPLATE_VERSION + 1)

    await open_sink().connect()
    monkeypatch.undo()
    await open_sink().connect()

    mapping = (await node.get(f"/{name}/_mapping")).json()[name]["mappings"]
    answer = (await node.get(f"/_index_template/{name}")).json()
    template = answer["index_templates"][0]["index_template"]
    assert "colour" not in same_version["properties"]
    assert mapping["properties"]["colour"] == {"type": "keyword"}
    assert "colour" in template["template"]["mappings"]["properties"]
    assert template["version"] == templates.TEMPLATE_VERSION + 1


@pytest.mark.long
async def test_what_a_person_made_is_left_as_it_is_and_said(
    open_sink: Open, node: httpx.AsyncClient, index: dict[str, str]
) -> None:
    """A template and an index of the same name that are not ours, with where they differ."""
    theirs = {"index_patterns": [index["change"]], "template": {"settings": {}}}
    await node.put(f"/_index_template/{index['change']}", json=theirs)
    mapping = {"mappings": {"properties": {"new_price": {"type": "keyword"}}}}
    await node.put(f"/{index['change']}", json=mapping)
    sink = open_sink()

    await sink.connect()

    assert set(sink.notes) == {
        f"the index template {index['change']} is not pricecheck's: left as it is",
        f"the index {index['change']} is not pricecheck's: left as it is; "
        "unlike ours: new_price is keyword",
    }
    kept = (await node.get(f"/_index_template/{index['change']}")).json()
    assert "mappings" not in kept["index_templates"][0]["index_template"]["template"]


async def test_a_mapping_conflict_ends_in_the_dead_letters(
    outbox: Outbox, open_sink: Open, node: httpx.AsyncClient, index: dict[str, str]
) -> None:
    """Only what does not fit is refused, with Elasticsearch's own reason; the rest arrives."""
    mapping = {"mappings": {"properties": {"title": {"type": "long"}}}}
    await node.put(f"/{index['change']}", json=mapping)
    put(outbox, change(1), change(2, title="7"), metric())
    relay = Relay(open_sink(), outbox)

    async with running(relay):
        await drained(relay)

    [letter] = outbox.dead_letters()
    assert letter.id == change(1).id
    assert "document_parsing_exception: [1:" in letter.reason
    assert "failed to parse field [title] of type [long]" in letter.reason
    assert [found["_id"] for found in await search(node, index["change"])] == [change(2).id]


@pytest.mark.long
async def test_an_id_too_long_is_refused_and_its_neighbours_arrive(
    open_sink: Open, node: httpx.AsyncClient, index: dict[str, str]
) -> None:
    """Elasticsearch refuses the whole request for it, and does not say for which."""
    sink = open_sink()
    long = Record("change", "x" * 600, "x", b"{}")
    await sink.connect()

    receipt = await sink.send(stored(*map(change, range(5)), long, *map(change, range(5, 9))))

    assert list(receipt.refused) == [5]
    assert "too long" in receipt.refused[5]
    assert len(await search(node, index["change"])) == 9


@pytest.mark.long
async def test_a_blocked_index_is_waited_for(
    outbox: Outbox, open_sink: Open, node: httpx.AsyncClient, index: dict[str, str]
) -> None:
    """Read-only as with a full disk: nothing is refused, and delivery goes on when it ends."""
    relay = Relay(open_sink(), outbox)
    async with running(relay):
        await until(lambda: relay._peer)
        block = f"/{index['change']}/_settings"
        await node.put(block, json={"index.blocks.read_only_allow_delete": True})
        put(outbox, *map(change, range(10)), metric())
        await until(lambda: relay._failures)
        blocked = await relay.status()

        await node.put(block, json={"index.blocks.read_only_allow_delete": None})
        await drained(relay)

    assert blocked.state == "backing off"
    assert "cluster_block_exception" in (blocked.trouble or "")
    assert outbox.dead_letters() == []
    assert len(await search(node, index["change"])) == 10


@pytest.mark.long
@pytest.mark.parametrize(("first", "then"), [("index", "data_stream"), ("data_stream", "index")])
async def test_a_changed_layout_is_refused_before_anything_is_sent(
    open_sink: Open, node: httpx.AsyncClient, index: dict[str, str], first: str, then: str
) -> None:
    """Every document would end in the dead letters; so the operator is told instead."""
    sink = open_sink(layout=first)
    await sink.connect()
    await sink.send(stored(change(1)))

    with pytest.raises(SinkBusyError, match=r"is (an index|a data stream) already"):
        await open_sink(layout=then).connect()


@pytest.mark.long
@pytest.mark.parametrize(("first", "then"), [("index", "data_stream"), ("data_stream", "index")])
async def test_where_nothing_is_yet_a_changed_layout_is_heeded(
    open_sink: Open, node: httpx.AsyncClient, index: dict[str, str], first: str, then: str
) -> None:
    """The template of the other layout gives way, though its version is the same."""
    before, after = open_sink(layout=first), open_sink(layout=then)
    await before.connect()
    for kind in templates.STREAMED:
        await node.delete(f"/{index[kind]}")  # of a data stream there is only the template

    await after.connect()
    receipt = await after.send(stored(change(1)))

    assert receipt == Receipt()
    kept = (await node.get(f"/_resolve/index/{index['change']}")).json()
    assert bool(kept["data_streams"]) == (then == "data_stream")


@pytest.mark.long
async def test_a_nine_speaking_server_is_spoken_to_in_nine(
    open_sink: Open, node: httpx.AsyncClient, index: dict[str, str], serve_http: Serve
) -> None:
    """A version 9 is not to be had here: a real 8 behind a front that talks as a 9 does."""
    spoken: list[str] = []

    async def front(request: Request) -> Answer:
        headers = {
            key: value.replace("compatible-with=9", "compatible-with=8")
            for key, value in request.headers.items()
            if key in ("accept", "content-type")
        }
        spoken.append(request.headers["accept"][-1])
        answer = await node.request(
            request.method, request.path, headers=headers, content=request.body
        )
        body = answer.content.replace(b'"number":"8.', b'"number":"9.')
        told = ("content-type", "x-elastic-product")
        kept = [(name, answer.headers[name]) for name in told if name in answer.headers]
        return Answer(answer.status_code, body, kept)

    sink = open_sink(await serve_http(front))

    peer = await sink.connect()
    receipt = await sink.send(stored(*map(change, range(3))))

    assert peer.startswith("Elasticsearch 9.")
    assert receipt == Receipt()
    assert spoken[0] == "8"
    assert set(spoken[1:]) == {"9"}
    assert len(await search(node, index["change"])) == 3


@pytest.fixture(scope="module")
def secure(services: Services) -> tuple[str, Path]:
    """A node with TLS and passwords: its address, and the certificate to trust."""
    address = services.run("start", "elasticsearch-secure")["elasticsearch-secure"]
    return address, services.state / "elasticsearch-secure" / "config" / "node.crt"


@pytest.mark.long
async def test_keys_passwords_and_certificates(
    secure: tuple[str, Path], outbox: Outbox, names: Names
) -> None:
    """An API key, a password, a wrong one, and a certificate that nobody vouches for."""
    address, certificate = secure
    password = "not-a-secret"

    def sink(*, trust: bool = True, user: bool = True, **secrets: Any) -> ElasticsearchSink:
        settings = Elasticsearch(
            hosts=(address,),
            ca_file=str(certificate) if trust else None,
            username="elastic-test" if user else None,
        )
        return ElasticsearchSink(settings, names, **secrets)

    by_password = sink(password=password)
    await by_password.connect()
    assert await by_password.send(stored(change(1))) == Receipt()
    assert by_password._client is not None
    answer = await by_password._client.perform_request(
        "POST",
        "/_security/api_key",
        headers={"accept": "application/json", "content-type": "application/json"}
        | {"accept": "application/vnd.elasticsearch+json; compatible-with=8"}
        | {"content-type": "application/vnd.elasticsearch+json; compatible-with=8"},
        body={"name": "test"},
    )
    by_key = sink(user=False, api_key=answer.body["encoded"])
    await by_key.connect()
    assert await by_key.send(stored(change(1))) == Receipt()

    wrong_key = sink(user=False, api_key="d3Jvbmc6d3Jvbmc=")
    with pytest.raises(SinkBusyError, match="credentials are refused"):
        await wrong_key.connect()
    stranger = sink(trust=False, password=password)
    with pytest.raises(SinkBusyError, match="no TLS with"):
        await stranger.connect()

    put(outbox, change(2))
    unauthorised = Relay(wrong_key, outbox)
    async with running(unauthorised):
        await until(lambda: unauthorised._failures > 2)
        status = await unauthorised.status()
    assert status.backlog == 1
    assert "check elasticsearch.api_key_file" in (status.trouble or "")
    for each in (by_password, by_key, stranger):
        await each.close()


@pytest.mark.long
async def test_a_request_above_the_nodes_limit_is_split_and_a_document_refused(
    secure: tuple[str, Path], outbox: Outbox, names: Names
) -> None:
    """Of 2 MB for a node that takes 1 MB at once, only the document of 1.5 MB stays behind."""
    address, certificate = secure
    settings = Elasticsearch(hosts=(address,), ca_file=str(certificate), username="elastic-test")
    large = change(7_777, title="x" * 1_500_000)
    put(outbox, *map(change, range(1_000)), large, *map(change, range(1_000, 3_000)))
    sink = ElasticsearchSink(settings, names, password="not-a-secret")
    relay = Relay(sink, outbox)

    async with running(relay):
        await drained(relay)
        await sink.ask(f"/{names.by_kind()['change']}/_refresh")
        counted = await sink.ask(f"/{names.by_kind()['change']}/_count")

    [letter] = outbox.dead_letters()
    assert (letter.id, letter.reason[:4]) == (large.id, "413:")
    assert counted["count"] == 3_000
    assert relay._failures == 0


@pytest.mark.long
async def test_a_disk_full_to_the_flood_stage_is_waited_for(
    outbox: Outbox, open_sink: Open, node: httpx.AsyncClient, index: dict[str, str]
) -> None:
    """The node itself blocks its indices, and lets go by itself; nothing is lost meanwhile."""
    flood = "cluster.routing.allocation.disk.watermark.flood_stage"
    marks = {flood.replace("flood_stage", name): "9000gb" for name in ("low", "high")}

    async def set_marks(free: str | None) -> None:
        settings = dict.fromkeys([*marks, flood], free) | {
            "cluster.info.update.interval": "10s" if free else None
        }
        answer = await node.put("/_cluster/settings", json={"transient": settings})
        assert answer.status_code == 200, answer.text

    relay = Relay(open_sink(), outbox)
    async with running(relay):
        await until(lambda: relay._peer)
        put(outbox, change(0))
        await drained(relay)
        await set_marks("9000gb")
        number = 1
        while not relay._failures:
            put(outbox, change(number))
            number += 1
            await trio.sleep(0.5)
        blocked = await relay.status()
        await set_marks("1mb")
        await drained(relay)
        await set_marks(None)

    assert "flood-stage" in (blocked.trouble or "")
    assert outbox.dead_letters() == []
    assert len(await search(node, index["change"])) == number
