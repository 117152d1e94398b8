"""The one door to Elasticsearch: bulk requests, templates and indices.

A document's id is its record's, so a repeated one replaces itself. Where the newest state is to
win, in deals, the time of that state is the document's version: Elasticsearch itself then keeps
the newer one, also when a frozen node wakes up and carries out an old request after a new one.
(The outbox's own count would do while the outbox lives; the time survives its loss as well.)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import trio
from elastic_transport import HttpxAsyncHttpNode, NodeConfig, TransportError
from elastic_transport.client_utils import url_to_node_config
from elasticsearch import (
    ApiError,
    AsyncElasticsearch,
    ElasticsearchWarning,
    UnsupportedProductError,
)

from pricecheck import config
from pricecheck.deliver import templates
from pricecheck.deliver.answers import (
    NEWEST_MAJOR,
    NOT_READY,
    OLDEST_MAJOR,
    no_bulk_answer,
    other_product,
    read_items,
    reason_of,
    refusal,
    unreachable,
)
from pricecheck.deliver.sink import Limits, Receipt, SinkBusyError, SinkError
from pricecheck.logs import kv
from pricecheck.outbox import Stored

log = logging.getLogger(__name__)

BATCH_RECORDS: Final = 5_000
BATCH_BYTES: Final = 5_000_000

_ERROR: Final = "items.*.error"
_ITEMS: Final = f"errors,items.*.status,{_ERROR}.type,{_ERROR}.reason,{_ERROR}.caused_by.reason"

_encode = msgspec.json.Encoder().encode


class _Dated(msgspec.Struct):
    """The time of a record's state."""

    timestamp: datetime


class _Time(msgspec.Struct):
    """The times that a streamed record may have happened at."""

    timestamp: str | None = None
    changed_at: str | None = None


class _Node(HttpxAsyncHttpNode):
    """The client's own node, which forgets the brackets around an IPv6 address."""

    def __init__(self, config: NodeConfig) -> None:
        if ":" not in config.host:
            super().__init__(config)
            return
        super().__init__(config.replace(host="localhost"))
        self._config, self._host = config, config.host
        self.client.base_url = self.base_url


class ElasticsearchSink:
    """Delivers to the indices, or data streams, of one cluster."""

    name = "elasticsearch"

    def __init__(
        self,
        settings: config.Elasticsearch,
        names: config.Names,
        *,
        api_key: str | None = None,
        password: str | None = None,
        time_factor: float = 1.0,  # of trio's clock: a sink's time is never simulated
    ) -> None:
        self.limits = Limits(BATCH_RECORDS, BATCH_BYTES)
        self.notes: list[str] = []
        self._settings = settings
        self._names = names.by_kind()
        self._api_key = api_key
        self._password = password
        self._timeout = settings.request_timeout * time_factor
        self._client: AsyncElasticsearch | None = None
        self._speaks = OLDEST_MAJOR

    async def connect(self) -> str:
        """Find out who answers, and make or update templates and indices."""
        # Elasticsearch adds one to nearly every answer when it is run without passwords.
        warnings.filterwarnings("ignore", category=ElasticsearchWarning)
        # The relay tells of every failure, and no request needs a line of its own.
        logging.getLogger("elastic_transport").setLevel(logging.CRITICAL)
        if self._client is None:
            self._client = self._open()
        self.notes = []
        # Version 9 still understands what 8 speaks, but not the other way round.
        self._speaks = OLDEST_MAJOR
        version = await self._ask_version()
        self._speaks = min(int(version.partition(".")[0]), NEWEST_MAJOR)
        if self._settings.templates:
            await self._prepare_all()
        hosts = ", ".join(urlsplit(host).netloc for host in self._settings.hosts)
        return f"Elasticsearch {version} at {hosts}"

    async def send(self, batch: Sequence[Stored]) -> Receipt:
        """Deliver in one bulk request; in several if it proves too large for the way there."""
        lines: list[bytes] = []
        refused: dict[int, str] = {}
        sent: list[int] = []
        for place, stored in enumerate(batch):
            try:
                lines += self._lines(stored)
            except msgspec.MsgspecError as error:
                refused[place] = f"the record can't be read: {error}"
            else:
                sent.append(place)
        receipt = await self._send_lines(lines) if lines else Receipt()
        return Receipt(
            refused | {sent[place]: reason for place, reason in receipt.refused.items()},
            {sent[place]: reason for place, reason in receipt.again.items()},
        )

    async def ask(self, path: str, body: Any = None) -> Any:
        """Return the answer to a question of people's, such as doctor's. Raises SinkError."""
        return (await self._request("GET" if body is None else "POST", path, body))[1]

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _open(self) -> AsyncElasticsearch:
        options: dict[str, Any] = {}
        if self._settings.ca_file:
            options["ca_certs"] = self._settings.ca_file
        if self._api_key:
            options["api_key"] = self._api_key
        elif self._settings.username:
            options["basic_auth"] = (self._settings.username, self._password or "")
        try:
            return AsyncElasticsearch(
                [
                    url_to_node_config(host, use_default_ports_for_scheme=True)
                    for host in self._settings.hosts
                ],
                node_class=_Node,
                request_timeout=self._timeout,
                # At most once around the hosts; all further patience is the relay's. It would
                # sleep between two tries, and in asyncio's way, were it not for the 0.
                max_retries=len(self._settings.hosts) - 1,
                retry_on_status=NOT_READY,
                retry_backoff_base=0,
                **options,
            )
        except (ValueError, OSError) as error:
            raise SinkBusyError(
                f"Elasticsearch can't be set up: {error}", remedy="check [elasticsearch]"
            ) from None

    async def _send_lines(self, lines: Sequence[bytes]) -> Receipt:
        """Send a bulk request, or its halves where it is refused as a whole."""
        body = b"\n".join(lines) + b"\n"
        status, answer = await self._request(
            "POST", f"/_bulk?filter_path={_ITEMS}", body, ok=(400, 413)
        )
        if status == 200:
            return read_items(answer, len(lines) // 2)
        if status == 400 and not isinstance(answer, dict):
            raise no_bulk_answer(answer)
        count = len(lines) // 2
        if count == 1:
            reason = reason_of(answer) if answer else f"{len(body)} bytes are too many"
            return Receipt(refused={0: f"{status}: {reason}"})
        if status == 413:
            # The node, or what lies between, takes less than we thought: remember that.
            self.limits = Limits(BATCH_RECORDS, min(self.limits.bytes, len(body) // 2))
        half = count // 2
        first = await self._send_lines(lines[: 2 * half])
        second = await self._send_lines(lines[2 * half :])
        return Receipt(
            first.refused | {place + half: reason for place, reason in second.refused.items()},
            first.again | {place + half: reason for place, reason in second.again.items()},
        )

    async def _ask_version(self) -> str:
        _, answer = await self._request("GET", "/")
        version = answer.get("version", {}) if isinstance(answer, dict) else {}
        number = str(version.get("number", ""))
        if "distribution" in version or not number[:1].isdigit():
            raise other_product(version.get("distribution", "something else"))
        if int(number.partition(".")[0]) < OLDEST_MAJOR:
            raise SinkBusyError(
                f"Elasticsearch {number} is too old", remedy=f"version {OLDEST_MAJOR} is needed"
            )
        return number

    async def _prepare_all(self) -> None:
        """Prepare all kinds at once: one by one takes seconds on a server that has just started."""
        failed: list[SinkError] = []

        async def prepare(kind: str, name: str) -> None:
            try:
                await self._prepare(kind, name)
            except SinkError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            for kind, name in self._names.items():
                nursery.start_soon(prepare, kind, name)
        self.notes.sort()
        if failed:
            raise failed[0]

    async def _prepare(self, kind: str, name: str) -> None:
        """Make or update the template and the index of a kind; what others made stays as it is."""
        layout = self._settings.layout
        streamed = templates.is_streamed(kind, layout)
        _, found = await self._request("GET", f"/_resolve/index/{name}", ok=(404,))
        is_stream = bool(found.get("data_streams"))
        exists = is_stream or bool(found.get("indices") or found.get("aliases"))
        if exists and is_stream != streamed:
            raise SinkBusyError(
                f"{name} is {'a data stream' if is_stream else 'an index'} already, "
                f"which does not fit layout = {layout!r}",
                remedy="change the layout back, or names.prefix, or reindex and delete it",
            )
        status, found = await self._request("GET", f"/_index_template/{name}", ok=(404,))
        ours: dict[str, Any] | None = None
        if status == 200:
            ours = found["index_templates"][0]["index_template"]
        if ours is None or _is_outdated(ours, streamed=streamed):
            wanted = templates.template(kind, name, layout)
            await self._request("PUT", f"/_index_template/{name}", wanted)
            log.info("index template put", extra=kv(template=name))
        elif not _is_ours(ours):
            self.notes.append(f"the index template {name} is not pricecheck's: left as it is")
        if exists:
            await self._update_mapping(kind, name)
        elif not streamed:  # a data stream is made by its first document
            # 400: another pricecheck was quicker.
            await self._request("PUT", f"/{name}", ok=(400,))

    async def _update_mapping(self, kind: str, name: str) -> None:
        _, found = await self._request("GET", f"/{name}/_mapping")
        wanted = templates.mappings(kind, self._settings.layout)
        for index, holds in found.items():
            mapping = holds["mappings"]
            about = mapping.get("_meta", {})
            if about.get("managed_by") != templates.OWNER:
                note = _differences(wanted["properties"], mapping.get("properties", {}))
                self.notes.append(f"the index {index} is not pricecheck's: left as it is; {note}")
            elif about.get("version", 0) < templates.TEMPLATE_VERSION:
                status, answer = await self._request("PUT", f"/{index}/_mapping", wanted, ok=(400,))
                if status != 200:
                    self.notes.append(
                        f"the index {index} keeps an old mapping: {reason_of(answer)}; reindex it"
                    )

    def _lines(self, stored: Stored) -> tuple[bytes, bytes]:
        """Return a record's two lines of a bulk request."""
        record = stored.record
        target = b'_index":%b,"_id":%b' % (_encode(self._names[record.kind]), _encode(record.id))
        if templates.is_streamed(record.kind, self._settings.layout):
            # A repeated `create` is a conflict, which says: it is there.
            times = msgspec.json.decode(record.body, type=_Time)
            when = _encode(times.timestamp or times.changed_at)
            body = b'{"@timestamp":%b,%b' % (when, record.body[1:])
            return b'{"create":{"%b}}' % target, body
        if record.kind == "deal":
            state = msgspec.json.decode(record.body, type=_Dated)
            version = round(state.timestamp.timestamp() * 1000)
            target += b',"version":%d,"version_type":"external_gte"' % version
        return b'{"index":{"%b}}' % target, record.body

    async def _request(
        self, method: str, path: str, body: Any = None, *, ok: Sequence[int] = ()
    ) -> tuple[int, Any]:
        """Ask; return status and answer if it went well or ended as is `ok`, else a SinkError."""
        assert self._client is not None  # the relay connects first
        kind = "x-ndjson" if path.startswith("/_bulk") else "json"
        headers = {
            "accept": f"application/vnd.elasticsearch+json; compatible-with={self._speaks}",
            "content-type": f"application/vnd.elasticsearch+{kind}; compatible-with={self._speaks}",
        }
        try:
            answer = await self._client.perform_request(method, path, headers=headers, body=body)
        except UnsupportedProductError:
            raise other_product("something else") from None
        except ApiError as error:
            if error.status_code in ok and "media_type" not in reason_of(error.body):
                return error.status_code, error.body
            raise refusal(error, path) from None
        except TransportError as error:
            raise unreachable(error, self._settings) from None
        return answer.meta.status, answer.body


def _is_ours(template: Mapping[str, Any]) -> bool:
    return bool(template.get("_meta", {}).get("managed_by") == templates.OWNER)


def _is_outdated(template: Mapping[str, Any], *, streamed: bool) -> bool:
    """Tell whether a template is ours, and of an older version or for another layout."""
    older = template.get("version", 0) < templates.TEMPLATE_VERSION
    return _is_ours(template) and (older or ("data_stream" in template) != streamed)


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Name the fields whose type is not ours, for these are what documents are refused for."""
    others = [
        f"{field} is {found[field].get('type', 'object')}"
        for field, mapping in wanted.items()
        if field in found and found[field].get("type") != mapping.get("type")
    ]
    return "unlike ours: " + ", ".join(others) if others else "its fields fit"
