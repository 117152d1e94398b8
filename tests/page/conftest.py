"""Facts to show, and a real browser: Chromium, driven by chromedriver's WebDriver protocol."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pricecheck.keepa.tables import BY_CODE
from pricecheck.keepa.time import to_rfc3339
from pricecheck.page.facts import Facts, Operation, Product, Spending
from pricecheck.page.steps import Point
from pricecheck.records import Deal, Price

NOW_MS = 1_790_000_000_000 // 3_600_000 * 3_600_000
DAY = 24 * 60
ASIN = "B08N5WRWNW"
OTHER = "B000000001"
SERIES: dict[str, list[Point]] = {
    "NEW": [(0, 5_000), (30 * DAY, 4_000), (40 * DAY, None), (60 * DAY, 4_500)],
    "AMAZON": [(0, 5_100)],
}

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def price(**fields: Any) -> Price:
    """A price record, with these fields instead of the usual ones."""
    shape: dict[str, Any] = {
        "asin": ASIN,
        "domain": "DE",
        "currency": "EUR",
        "title": "A keyboard",
        "timestamp": to_rfc3339(NOW_MS),
        "current_price": 4_500,
        "previous_price": None,
        "price_change_percent": None,
        "target_price": None,
        "prices": {"NEW": 4_500},
        "stats": {},
        "sales_rank": 12_345,
        "rating": 4.5,
        "review_count": 1_000,
        "last_update": None,
        "url": "",
    }
    return Price(**shape | fields)


def product(**fields: Any) -> Product:
    """A product with 90 days of prices; what a price record holds may be named as well."""
    known = {name: fields.pop(name) for name in list(fields) if name in Price.__struct_fields__}
    record = price(**known)
    shape: dict[str, Any] = {
        "asin": record.asin,
        "market": BY_CODE[record.domain],
        "price": record,
        "target": None,
        "checked": 90 * DAY - 60,
        "series": SERIES,
        "week_ago": 5_000,
        "week_percent": -10.0,
    }
    return Product(**shape | fields)


def deal(**fields: Any) -> Deal:
    """A deal record, with these fields instead of the usual ones."""
    shape: dict[str, Any] = {
        "asin": OTHER,
        "domain": "UK",
        "currency": "GBP",
        "title": "A mouse",
        "price_type": "NEW",
        "created_at": to_rfc3339(NOW_MS - 86_400_000),
        "timestamp": to_rfc3339(NOW_MS),
        "current_price": 1_999,
        "original_price": 3_999,
        "discount_percent": 50,
        "rating": 4.0,
        "review_count": 321,
        "sales_rank": 7,
        "category": 1,
        "deal_score": 71.6,
        "source": "keepa",
        "url": "https://example.org/not-used",
    }
    return Deal(**shape | fields)


def facts(**fields: Any) -> Facts:
    """What a page may be told: a product, a deal and some spending."""
    spending = Spending([0] * 22 + [40, 15], [Operation("product", 5, 1, 55, 123.4)], 900, 20)
    shape: dict[str, Any] = {
        "now_ms": NOW_MS,
        "begin_ms": NOW_MS - 90 * 86_400_000,
        "watched": 1,
        "products": [product()],
        "deals": [deal()],
        "deals_in_all": 1,
        "spending": spending,
    }
    return Facts(**shape | fields)


class Browser:
    """One window of a Chromium."""

    def __init__(self, session: httpx.Client) -> None:
        self._session = session

    def post(self, path: str, **body: Any) -> Any:
        """Call a WebDriver command; an error in the page is an error here."""
        answer = self._session.post(path, json=body).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(answer["message"])
        return answer

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Call a command of the DevTools protocol."""
        return self.post("goog/cdp/execute", cmd=command, params=parameters)

    def open(self, page: Path, *, width: int = 1280, dark: bool = False, hash_: str = "") -> None:
        """Load a file at this width and in this colour scheme."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        self.post("url", url="about:blank")
        self.post("url", url=f"{page.as_uri()}{hash_}")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; return what it returns."""
        return self.post("execute/sync", script=script, args=arguments)

    def wait(self, script: str) -> Any:
        """Wait until an expression in the page is true; return its value."""
        body = (
            f"const done = arguments[0]; const look = () => {{ const found = {script}; "
            "found ? done(found) : requestAnimationFrame(look); }; look();"
        )
        return self.post("execute/async", script=body, args=[])

    def press(self, *keys: str) -> None:
        """Press keys one after the other, on whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.post("actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def logged(self) -> list[str]:
        """Return what the console has said since the last time."""
        return [entry["message"] for entry in self.post("se/log", type="browser")]

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Take a picture of the page."""
        taken = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Run a Chromium with a new profile."""
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if driver is None or program is None:
        pytest.skip("Chromium is missing: apt-get install chromium chromium-driver")
    with subprocess.Popen(
        [driver, "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(profile.parent)},  # where Chromium leaves things behind
    ) as process:
        try:
            assert process.stdout is not None
            said = next(line for line in process.stdout if "started successfully on port" in line)
            url = f"http://127.0.0.1:{said.split()[-1].rstrip('.')}"
            options = {"binary": program, "args": [*FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            with httpx.Client(timeout=30, trust_env=False) as client:
                body = {"capabilities": {"alwaysMatch": wanted}}
                made = client.post(f"{url}/session", json=body).json()["value"]
                assert "sessionId" in made, made
                session = f"{url}/session/{made['sessionId']}"
                client.base_url = httpx.URL(session)
                try:
                    yield Browser(client)
                finally:
                    # Without a slash at its end, or the driver does not know it, and ends without
                    # ending the browser.
                    client.delete(session).raise_for_status()
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium for all tests of a worker: it takes a second to start."""
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started
