"""Tests of pricecheck/deliver/elasticsearch.py against stand-in nodes that answer as told."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
import trio

from pricecheck import logs, records
from pricecheck.config import Duration, Elasticsearch, Names
from pricecheck.deliver import templates
from pricecheck.deliver.answers import no_bulk_answer, reason_of
from pricecheck.deliver.elasticsearch import ElasticsearchSink, _Node
from pricecheck.deliver.sink import Receipt, SinkAwayError, SinkBusyError, SinkError
from tests.deliver.conftest import Answer, Request, Serve, change, deal, stored

Open = Callable[..., Awaitable[ElasticsearchSink]]

TYPES = {
    "keyword": "str",
    "text": "str",
    "date": "str",
    "long": "int",
    "integer": "int",
    "double": "float",
    "boolean": "bool",
}


class Node:
    """A stand-in node that has its templates and indices, and takes every document."""

    def __init__(self, version: str = "8.19.0", **wrong: Answer) -> None:
        self.version = version
        self.wrong = wrong  # what a part of the API answers instead: root, template, bulk
        self.asked: list[Request] = []
        self.largest = 1 << 40

    async def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        if request.path == "/":
            return self.wrong.get("root") or found({"version": {"number": self.version}})
        if not request.path.startswith("/_bulk"):
            return self.wrong.get("template") or found({})
        if len(request.body) > self.largest:
            return Answer(413, b"<html>too large</html>", PAGE)
        return self.wrong.get("bulk") or found({"errors": False})

    @property
    def bulks(self) -> list[list[Any]]:
        """The lines of each bulk request that was taken."""
        taken = [one for one in self.asked if one.path.startswith("/_bulk")]
        return [[json.loads(line) for line in one.body.splitlines()] for one in taken]


def found(body: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body).encode())


def items(*outcomes: tuple[int, str | None]) -> Answer:
    """A bulk request's answer: status and type of error of each document."""
    told = [
        {"index": {"status": status} | ({"error": {"type": kind, "reason": "so"}} if kind else {})}
        for status, kind in outcomes
    ]
    return found({"errors": True, "items": told})


@pytest.fixture
async def open_sink(serve_http: Serve) -> AsyncIterator[Open]:
    """Make a sink for a stand-in node; it is closed with the test."""
    async with AsyncExitStack() as sinks:

        async def start(node: Node, *, connect: bool = True, **settings: Any) -> ElasticsearchSink:
            secrets = {key: settings.pop(key, None) for key in ("api_key", "password")}
            settings.setdefault("templates", False)
            address = await serve_http(node)
            sink = ElasticsearchSink(
                Elasticsearch(hosts=(address,), **settings), Names(), **secrets
            )
            sinks.push_async_callback(sink.close)
            if connect:
                await sink.connect()
            return sink

        yield start


@pytest.mark.parametrize(("version", "spoken"), [("8.19.21", 8), ("9.4.1", 9), ("10.0.0", 9)])
async def test_it_speaks_what_the_server_understands(
    open_sink: Open, version: str, spoken: int
) -> None:
    """It asks in the oldest protocol, which all understand, and goes on in the server's."""
    node = Node(version)
    sink = await open_sink(node)

    await sink.send(stored(change(1)))

    first, last = node.asked[0], node.asked[-1]
    assert first.headers["accept"] == "application/vnd.elasticsearch+json; compatible-with=8"
    assert last.headers["accept"].endswith(f"compatible-with={spoken}")
    assert last.headers["content-type"] == (
        f"application/vnd.elasticsearch+x-ndjson; compatible-with={spoken}"
    )


PLAIN = (("content-type", "application/json"),)
PAGE = (("content-type", "text/html"),)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (Answer(200, b'{"version": {"number": "2.0"}}', PLAIN), "not Elasticsearch but something"),
        (
            found({"version": {"number": "2.19.0", "distribution": "opensearch"}}),
            "not Elasticsearch but opensearch",
        ),
        (found({"hello": 1}), "not Elasticsearch"),
        (found({"version": {"number": "7.17.0"}}), "7.17.0 is too old"),
        (found({"error": {"type": "security_exception"}}, 401), "credentials are refused"),
        (found({"error": {"type": "x", "reason": "no monitor"}}, 403), "lack a right: x: no mon"),
        (found({"error": "starting"}, 503), "not ready"),
        (Answer(503, b"a proxy's page", PAGE), "not ready"),
        (Answer(200, b"{nonsense"), "can't be read"),
        (found({"error": {"type": "media_type_header_exception"}}, 400), "version 8 or newer"),
    ],
    ids=[
        "other",
        "opensearch",
        "hello",
        "old",
        "401",
        "403",
        "503",
        "proxy",
        "not json",
        "very old",
    ],
)
async def test_who_is_not_a_usable_elasticsearch_is_told_apart(
    open_sink: Open, root: Answer, message: str
) -> None:
    """The error says what answers there, instead of failing somewhere later."""
    sink = await open_sink(Node(root=root), connect=False)

    with pytest.raises(SinkError, match=message) as caught:
        await sink.connect()

    assert isinstance(caught.value, SinkAwayError) == (root.status == 503)


async def test_nobody_there_is_an_error_that_is_tried_again_soon() -> None:
    """A refused connection is worth knocking again at once."""
    sink = ElasticsearchSink(Elasticsearch(hosts=("http://127.0.0.1:9",)), Names())

    with pytest.raises(SinkAwayError, match=r"no connection to Elasticsearch at 127\.0\.0\.1:9"):
        await sink.connect()

    await sink.close()


async def test_a_failed_tls_handshake_is_told_as_such(serve_http: Serve) -> None:
    """It is the operator's to mend, unlike a server that is away: here one without TLS."""
    host = (await serve_http(Node())).replace("http:", "https:")
    sink = ElasticsearchSink(Elasticsearch(hosts=(host,)), Names())

    with pytest.raises(SinkBusyError, match=r"no TLS with 127\.0\.0\.1:\d+: .*SSL.*ca_file"):
        await sink.connect()

    await sink.close()


async def test_a_node_that_hangs_is_given_up_after_the_time_out(open_sink: Open) -> None:
    """A frozen node costs one time-out, not the relay."""
    node = Node()

    async def freeze(request: Request) -> Answer:
        if request.path.startswith("/_bulk"):
            await trio.sleep_forever()
        return await node(request)

    sink = await open_sink(freeze, request_timeout=Duration(1))

    with pytest.raises(SinkAwayError, match="does not answer within 1 s"):
        await sink.send(stored(change(1)))


async def test_the_next_host_takes_over(serve_http: Serve) -> None:
    """Of several hosts one that is down costs no try."""
    node = Node()
    hosts = ("http://127.0.0.1:9", await serve_http(node))
    sink = ElasticsearchSink(Elasticsearch(hosts=hosts, templates=False), Names())

    await sink.connect()
    receipts = [await sink.send(stored(change(1))) for _ in range(4)]

    assert receipts == [Receipt()] * 4
    await sink.close()


async def test_a_host_that_is_not_ready_leaves_the_request_to_the_next(serve_http: Serve) -> None:
    """Such as a proxy whose node is gone: else every second request would fail."""
    ready, starting = Node(), Node()

    async def not_yet(request: Request) -> Answer:
        starting.asked.append(request)
        return found({"error": "starting"}, 503)

    hosts = (await serve_http(not_yet), await serve_http(ready))
    sink = ElasticsearchSink(Elasticsearch(hosts=hosts, templates=False), Names())

    await sink.connect()
    receipts = [await sink.send(stored(change(1))) for _ in range(4)]

    assert receipts == [Receipt()] * 4
    assert starting.asked
    await sink.close()


async def test_all_kinds_are_prepared_at_once(open_sink: Open) -> None:
    """On a server that has just started, one after the other would take seconds."""
    node = Node()
    under_way = most = 0

    async def slow(request: Request) -> Answer:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        under_way -= 1
        nothing_yet = request.method == "GET" and request.path != "/"
        return found({}, 404) if nothing_yet else await node(request)

    await open_sink(slow, templates=True)

    assert most > 1


async def test_of_several_troubles_in_preparing_one_is_told(open_sink: Open) -> None:
    """A missing right meets every kind, and is one error."""
    lacking = found({"error": {"type": "security_exception", "reason": "no manage"}}, 403)
    sink = await open_sink(Node(template=lacking), templates=True, connect=False)

    with pytest.raises(SinkBusyError, match="lack a right: security_exception: no manage"):
        await sink.connect()


async def test_an_ipv6_address_stands_in_brackets(serve_http: Serve) -> None:
    """As in every other address."""
    node = Node()
    host = await serve_http(node, "::1")
    sink = ElasticsearchSink(Elasticsearch(hosts=(host,), templates=False), Names())

    await sink.connect()

    assert node.asked[0].headers["host"] == host.removeprefix("http://")
    await sink.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("http://search", "http://search"),
        ("https://search/below", "https://search/below/"),
        ("https://[2001:db8::7]", "https://[2001:db8::7]"),
        ("http://[::1]:9200/below/", "http://[::1]:9200/below/"),
    ],
)
def test_an_address_may_lack_the_port_and_have_a_path(host: str, expected: str) -> None:
    """A port left out is the scheme's, and every path is looked for below the address's own."""
    sink = ElasticsearchSink(Elasticsearch(hosts=(host,)), Names())

    [node] = sink._open().transport.node_pool.all()

    assert isinstance(node, _Node)
    assert str(node.client.base_url) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"api_key": "a2V5"}, "ApiKey a2V5"),
        ({"username": "us", "password": "pw"}, "Basic dXM6cHc="),
        ({}, None),
    ],
    ids=["api key", "password", "none"],
)
async def test_credentials_travel_in_the_header(
    open_sink: Open, settings: dict[str, str], expected: str | None
) -> None:
    """With every request, in the form that Elasticsearch wants them."""
    node = Node()
    sink = await open_sink(node, **settings)

    await sink.send(stored(change(1)))

    assert {one.headers.get("authorization") for one in node.asked} == {expected}


async def test_each_document_is_judged_by_itself(open_sink: Open) -> None:
    """Arrived or superseded, to be tried again, refused for good: side by side in one answer."""
    outcomes = [
        (201, None, "arrived"),
        (200, None, "arrived"),
        (409, "version_conflict_engine_exception", "arrived"),
        (429, "es_rejected_execution_exception", "again"),
        (403, "cluster_block_exception", "again"),
        (403, "security_exception", "again"),
        (404, "index_not_found_exception", "again"),
        (503, "unavailable_shards_exception", "again"),
        (500, "translog_exception", "again"),
        (400, "validation_exception", "again"),
        (400, "document_parsing_exception", "refused"),
        (413, "circuit_breaker", "refused"),
    ]
    node = Node(bulk=items(*((status, kind) for status, kind, _ in outcomes)))
    sink = await open_sink(node)

    receipt = await sink.send(stored(*map(change, range(len(outcomes)))))

    assert set(receipt.again) == {i for i, (*_, end) in enumerate(outcomes) if end == "again"}
    assert set(receipt.refused) == {i for i, (*_, end) in enumerate(outcomes) if end == "refused"}
    assert receipt.refused[10] == "400: document_parsing_exception: so"


@pytest.mark.parametrize("status", [404, 503])
async def test_where_no_document_finds_its_index_the_sink_is_away(
    open_sink: Open, status: int
) -> None:
    """A node that starts has no shards yet, and a deleted index is made by connecting anew."""
    node = Node(bulk=items((status, "gone"), (status, "gone")))
    sink = await open_sink(node)

    with pytest.raises(SinkAwayError, match=f"2 records: {status}: gone: so"):
        await sink.send(stored(change(1), change(2)))


@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_that_is_no_bulk_answer_says_nothing_of_the_records(
    open_sink: Open, status: int
) -> None:
    """Such as a proxy's page: nothing counts as delivered, and nothing as refused."""
    page = Answer(status, b"<html>Back soon</html>", PAGE)
    sink = await open_sink(Node(bulk=page))

    with pytest.raises(SinkBusyError, match="not Elasticsearch: <html>Back soon"):
        await sink.send(stored(change(1)))


async def test_a_request_too_large_for_the_way_is_halved(open_sink: Open) -> None:
    """A proxy's limit splits batches, is remembered, and only a single record can be refused."""
    node = Node()
    sink = await open_sink(node)
    node.largest = 2_000
    huge = change(3, title="x" * 3_000)

    receipt = await sink.send(stored(change(1), change(2), huge, *map(change, range(4, 10))))

    assert set(receipt.refused) == {2}
    assert receipt.refused[2].startswith("413")
    taken = [one for one in node.asked if "_bulk" in one.path and len(one.body) <= 2_000]
    assert sum(len(one.body.splitlines()) // 2 for one in taken) == 8
    assert sink.limits.bytes <= 2_000


async def test_documents_too_large_do_not_shrink_the_batches_of_all_others(
    open_sink: Open,
) -> None:
    """However many are refused, batches stay above half of what the way there takes."""
    node = Node()
    sink = await open_sink(node)
    node.largest = 2_000

    for number in range(20):
        await sink.send(stored(change(1), change(number, title="x" * 3_000), change(2)))

    assert 1_000 <= sink.limits.bytes <= 2_000


async def test_a_server_of_another_version_later_is_no_fault_of_the_records(
    open_sink: Open,
) -> None:
    """A downgrade refuses our protocol with a 400: ask anew who it is, and refuse nothing."""
    refusal = found({"error": {"type": "media_type_header_exception", "reason": "9"}}, 400)
    sink = await open_sink(Node("9.0.0", bulk=refusal))

    with pytest.raises(SinkBusyError, match="media_type"):
        await sink.send(stored(change(1)))


@pytest.mark.parametrize(("status", "away"), [(429, False), (502, True), (503, True), (401, False)])
async def test_a_request_that_fails_as_a_whole_refuses_no_record(
    open_sink: Open, status: int, away: bool
) -> None:
    """Load, start-up and credentials are the server's and the operator's matter."""
    sink = await open_sink(Node(bulk=found({"error": {"type": "t", "reason": "r"}}, status)))

    with pytest.raises(SinkError) as caught:
        await sink.send(stored(change(1)))

    assert isinstance(caught.value, SinkAwayError) == away


async def test_a_deal_carries_the_time_of_its_state_as_version(open_sink: Open) -> None:
    """So the server itself keeps the newest, in whichever order they come."""
    node = Node()
    sink = await open_sink(node)

    await sink.send(stored(deal("2026-11-24T12:00:00.250Z", 5_000), change(1)))

    [[of_deal, _, of_change, _]] = node.bulks
    assert of_deal["index"]["version_type"] == "external_gte"
    assert of_deal["index"]["version"] == 1_795_521_600_250
    assert "version" not in of_change["index"]


async def test_in_a_data_stream_documents_are_created_with_a_timestamp(open_sink: Open) -> None:
    """What Elasticsearch asks of a stream; kinds that change stay in an index."""
    node = Node()
    sink = await open_sink(node, layout="data_stream")

    await sink.send(stored(change(0), deal("2026-11-24T12:00:00Z", 5_000)))

    [[of_change, change_body, of_deal, deal_body]] = node.bulks
    assert list(of_change) == ["create"]
    assert change_body["@timestamp"] == change_body["changed_at"] == "2023-11-14T22:13:20Z"
    assert list(of_deal) == ["index"]
    assert "@timestamp" not in deal_body


async def test_a_record_that_can_not_be_read_is_refused_alone(open_sink: Open) -> None:
    """A body of another program's making ends in the dead letters, not in a crash."""
    node = Node()
    sink = await open_sink(node)
    broken = records.Record("deal", "DE:x", "x", b'{"timestamp": "yesterday"}')

    receipt = await sink.send(stored(change(1), broken, change(2)))

    assert list(receipt.refused) == [1]
    assert len(node.bulks[0]) == 4


async def test_no_request_has_a_line_in_the_log(
    open_sink: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even one that fails: the relay tells of that."""
    with caplog.at_level(logging.INFO):
        sink = await open_sink(Node(bulk=found({}, 500)))
        for _ in range(2):
            with pytest.raises(SinkError):
                await sink.send(stored(change(1)))

    assert not [one for one in caplog.records if one.name.startswith("elastic")]


@pytest.mark.parametrize("place", range(185, 510, 5))
def test_what_is_cut_off_leaves_no_half_of_a_secret(place: int) -> None:
    """However long a page is, and wherever in it the secret stands."""
    logs.redact("s3cret+of=mine")
    page = "x" * place + "s3cret+of=mine"

    assert "s3" not in reason_of(page) + no_bulk_answer(page).message


KINDS = {
    "price": records.Price,
    "change": records.Change,
    "deal": records.Deal,
    "bestseller": records.Bestsellers,
    "metric": records.Metric,
    "alert": records.Alert,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_mapping_has_every_field_of_the_record_and_no_other(kind: str) -> None:
    """Name by name and type by type, as records.py declares them."""
    names = zip(KINDS[kind].__struct_encode_fields__, KINDS[kind].__struct_fields__, strict=True)
    shape = {encoded: KINDS[kind].__annotations__[name] for encoded, name in names}

    mapping = templates.FIELDS[kind]

    assert set(mapping) == set(shape)
    for field, how in mapping.items():
        declared = shape[field].removesuffix(" | None")
        if "type" in how and not declared.startswith("tuple"):
            assert declared == TYPES[how["type"]], field


def test_every_kind_has_a_mapping_and_a_time() -> None:
    """A new kind of record needs its own."""
    assert set(templates.FIELDS) == set(records.KINDS) == set(templates.TIME_FIELD)
    for kind, field in templates.TIME_FIELD.items():
        assert templates.FIELDS[kind][field] == {"type": "date"}


@pytest.mark.parametrize("layout", ["index", "data_stream"])
@pytest.mark.parametrize("kind", records.KINDS)
def test_a_template_is_json_for_its_own_index_only(kind: str, layout: templates.Layout) -> None:
    """No wildcard catches an index of somebody else's."""
    made = msgspec.json.decode(msgspec.json.encode(templates.template(kind, "some-name", layout)))

    assert made["index_patterns"] == ["some-name"]
    assert ("data_stream" in made) == (layout == "data_stream" and kind in templates.STREAMED)
    assert made["template"]["mappings"]["dynamic"] is False
