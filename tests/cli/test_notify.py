"""`pricecheck notify test`, and what else is sent by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricecheck.records import Deal
from tests.cli.conftest import Keep, Run
from tests.deliver.conftest import Serve
from tests.deliver.test_notify import SECRET, Phone


def configure(home: Path, notify: str = "") -> None:
    (home / "pricecheck.toml").write_text(
        f'state_directory = "state"\n[keepa]\nurl = "http://127.0.0.1:9"\n[notify]\n{notify}'
    )


async def test_each_service_is_told_and_named(run: Run, home: Path, serve_http: Serve) -> None:
    """One message each, in the language that was set, and exit code 0."""
    configure(home, 'language = "de"\nurls_file = "urls"\n')
    phone, desk = Phone(), Phone()
    addresses = [(await serve_http(one)).replace("http", "json") for one in (phone, desk)]
    (home / "urls").write_text(f"phone={addresses[0]}\n# the office\ndesk={addresses[1]}\n")

    done = await run("notify", "test")

    assert done.returncode == 0
    assert done.stdout.splitlines() == ["notify:phone  told", "notify:desk   told"]
    assert phone.titles() == desk.titles() == ["SIMULATED: pricecheck: ein Test"]


async def test_why_one_was_not_told_is_said_without_its_address(
    run: Run, home: Path, serve_http: Serve
) -> None:
    """The others are told all the same; the exit code is that of an unavailable service."""
    configure(home)
    phone, desk = Phone(), Phone()
    phone.status = 403
    one, other = [(await serve_http(one)).replace("http", "json") for one in (phone, desk)]

    done = await run("notify", "test", env={"NOTIFY_URLS": f"phone={one}/{SECRET} desk={other}"})

    assert done.returncode == 69
    assert done.stdout.splitlines() == ["notify:desk   told"]
    assert done.stderr.startswith("notify:phone  Failed to send")
    assert "error=403" in done.stderr
    assert SECRET not in done.stderr
    assert len(desk.told) == 1


@pytest.mark.parametrize("section", ["[notify]\n", ""])
async def test_without_a_service_there_is_nobody_to_tell(
    run: Run, home: Path, section: str
) -> None:
    """A config that tells nobody is a mistake here."""
    (home / "pricecheck.toml").write_text(section)

    done = await run("notify", "test")

    assert done.returncode == 78
    assert "NOTIFY_URLS" in done.stderr


def deal(number: int, **fields: object) -> Deal:
    plain: dict[str, object] = {
        "asin": f"B{number:09}",
        "domain": "DE",
        "currency": "EUR",
        "title": f"Keyboard [{number}] <b>",
        "price_type": "NEW",
        "created_at": "2026-11-24T10:00:00Z",
        "timestamp": "2999-01-01T00:00:00Z",
        "current_price": 4_999,
        "original_price": 9_999,
        "discount_percent": 50,
        "rating": 4.5,
        "review_count": 12,
        "sales_rank": 7,
        "category": None,
        "deal_score": float(number),
        "source": "keepa",
        "url": f"https://www.amazon.de/dp/B{number:09}",
    }
    return Deal(**(plain | fields))  # type: ignore[arg-type]


async def test_the_report_lists_the_best_deals_in_markdown(run: Run, keep: Keep) -> None:
    """Each product once, the best score first."""
    again = deal(1, price_type="AMAZON", deal_score=90.0)
    variant = deal(3, title="Keyboard [2] <b>", deal_score=1.0)
    keep(one.record() for one in (deal(1), deal(2), again, variant))

    done = await run("deals", "--report")

    assert done.returncode == 0
    title, _, summary, _, *rows = done.stdout.splitlines()
    assert title.startswith("# SIMULATED: Deals of 20")
    assert summary == "the 2 best of 2"
    assert rows == [
        r"1. [Keyboard \[1\] \<b\>](https://www.amazon.de/dp/B000000001): "
        "DE, €49.99, 50 % off €99.99, ★ 4.5 (12), score 90",
        r"2. [Keyboard \[2\] \<b\>](https://www.amazon.de/dp/B000000002): "
        "DE, €49.99, 50 % off €99.99, ★ 4.5 (12), score 2",
    ]


@pytest.mark.parametrize("form", ["markdown", "html"])
async def test_a_title_makes_no_line_of_its_own_in_the_report(
    run: Run, keep: Keep, form: str
) -> None:
    """Nor turns the text around."""
    keep([deal(1, title="A\n# B\u202e").record()])

    done = await run("deals", "--report", "--format", form)

    assert "A # B" in done.stdout.replace("\\", "")
    assert "\u202e" not in done.stdout


async def test_the_report_is_html_when_asked_for(run: Run, keep: Keep, home: Path) -> None:
    """With titles that can't break it, and in the language that was set."""
    configure(home, 'language = "de"\n')
    keep([deal(1).record(), deal(2, rating=None, original_price=None).record()])

    done = await run("deals", "--report", "--format", "html", "--limit", "1")

    assert done.stdout.splitlines() == [
        done.stdout.splitlines()[0],
        "<p>die 1 besten von 2</p>",
        "<ol>",
        '<li><a href="https://www.amazon.de/dp/B000000002">Keyboard [2] &lt;b&gt;</a>: '
        "DE, 49,99 €, 2 Punkte</li>",
        "</ol>",
    ]


async def test_the_report_is_sent(run: Run, keep: Keep, home: Path, serve_http: Serve) -> None:
    """To each service, which makes of it what it can show."""
    configure(home)
    phone = Phone()
    address = (await serve_http(phone)).replace("http", "json")
    keep([deal(1).record()])

    done = await run("deals", "--send", env={"NOTIFY_URLS": f"phone={address}"})

    assert (done.returncode, done.stdout) == (0, "notify:phone  told\n")
    [told] = phone.told
    assert "Deals of" in told["title"]
    assert "https://www.amazon.de/dp/B000000001" in told["message"]
