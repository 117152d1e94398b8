"""What Elasticsearch's answers, and its failures to answer, mean for the records sent."""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from elastic_transport import ConnectionError as NoConnectionError
from elastic_transport import ConnectionTimeout, TransportError
from elasticsearch import ApiError

from pricecheck import config
from pricecheck.deliver.sink import Receipt, SinkAwayError, SinkBusyError, SinkError
from pricecheck.logs import excerpt, redacted

OLDEST_MAJOR: Final = 8
NEWEST_MAJOR: Final = 9
"""The versions of the protocol that we speak; a newer server understands the newest."""

# A document that one of these meets is not at fault: credentials, rights, a missing or blocked
# index, load. All other 4xx mean the document itself.
_TRY_AGAIN: Final = (401, 403, 404, 408, 429)
# Cluster-wide limits and settings that Elasticsearch reports with status 400.
_TRY_AGAIN_TYPES: Final = ("validation_exception", "index_closed_exception")
NOT_READY: Final = (502, 503, 504)
# No index, or none of its shards: made anew by the next connect, or there in a moment.
_ABSENT: Final = (404, 503)


def read_items(answer: Any, count: int) -> Receipt:
    """Judge each document of a bulk request by itself; raise SinkAwayError if none has an index."""
    if not isinstance(answer, dict) or "errors" not in answer:
        raise no_bulk_answer(answer)
    if not answer["errors"]:
        return Receipt()
    refused: dict[int, str] = {}
    again: dict[int, str] = {}
    absent = 0
    for place, item in enumerate(answer["items"]):
        [outcome] = item.values()
        status = outcome["status"]
        # 409: what is there is newer, or (`create`) the very same.
        if status < 300 or status == 409:
            continue
        retried = status in _TRY_AGAIN or status >= 500
        retried |= outcome.get("error", {}).get("type") in _TRY_AGAIN_TYPES
        (again if retried else refused)[place] = f"{status}: {reason_of(outcome)}"
        absent += status in _ABSENT
    if absent == count:
        raise SinkAwayError(f"{count} records: {again[0]}", remedy="the daemon tries again")
    return Receipt(refused, again)


def no_bulk_answer(answer: Any) -> SinkBusyError:
    """Say that somebody else answered, such as a proxy; of the records that says nothing."""
    said = excerpt(str(answer), 200)
    return SinkBusyError(f"what answers a bulk request is not Elasticsearch: {said}")


def reason_of(answer: Any) -> str:
    """Return Elasticsearch's own words for an error, without secrets."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return excerpt(str(error), 500)
    words = f"{error.get('type')}: {error.get('reason')}"
    cause = error.get("caused_by", {}).get("reason")
    return redacted(f"{words} ({cause})" if cause else words)


def refusal(error: ApiError, path: str) -> SinkError:
    """Say what a whole request's failure means."""
    status, said = error.status_code, f"Elasticsearch answers {error.status_code}"
    reason = reason_of(error.body)
    if status == 401:
        remedy = "check elasticsearch.api_key_file, or username and password_file"
        return SinkBusyError(f"{said}: the credentials are refused", remedy=remedy)
    if status == 403:
        remedy = "give them the rights on cluster and indices that the documentation lists"
        return SinkBusyError(f"{said}: the credentials lack a right: {reason}", remedy=remedy)
    if status in NOT_READY:
        return SinkAwayError(f"{said}: not ready", remedy="the daemon tries again")
    remedy = f"version {OLDEST_MAJOR} or newer is needed" if "media_type" in reason else ""
    return SinkBusyError(f"{said} to {path.partition('?')[0]}: {reason}", remedy=remedy)


def unreachable(error: TransportError, settings: config.Elasticsearch) -> SinkError:
    """Say what it means that no answer came, or none that can be read."""
    hosts = ", ".join(urlsplit(host).netloc for host in settings.hosts)
    if (tls := _tls_error(error)) is not None:
        remedy = "check elasticsearch.ca_file, and that the certificate names this host"
        return SinkBusyError(f"no TLS with {hosts}: {tls}", remedy=remedy)
    if isinstance(error, ConnectionTimeout):
        limit = settings.request_timeout
        return SinkAwayError(f"{hosts} does not answer within {limit:g} s")
    if isinstance(error, NoConnectionError):
        return SinkAwayError(
            f"no connection to Elasticsearch at {hosts}: {error.message or 'it broke'}",
            remedy="the daemon tries again; see whether it runs, or mend elasticsearch.hosts",
        )
    return SinkBusyError(f"the answer of {hosts} can't be read: {error.message}")


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Find what TLS said; under trio it lies deeper than the client itself looks."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def other_product(what: str) -> SinkBusyError:
    """Say that the operator has pointed us at something else."""
    return SinkBusyError(
        f"what answers is not Elasticsearch but {what}",
        remedy="point elasticsearch.hosts at Elasticsearch 8 or 9",
    )
