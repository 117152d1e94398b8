"""The secrets that are planted, all the ways to write them, and servers that give them back."""

from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from tests.daemons import KEY
from tests.deliver.conftest import Answer, Request

SECRETS: Final = {
    "keepa-api-key": KEY,
    "elasticsearch-api-key": "cGxhbnRlZDpzZWFyY2gta2V5",
    "elasticsearch-password": "planted search/pass+word",
    "kafka-sasl-password": "planted-kafka'pass\"word",
    "kibana-api-key": "cGxhbnRlZDpraWJhbmEta2V5",
    "kibana-password": "planted&kibana=password",
    "notify-urls": "planted-path-of-a-service",  # in an address, which is made in the test
}
"""What `Settings.secret` and `Settings.api_key` are asked for, by the credential's name."""

IN_PLACES: Final = {
    "a service's user": "planted-pass-of-a-service",
    "the proxy": "planted-pass-of-the-proxy",
    "kafka.options": "planted-keystore-password",
}
"""Secrets that are part of something else: an address, a table of the config."""


def variable(name: str) -> str:
    """Return the variable of the environment that holds a secret."""
    return name.upper().replace("-", "_")


def leaked(content: bytes) -> list[str]:
    """Name the secrets that are in there, however they are written."""
    return [
        f"{name}: ...{content[place - 60 : place + 40]!r}"
        for name, secret in (SECRETS | IN_PLACES).items()
        for spelling in spellings(secret)
        if (place := content.find(spelling.encode())) >= 0
    ]


def spellings(secret: str) -> set[str]:
    """Return a secret as it is, and as URLs, JSON, HTML, code and headers have it."""
    ways = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), html.escape(secret)}
    ways |= {quote(secret, safe="").replace("%2B", "%2b").replace("%2F", "%2f")}
    ways |= {
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret).replace("/", r"\/")[1:-1],
    }
    return ways | set(_in_base64(secret))


def _in_base64(secret: str) -> Iterator[str]:
    for encode in (b64encode, urlsafe_b64encode):
        for before in ("", "1", "12"):
            whole = encode((before + secret).encode()).decode()
            yield whole.rstrip("=")[4:-2] if before else whole.rstrip("=")[:-2]


def echo(request: Request) -> str:
    """Return all that a server was told."""
    return f"{request.method} {request.path} {request.headers}"


class Keepa:
    """A server in Keepa's place that gives back what it was asked, each time in another way."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, request: Request) -> Answer:
        said = echo(request)
        fault = {"type": "invalidParameter", "message": said, "details": request.path}
        ways = [
            Answer(500, said.encode(), ()),
            Answer(400, json.dumps({"error": fault}).encode()),
            Answer(400, json.dumps({"error": said}).encode()),
            Answer(302, b"", [("location", f"https://elsewhere.invalid{request.path}")]),
            Answer(200, said.encode()),
            Answer(200, said.encode(), [("content-encoding", "gzip")]),
            Answer(429, json.dumps({"tokensLeft": 0, "refillIn": 1, "error": fault}).encode()),
            Answer(402, json.dumps({"error": said}).encode()),
            Answer(200, json.dumps({"products": [{"asin": "B1", "title": [said]}]}).encode()),
        ]
        answer = ways[self.asked % len(ways)]
        self.asked += 1
        return answer

    WAYS = 9


class Search:
    """A server in Elasticsearch's place that refuses once, and then one document in two."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.refusals = [403]

    async def __call__(self, request: Request) -> Answer:
        if self.refusals:
            return Answer(self.refusals.pop(), json.dumps({"error": echo(request)}).encode())
        if request.path == "/":
            return _found({"version": {"number": "8.19.0"}})
        if not request.path.startswith("/_bulk"):
            missing = request.method == "GET" and "/_index_template/" in request.path
            return Answer(404, b"{}") if missing else _found({})
        self.got.append(request.body)
        count = request.body.count(b"\n") // 2
        error = {"type": "mapper_parsing_exception", "reason": echo(request)}
        ways = [{"index": {"status": 400, "error": error}}, {"index": {"status": 201}}]
        return _found({"errors": True, "items": [ways[place % 2] for place in range(count)]})


class Listener:
    """A service that people are told through, which fails the first time and says all it knows."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def __call__(self, request: Request) -> Answer:
        self.got.append(request.body)
        return Answer(200 if len(self.got) > 1 else 500, echo(request).encode())


async def refuse(request: Request) -> Answer:
    """Stand in a proxy's or Kibana's place, and refuse with all that was told."""
    said = echo(request)
    return Answer(
        407, said.encode(), [("proxy-authenticate", f'Basic realm="{said}"'), ("x", said)]
    )


def _found(body: object) -> Answer:
    return Answer(200, json.dumps(body).encode())


CRASH: Final = '''
"""Loaded by Python at its start: a bug that shows all the process knows."""
import base64, os
from urllib.parse import quote
from pricecheck.keepa.client import KeepaClient

SECRETS = [os.environ[name] for name in os.environ["PLANTED"].split() if name in os.environ]

async def crash(self, *_):
    shown = self._key
    told = [text for one in SECRETS for text in (one, quote(one, safe=""), repr(one))]
    told += [base64.b64encode(b"user:" + one.encode()).decode() for one in SECRETS]
    try:
        raise ValueError(*told)
    except ValueError as error:
        error.add_note(f"with {SECRETS}")
        raise RuntimeError(f"a bug: {shown} " + " ".join(told)) from error

setattr(KeepaClient, os.environ["CRASHES"], crash)
'''
