"""What is told of the packages in the lock: their advisories, and a bill of them all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCK = """\
good==1.0 \\
    --hash=sha256:{0}
    # via bad
bad==2.0 ; os_name == 'nt' \\
    --hash=sha256:{1} \\
    --hash=sha256:{0}
    # via pricecheck (pyproject.toml)
""".format("0" * 64, "1" * 64)
ADVISORY = {"id": "GHSA-1", "fixed_in": ["2.1"], "withdrawn": None}
WITHDRAWN = ADVISORY | {"withdrawn": "2026-01-01T00:00:00Z"}

Audit = Callable[[dict[str, Any]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    """Audit a lock of two packages against an index that knows these, by name and version."""
    known: dict[str, Any] = {}

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            told = known.get(self.path.removeprefix("/at/pypi/").removesuffix("/json"))
            self.send_response(404 if told is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    (tmp_path / "lock").write_text(LOCK)

    def run(packages: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        known.update(packages)
        return subprocess.run(
            [sys.executable, ROOT / "scripts" / "audit", tmp_path / "lock"],
            env={"PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/at/simple/"},
            capture_output=True,
            text=True,
            check=False,
        )

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield run
        server.shutdown()
        thread.join()


def about(*advisories: dict[str, Any]) -> dict[str, Any]:
    return {"vulnerabilities": list(advisories)}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ({"good/1.0": about(), "bad/2.0": about(WITHDRAWN)}, 0, "0 advisories, 0 not known"),
        ({"good/1.0": about(), "bad/2.0": about(ADVISORY)}, 1, "bad 2.0: GHSA-1, mended in 2.1"),
        ({"good/1.0": about(), "bad/2.0": {}}, 69, "not known: bad 2.0: KeyError"),
        ({"bad/2.0": about(ADVISORY)}, 69, "nothing is known of any of 2 packages"),
    ],
    ids=["clean", "vulnerable", "one not known", "no such interface"],
)
def test_what_could_not_be_asked_for_is_never_called_clean(
    audit: Audit, packages: dict[str, Any], code: int, said: str
) -> None:
    """Clean, vulnerable and not known are three things, with a code each."""
    done = audit(packages)

    assert done.returncode == code
    assert said in done.stdout + done.stderr


def bill() -> str:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "sbom"], capture_output=True, text=True, check=True
    ).stdout


def test_the_bill_names_every_locked_package_with_its_hashes() -> None:
    """Once, by the name that others know it by, and with all who need it."""
    lock = (ROOT / "requirements.lock").read_text()
    written = json.loads(bill())

    components = written["components"]
    locked = re.findall(r"^(\S+)==(\S+)", lock, re.MULTILINE)
    assert [(one["name"], one["version"]) for one in components] == locked
    assert [one["purl"] for one in components] == [f"pkg:pypi/{n}@{v}" for n, v in locked]
    hashes = [each["content"] for one in components for each in one["hashes"]]
    assert hashes == re.findall(r"--hash=sha256:(\S+)", lock)
    needed = {ref for one in written["dependencies"] for ref in one["dependsOn"]}
    assert needed == {one["bom-ref"] for one in components}
    assert all("licenses" in one for one in components if one["scope"] == "required")


def test_the_bill_is_the_same_each_time() -> None:
    """No time and no number of its own is in it, so that a change in it is one of the lock."""
    assert bill() == bill()
