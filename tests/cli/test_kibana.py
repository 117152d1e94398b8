"""`pricecheck kibana` against a server that answers as Kibana's import does."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pricecheck.config import Names
from pricecheck.kibana.saved_objects import export
from tests.cli.conftest import Run

KEY = "planted/kibana+key=="
PASSWORD = "planted password"


class Kibana:
    """What it was asked, and what it answers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.status = 200
        self.answer: Any = None  # None: what was imported, all well
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str], str]] = []  # path, headers, file

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        """Note a request and return the answer."""
        head = f"Content-Type: {headers['content-type']}\n\n".encode()
        message = message_from_bytes(head + body, policy=HTTP)
        [part] = message.iter_parts()
        assert part.get_param("name", header="content-disposition") == "file"
        file = part.get_content().decode()
        self.asked.append((path, headers, file))
        if isinstance(self.answer, bytes):
            return self.answer
        imported = {"success": True, "successCount": len(file.splitlines())}
        return json.dumps(imported if self.answer is None else self.answer).encode()


@pytest.fixture
def kibana() -> Iterator[Kibana]:
    """A server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = told.take(self.path, headers, self.rfile.read(int(headers["content-length"])))
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Kibana(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


async def test_install_imports_the_dashboards(run: Run, kibana: Kibana) -> None:
    """One request, over what is there, with the header without which Kibana refuses it."""
    done = await run("kibana", "install", "--url", f"{kibana.url}/")

    assert (done.returncode, done.stderr) == (0, "")
    [(path, headers, file)] = kibana.asked
    assert path == "/api/saved_objects/_import?overwrite=true"
    assert headers["kbn-xsrf"]
    assert "authorization" not in headers
    assert file == export(Names())
    assert f"{kibana.url}/app/dashboards#/view/pricecheck-prices" in done.stdout


async def test_install_goes_into_a_space(run: Run, kibana: Kibana) -> None:
    """The space is part of the address, also of the dashboards that are told."""
    done = await run("kibana", "install", "--url", kibana.url, "--space", "shop")

    assert kibana.asked[0][0] == "/s/shop/api/saved_objects/_import?overwrite=true"
    assert f"{kibana.url}/s/shop/app/dashboards#" in done.stdout


async def test_the_config_names_the_indices(run: Run, kibana: Kibana, home: Path) -> None:
    """A prefix there is one here."""
    with (home / "pricecheck.toml").open("a") as config:
        config.write('[names]\nprefix = "home-"\n')

    await run("kibana", "install", "--url", kibana.url)

    assert kibana.asked[0][2] == export(Names(prefix="home-"))


async def test_an_api_key_comes_from_the_environment(run: Run, kibana: Kibana) -> None:
    """It is sent, and never printed."""
    env = {"KIBANA_API_KEY": KEY, "KIBANA_URL": kibana.url}

    done = await run("kibana", "install", env=env)

    assert kibana.asked[0][1]["authorization"] == f"ApiKey {KEY}"
    assert KEY not in done.stdout + done.stderr


async def test_a_user_has_a_password_in_a_file(run: Run, kibana: Kibana, home: Path) -> None:
    """As HTTP knows it; the password is not printed when it is refused, either."""
    (home / "password").write_text(f"{PASSWORD}\n")
    kibana.status, kibana.answer = 401, {"statusCode": 401, "message": "unable to authenticate"}
    user = ("--username", "elastic", "--password-file", "password")

    done = await run("kibana", "install", "--url", kibana.url, *user)

    credentials = base64.b64encode(f"elastic:{PASSWORD}".encode()).decode()
    assert kibana.asked[0][1]["authorization"] == f"Basic {credentials}"
    assert done.returncode == 69
    assert "unable to authenticate" in done.stderr
    assert PASSWORD not in done.stderr
    assert credentials not in done.stderr


REFUSED = {
    "success": False,
    "successCount": 11,
    "errors": [
        {
            "type": "dashboard",
            "id": "pricecheck-deals",
            "meta": {"title": "Deals"},
            "error": {"type": "missing_references"},
        }
    ],
}


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (200, REFUSED, "dashboard 'Deals': missing_references"),
        (200, b"<html>Welcome to nginx!</html>", "is not Kibana"),
        (200, ["success"], "is not Kibana"),
        (302, b"", "sends on to /login"),
        (400, {"message": "belongs to a more recent version"}, "belongs to a more recent version"),
        (403, {"message": "Unable to bulk_create dashboard"}, "manage saved objects"),
        (404, {"message": "Not Found"}, "check --url"),
        (413, {"message": "Payload content length greater"}, "answers 413: Payload"),
        (500, b"", "answers 500"),
        (503, b"Kibana server is not ready yet", "try again in a minute"),
    ],
)
async def test_a_refusal_is_told_with_its_reason(
    run: Run, kibana: Kibana, status: int, answer: object, words: str
) -> None:
    """In a sentence, with Kibana's own words and what to do, and without a traceback."""
    kibana.status, kibana.answer, kibana.headers = status, answer, {"location": "/login"}

    done = await run("kibana", "install", "--url", kibana.url)

    assert done.returncode == 69
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


async def test_no_kibana_there(run: Run) -> None:
    """The address is told, and what to look for."""
    done = await run("kibana", "install", "--url", "http://127.0.0.1:9")

    assert done.returncode == 69
    assert done.stderr.startswith("Error: no connection to Kibana at http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "localhost:5601"), "is not an address"),
        (("--url", "http://me:planted@localhost:5601"), "holds a name or password"),
        (("--url", "me:planted@localhost:5601"), "holds a name or password"),
        (("--url", "http://localhost:1", "--space", "a/b"), "is no space's id"),
        (("--url", "https://localhost:1", "--ca-file", "pricecheck.toml"), "can't be used"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    run: Run, options: tuple[str, ...], words: str
) -> None:
    """Before anything is sent."""
    done = await run("kibana", "install", *options)

    assert done.returncode == 65
    assert words in done.stderr
    assert "planted" not in done.stderr


async def test_export_writes_the_same_file(run: Run, home: Path) -> None:
    """To a file or to standard output."""
    printed = await run("kibana", "export")
    await run("kibana", "export", "--output", "dashboards.ndjson")

    assert printed.stdout == export(Names())
    assert (home / "dashboards.ndjson").read_text("utf-8") == export(Names())


async def test_a_file_that_cannot_be_written_is_told(run: Run) -> None:
    """With its name and the reason."""
    done = await run("kibana", "export", "--output", "nowhere/dashboards.ndjson")

    assert done.returncode == 65
    assert "nowhere/dashboards.ndjson can't be written: No such file" in done.stderr
