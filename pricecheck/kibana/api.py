"""The one door to Kibana: its import of saved objects."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from pricecheck.errors import InputError, PricecheckError
from pricecheck.kibana.saved_objects import OLDEST_KIBANA

_TIMEOUT_S: Final = 60.0
_TOLD: Final = 5  # refused objects that are named one by one
_NOT_READY: Final = (502, 503, 504)
_NEWER: Final = f"Kibana {OLDEST_KIBANA} or newer is needed"


class KibanaError(PricecheckError):
    """Kibana can't be reached, or did not take the objects."""

    exit_code = os.EX_UNAVAILABLE


class Kibana(msgspec.Struct, frozen=True, kw_only=True):
    """Where Kibana is, and as whom to ask. An API key wins over a name and its password."""

    url: str
    space: str | None = None  # None: the default space
    api_key: str | None = None
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None

    @property
    def base(self) -> str:
        """The address that pages of the space begin with."""
        return self.url.rstrip("/") + (f"/s/{self.space}" if self.space else "")

    def __repr__(self) -> str:
        """Say where, and nothing of as whom."""
        return f"Kibana({self.base!r})"


def check(kibana: Kibana) -> None:
    """Refuse an address or a space that can't be meant. Raises InputError."""
    if "@" in kibana.url:
        raise InputError(
            f"the address of {kibana.url.rpartition('@')[2]} holds a name or password",
            remedy="give --username, and the password in KIBANA_PASSWORD or a --password-file",
        )
    url = urlsplit(kibana.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InputError(
            f"{kibana.url!r} is not an address", remedy="write it like http://localhost:5601"
        )
    if kibana.space and not re.fullmatch(r"[a-z0-9_-]+", kibana.space):
        raise InputError(
            f"{kibana.space!r} is no space's id", remedy="it is in the space's address: /s/ID/app"
        )


def import_objects(kibana: Kibana, file: str) -> int:
    """Import a file of saved objects, over those of the same ids; return how many it were.

    Raises KibanaError with Kibana's own reason when they are not all there afterwards.
    """
    check(kibana)
    headers = {"kbn-xsrf": "pricecheck"}  # without it Kibana refuses whatever is no GET
    auth = None
    if kibana.api_key:
        headers["Authorization"] = f"ApiKey {kibana.api_key}"
    elif kibana.username:
        auth = httpx.BasicAuth(kibana.username, kibana.password or "")
    try:
        with httpx.Client(verify=_trust(kibana), timeout=_TIMEOUT_S, auth=auth) as client:
            answer = client.post(
                f"{kibana.base}/api/saved_objects/_import?overwrite=true",
                files={"file": ("pricecheck.ndjson", file.encode(), "application/ndjson")},
                headers=headers,
            )
    except httpx.HTTPError as error:
        raise _unreachable(kibana, error) from None
    return _read(kibana, answer)


def _trust(kibana: Kibana) -> ssl.SSLContext | bool:
    if not kibana.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=kibana.ca_file)
    except OSError as error:  # SSLError is one, too
        raise InputError(
            f"{kibana.ca_file} can't be used: {error}", remedy="it must hold certificates in PEM"
        ) from None


def _read(kibana: Kibana, answer: httpx.Response) -> int:
    """Return how many objects were imported."""
    try:
        told: Any = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = None
    if answer.status_code != 200:
        raise _refusal(kibana, answer, told)
    if not isinstance(told, dict) or "success" not in told:
        raise KibanaError(
            f"what answers at {kibana.url} is not Kibana", remedy="Kibana's own port is 5601"
        )
    if not told["success"]:
        raise KibanaError(f"Kibana did not take {_named(told.get('errors', []))}", remedy=_NEWER)
    return int(told.get("successCount", 0))


def _named(errors: Sequence[Mapping[str, Any]]) -> str:
    """Say which objects were refused, and why."""
    told = []
    for each in errors[:_TOLD]:
        reason = each.get("error", {})
        title = each.get("title") or each.get("meta", {}).get("title") or each.get("id")
        why = reason.get("message") or reason.get("type", "no reason given")
        told.append(f"{each.get('type')} {title!r}: {why}")
    more = f" and {len(errors) - _TOLD} more" if len(errors) > _TOLD else ""
    return ("; ".join(told) or "the objects") + more


def _refusal(kibana: Kibana, answer: httpx.Response, told: Any) -> KibanaError:
    status, where = answer.status_code, f"Kibana at {kibana.url}"
    message = str(told.get("message", "")) if isinstance(told, dict) else ""
    reason = f": {message}" if message else ""
    if answer.is_redirect:
        to = answer.headers.get("location", "elsewhere")
        return KibanaError(f"{where} sends on to {to}", remedy="give the address that it ends at")
    if status == 401:
        return KibanaError(
            f"{where} does not know who asks{reason}",
            remedy="set KIBANA_API_KEY, or --username and KIBANA_PASSWORD",
        )
    if status == 403:
        return KibanaError(
            f"{where} does not allow it{reason}",
            remedy="the user needs the privilege to manage saved objects in that space",
        )
    if status == 404:
        there = f"the space {kibana.space!r} or Kibana" if kibana.space else "Kibana"
        remedy = "check --url, with Kibana's base path if it has one"
        return KibanaError(f"there is no {there} at {kibana.url}", remedy=remedy)
    if status in _NOT_READY:
        return KibanaError(f"{where} is not ready ({status})", remedy="try again in a minute")
    return KibanaError(f"{where} answers {status}{reason}", remedy=_NEWER if status < 500 else "")


def _unreachable(kibana: Kibana, error: httpx.HTTPError) -> KibanaError:
    if isinstance(error, httpx.TimeoutException):
        return KibanaError(f"Kibana at {kibana.url} does not answer within {_TIMEOUT_S:g} s")
    reason = str(error) or type(error).__name__
    remedy = "see whether it runs, and check --url"
    if "CERTIFICATE" in reason or "certificate" in reason:
        remedy = "give the authority's certificate with --ca-file"
    return KibanaError(f"no connection to Kibana at {kibana.url}: {reason}", remedy=remedy)
