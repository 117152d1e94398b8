"""pricecheck.toml: what is read, and how what is wrong is told."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck import config
from pricecheck.config import Config, DealRule, Settings
from pricecheck.errors import ConfigError
from pricecheck.keepa.client import KeepaClient, Timeouts
from pricecheck.keepa.tables import BY_CODE
from pricecheck.timescale import TimeScale

EVERYTHING = """
state_directory = "state"
log_level = "DEBUG"
stall_after = "20m"

[keepa]
url = "https://keepa.example.net:8443/api"
key_file = "key"
max_call_cost = 300
concurrency = 8
connect_timeout = "5s"
read_timeout = "1m"
call_timeout = "1m30s"

[costs]
product = 1.5
buybox = 3
offers = 5
update = 0
deal = 6
bestsellers = 3
query = 11

[prices]
watchlist = "lists/all.csv"
domain = "amazon.fr"
mode = "fixed"
every = "12h"
min_every = "5m"
reserve = 0.25
weight = 2
lookback = "4w"
stats_days = 30
buybox = true
offers = 20
update = 24

[[deals]]
domain = 3
category = 340843031
every = "30m"
pages = 2
price_type = "amazon"
min_discount = 20
max_discount = 80
min_price = 15
max_price = 300.5
min_rating = 3.5

[[bestsellers]]
domain = "GB"
category = "Electronics"
every = "2d"
top = 10

[[discovery]]
name = "keyboards"
source = "bestsellers"
domain = "UK"
category = "Electronics"
every = "12h"
top = 50
pages = 3
min_price = 10
max_price = 80
min_rating = 4
min_reviews = 100
brands = ["Lumikey"]
words = ["Tastatur"]
without = ["Set"]
most = 500
accept = "all"
reserve = 0.3

[[alerts]]
name = "bargain"
what = "rise"
threshold = "12.5 %"
against = "avg30"
price_type = "amazon"
margin = 0
domains = ["amazon.de", "UK"]
asins = ["B000000001"]
cheapest = false

[outbox]
retention = "30d"
metrics_cap = 5
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own environment counts."""
    for name in (
        "KEEPA_API_KEY",
        "PRICECHECK_CONFIG",
        "CONFIGURATION_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
        "STATE_DIRECTORY",
        "XDG_STATE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's config is."""
    return tmp_path / "pricecheck.toml"


def load(path: Path, content: str | bytes) -> Settings:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return config.load(path)


def refused(path: Path, content: str | bytes) -> ConfigError:
    """Return the error that a config is refused with; it names the file, and what to do."""
    with pytest.raises(ConfigError) as caught:
        load(path, content)
    assert str(path) in caught.value.message
    assert caught.value.remedy
    return caught.value


def test_no_file_is_needed() -> None:
    """Without one, the embedded defaults hold, and paths start from where we are."""
    settings = config.load(None)

    assert settings == Settings(Config(), None)
    assert settings.watchlist == Path.cwd() / "watchlist.csv"


def test_an_empty_file_is_the_defaults(path: Path) -> None:
    """Every key has one."""
    assert load(path, "").config == Config()


def test_reads_every_key(path: Path) -> None:
    """Each arrives where it belongs, durations in seconds and marketplaces by their code."""
    read = msgspec.to_builtins(
        load(path, EVERYTHING).config,
        enc_hook=lambda value: int(value) if isinstance(value, int) else str(value),
    )

    top = {key: read[key] for key in ("state_directory", "log_level", "stall_after")}
    assert top == {"state_directory": "state", "log_level": "DEBUG", "stall_after": 1200}
    assert read["keepa"] == {
        "url": "https://keepa.example.net:8443/api",
        "key_file": "key",
        "max_call_cost": 300,
        "concurrency": 8,
        "connect_timeout": 5,
        "read_timeout": 60,
        "call_timeout": 90,
    }
    assert read["costs"] == {
        "product": 1.5,
        "buybox": 3,
        "offers": 5,
        "update": 0,
        "deal": 6,
        "bestsellers": 3,
        "query": 11,
    }
    assert read["prices"] == {
        "watchlist": "lists/all.csv",
        "domain": "FR",
        "every": 43_200,
        "weight": 2,
        "mode": "fixed",
        "min_every": 300,
        "reserve": 0.25,
        "lookback": 2_419_200,
        "stats_days": 30,
        "buybox": True,
        "offers": 20,
        "update": 24,
    }
    (deal,), (best,) = read["deals"], read["bestsellers"]
    assert deal == {
        "domain": "DE",
        "category": 340_843_031,
        "every": 1800,
        "pages": 2,
        "price_type": "AMAZON",
        "min_discount": 20,
        "max_discount": 80,
        "min_price": 15,
        "max_price": 300.5,
        "min_rating": 3.5,
    }
    assert best == {"domain": "UK", "category": "Electronics", "every": 172_800, "top": 10}
    assert read["discovery"] == (
        {
            "name": "keyboards",
            "domain": "UK",
            "source": "bestsellers",
            "category": "Electronics",
            "every": 43_200,
            "top": 50,
            "pages": 3,
            "min_price": 10,
            "max_price": 80,
            "min_rating": 4,
            "min_reviews": 100,
            "brands": ("Lumikey",),
            "words": ("Tastatur",),
            "without": ("Set",),
            "most": 500,
            "accept": "all",
            "reserve": 0.3,
        },
    )
    [alert] = read["alerts"]
    assert alert == {
        "name": "bargain",
        "what": "rise",
        "threshold": "12.5",
        "against": "avg30",
        "price_type": "AMAZON",
        "margin": 0,
        "domains": ("DE", "UK"),
        "asins": ("B000000001",),
        "cheapest": False,
    }
    assert read["outbox"] == {"retention": 2_592_000, "metrics_cap": 5}


@pytest.mark.parametrize(
    ("written", "number", "percent"),
    [('"15%"', 15, True), ('"12.5 %"', 12.5, True), ("15", 15, False), ("9.99", 9.99, False)],
)
def test_a_threshold_is_an_amount_or_a_share(
    path: Path, written: str, number: float, percent: bool
) -> None:
    """As it is written."""
    alert = f'[[alerts]]\nname = "one"\nwhat = "drop"\nthreshold = {written}'

    found = load(path, alert).config.alerts[0].threshold

    assert found is not None
    assert (float(found), found.percent) == (number, percent)


@pytest.mark.parametrize("name", ["", "a:b", "a/b", "-a", "x" * 41])
def test_a_rule_s_name_can_stand_in_an_id(path: Path, name: str) -> None:
    """So there is no colon in it."""
    refused(path, f'[[alerts]]\nname = "{name}"\nwhat = "low"')


def test_the_watchlist_s_targets_have_a_rule_unless_one_takes_its_place(path: Path) -> None:
    """It is called target, and each name is there once."""
    rule = '[[alerts]]\nname = "{}"\nwhat = "{}"\n'

    assert [one.name for one in load(path, "").config.alert_rules] == ["target"]
    more = load(path, rule.format("again", "stock")).config
    assert [one.name for one in more.alert_rules] == ["target", "again"]
    own = load(path, rule.format("target", "target") + "margin = 5").config
    assert [one.margin for one in own.alert_rules] == [5]
    twice = rule.format("again", "stock") + rule.format("again", "low")
    assert "again is there twice" in refused(path, twice).message


def test_a_rules_marketplace_is_at_hand(path: Path) -> None:
    """A domain knows its marketplace."""
    rule = load(path, EVERYTHING).config.deals[0]

    assert rule.domain.market is BY_CODE["DE"]


def test_the_sample_above_leaves_no_key_of_its_sections_out() -> None:
    """A key that comes to be added is read in a test, too."""
    keys = {line.split(" =")[0] for line in EVERYTHING.splitlines() if " = " in line}
    sections = (config.Keepa, config.Costs, config.Prices, DealRule, config.BestsellersRule)

    for section in (*sections, config.DiscoveryRule, config.AlertRule, config.Outbox):
        assert {*section.__struct_fields__} <= keys


@pytest.mark.parametrize(
    ("content", "key", "reason"),
    [
        ("log_level = 5", "log_level", "a whole number"),
        ('log_level = "LOUD"', "log_level", "LOUD"),
        ("stall_after = 6", "stall_after", "not a duration"),
        ("stall_after = 6.5", "stall_after", "not a duration"),
        ("stall_after = true", "stall_after", "not a duration"),
        ("stall_after = 06:00:00", "stall_after", "not a duration"),
        ('[prices]\nevery = "6"', "prices.every", "not a duration"),
        ('[prices]\nevery = "6 parsecs"', "prices.every", "not a duration"),
        ('[prices]\nevery = "0s"', "prices.every", "out of range"),
        ('[prices]\nevery = "9999d"', "prices.every", "out of range"),
        ('[prices]\ndomain = "XX"', "prices.domain", "XX"),
        ("[prices]\ndomain = 13", "prices.domain", "13"),
        ("[prices]\ndomain = true", "prices.domain", "True"),
        ("[prices]\nweight = 0", "prices.weight", "> 0"),
        ("[prices]\nweight = nan", "prices.weight", "nan"),
        ("[prices]\nweight = inf", "prices.weight", "inf"),
        ("[prices]\nstats_days = 0", "prices.stats_days", ">= 1"),
        ("[prices]\nstats_days = 9000", "prices.stats_days", "<= 3650"),
        ("[prices]\noffers = 5", "prices.offers", "20 to 100"),
        ("[prices]\noffers = 101", "prices.offers", "<= 100"),
        ('[prices]\nbuybox = "yes"', "prices.buybox", "true or false"),
        ("[prices]\nupdate = 1.5", "prices.update", "a whole number"),
        ("[prices]\nupdate = 99999999999999999999", "prices.update", "too large"),
        ('[prices]\nwatchlist = ""', "prices.watchlist", "length"),
        ('[prices]\nwatchlist = "a\\u0000b"', "prices.watchlist", "NUL"),
        ("[costs]\nproduct = -1", "costs.product", ">= 0"),
        ('[costs]\nproduct = "1"', "costs.product", "a number"),
        ("[costs]\nproduct = inf", "costs.product", "inf"),
        ("[keepa]\nmax_call_cost = 0", "keepa.max_call_cost", ">= 1"),
        ("[keepa]\nconcurrency = 33", "keepa.concurrency", "<= 32"),
        ("[keepa]\nkey_file = 5", "keepa.key_file", "a text"),
        ('[[deals]]\ndomain = "DE"\nmin_discount = 9', "deals[0].min_discount", ">= 10"),
        ('[[deals]]\ndomain = "DE"\ncategory = 0', "deals[0].category", ">= 1"),
        ('[[deals]]\ndomain = "DE"\npages = 101', "deals[0].pages", "<= 100"),
        ('[[deals]]\ndomain = "DE"\nmin_rating = 5.1', "deals[0].min_rating", "<= 5"),
        ('[[deals]]\ndomain = "DE"\nmin_price = 1e300', "deals[0].min_price", "<="),
        ('[[deals]]\ndomain = "DE"\nprice_type = "CHEAP"', "deals[0].price_type", "CHEAP"),
        ('[[deals]]\ndomain = "DE"\nprice_type = "SALES"', "deals[0].price_type", "SALES"),
        ('[[deals]]\ndomain = "DE"\nprice_type = 1', "deals[0].price_type", "1"),
        ("[[deals]]\npages = 1", "deals[0]", "domain is missing"),
        (
            '[[deals]]\ndomain = "DE"\n[[deals]]\ndomain = "FR"\nmin_discount = 50\n'
            "max_discount = 40",
            "deals[1].max_discount",
            "below min_discount",
        ),
        (
            '[[deals]]\ndomain = "DE"\nmin_price = 50\nmax_price = 40',
            "deals[0].max_price",
            "below min_price",
        ),
        ('[[bestsellers]]\ndomain = "DE"', "bestsellers[0]", "category"),
        ('[[bestsellers]]\ndomain = "DE"\ncategory = 1.5', "bestsellers[0].category", "a number"),
        ('[[bestsellers]]\ndomain = "DE"\ncategory = ""', "bestsellers[0].category", "length"),
        ('[[bestsellers]]\ndomain = "DE"\ncategory = 0', "bestsellers[0].category", ">= 1"),
        ('[[bestsellers]]\ndomain = "DE"\ncategory = 1\ntop = 0', "bestsellers[0].top", ">= 1"),
        *(
            (f'[[discovery]]\nname = "one"\ndomain = "DE"\n{rule}', key, reason)
            for rule, key, reason in (
                ("", "discovery[0]", "source is missing"),
                ('source = "news"', "discovery[0].source", "news"),
                ('source = "search"', "discovery[0]", "category is missing"),
                ('source = "search"\ncategory = "Toys"', "discovery[0].category", "browse node"),
                ('source = "bestsellers"', "discovery[0]", "category is missing"),
                ('source = "deals"\ncategory = "Toys"', "discovery[0].category", "browse node"),
                (
                    'source = "deals"\nmin_price = 50\nmax_price = 40',
                    "discovery[0].max_price",
                    "below min_price",
                ),
                ('source = "deals"\nwords = [""]', "discovery[0].words[0]", "length"),
                ('source = "deals"\nmost = 0', "discovery[0].most", ">= 1"),
                ('source = "deals"\nreserve = 1.5', "discovery[0].reserve", "<= 1"),
                ('source = "deals"\naccept = "some"', "discovery[0].accept", "some"),
                (
                    'source = "deals"\n[[discovery]]\nname = "one"\ndomain = "FR"\n'
                    'source = "deals"',
                    "discovery[0].name",
                    "is there twice",
                ),
            )
        ),
        *(
            (f'[[alerts]]\nname = "one"\n{rule}', key, reason)
            for rule, key, reason in (
                ("", "alerts[0]", "what is missing"),
                ('what = "sale"', "alerts[0].what", "sale"),
                ('what = "drop"', "alerts[0]", "threshold is missing"),
                ('what = "score"', "alerts[0]", "threshold is missing"),
                ('what = "drop"\nthreshold = "ten"', "alerts[0].threshold", "'ten'"),
                ('what = "drop"\nthreshold = 0', "alerts[0].threshold", "above 0"),
                ('what = "drop"\nthreshold = true', "alerts[0].threshold", "True"),
                ('what = "drop"\nthreshold = -1', "alerts[0].threshold", "-1"),
                ('what = "stock"\nthreshold = 5', "alerts[0].threshold", "stock has none"),
                ('what = "target"\nthreshold = "5%"', "alerts[0].threshold", "a share of what"),
                ('what = "spread"', "alerts[0]", "threshold is missing"),
                ('what = "spread"\nthreshold = 20', "alerts[0].threshold", "is a share"),
                ('what = "low"\nagainst = "avg30"', "alerts[0].against", "drop and rise"),
                ('what = "low"\nmargin = 51', "alerts[0].margin", "<= 50"),
                ('what = "low"\nprice_type = "RATING"', "alerts[0].price_type", "RATING"),
                ('what = "low"\nasins = ["b0"]', "alerts[0].asins[0]", "matching"),
                ('what = "low"\ndomains = ["XX"]', "alerts[0].domains[0]", "XX"),
                ('what = "low"\ncheapest = true', "alerts[0].cheapest", "several asins"),
            )
        ),
        ("[outbox]\nmetrics_cap = -1", "outbox.metrics_cap", ">= 0"),
        ("[outbox]\nmetrics_cap = 99999999999999999999", "outbox.metrics_cap", "too large"),
        ("[simulation]\ntime_factor = 0", "simulation.time_factor", "> 0"),
        ("keepa = 5", "keepa", "a table"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    path: Path, content: str, key: str, reason: str
) -> None:
    """File, key and reason, in words for people."""
    error = refused(path, content)

    assert f"{path}: {key}: " in error.message
    assert reason in error.message
    assert "`" not in error.message


@pytest.mark.parametrize(
    ("content", "key", "remedy"),
    [
        ("log_levle = 1", "log_levle", "did you mean log_level?"),
        ("[keepa]\nmax_cost = 5", "keepa.max_cost", "did you mean max_call_cost?"),
        ("[Prices]", "Prices", "did you mean prices?"),
        ("[price]", "price", "did you mean prices?"),
        ('[[deals]]\ndomain = "DE"\nmin_prise = 1', "deals[0].min_prise", "min_price?"),
        ("[outbox]\nzzz = 1", "outbox.zzz", "known: retention, metrics_cap"),
        ("[simulation]\nfactor = 1", "simulation.factor", "did you mean time_factor?"),
        ('[[bestsellers]]\ndomian = "DE"', "bestsellers[0].domian", "did you mean domain?"),
        ("[costs]\noffer = 1", "costs.offer", "did you mean offers?"),
    ],
)
def test_an_unknown_key_is_told_with_what_is_near(
    path: Path, content: str, key: str, remedy: str
) -> None:
    """A slip of the pen is seen through, and where none is near all keys are listed."""
    error = refused(path, content)

    assert error.message == f"{path}: unknown key {key}"
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("content", "key", "choices"),
    [
        ('[prices]\nmode = "fast"', "prices.mode", "adaptive, fixed"),
        ('[elasticsearch]\nlayout = "streams"', "elasticsearch.layout", "index, data_stream"),
        ('[[alerts]]\nwhat = "drop"\nagainst = "all"', "alerts[0].against", "last, avg30, avg90"),
    ],
)
def test_of_a_value_that_is_none_of_the_choices_they_are_named(
    path: Path, content: str, key: str, choices: str
) -> None:
    """Nobody has to look them up."""
    error = refused(path, content)

    assert error.message.startswith(f"{path}: {key}: unknown value ")
    assert error.remedy == f"use one of {choices}"


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ('[deals]\ndomain = "DE"', "write [[deals]]"),
        ('[bestsellers]\ndomain = "DE"', "write [[bestsellers]]"),
        ("[[prices]]\nweight = 1", "write [prices]"),
    ],
)
def test_brackets_too_few_or_too_many_are_seen(path: Path, content: str, remedy: str) -> None:
    """TOML's commonest mistake gets the remedy that it needs."""
    assert remedy in refused(path, content).remedy


@pytest.mark.parametrize(
    "content",
    [
        "every = 6h",
        "[keepa",
        "a = 1\na = 2",
        b"\xff",
        "a = " + "[" * 10_000,
        "a = " + "1" * 5_000,
        "a = 2025-13-45",
    ],
    ids=["no quotes", "cut", "twice", "not text", "deep", "long", "no date"],
)
def test_what_is_no_toml_is_refused(path: Path, content: str | bytes) -> None:
    """Whatever way a file is not TOML, it is a ConfigError."""
    assert "TOML" in refused(path, content).remedy


def test_a_byte_order_mark_is_no_trouble(path: Path) -> None:
    """Windows editors put one in front."""
    assert load(path, b'\xef\xbb\xbflog_level = "DEBUG"').config.log_level == "DEBUG"


def test_a_file_that_is_not_there_can_be_made(path: Path) -> None:
    """The remedy is the command that writes one."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        config.load(path)

    assert "pricecheck init" in caught.value.remedy


def test_a_file_that_cannot_be_read_is_not_to_be_made(tmp_path: Path) -> None:
    """There is something: the remedy is to look at it."""
    with pytest.raises(ConfigError, match="Is a directory") as caught:
        config.load(tmp_path)

    assert "init" not in caught.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        "https://api.keepa.com",
        "https://keepa.example.net:8443/api/",
        "http://127.0.0.1:8080",
        "http://localhost",
        "http://[::1]:9",
        "https://[2001:db8::1]",
        "https://keepa_proxy/api",
    ],
)
def test_keepa_is_reached_by_https_or_on_this_machine(path: Path, url: str) -> None:
    """What is taken can be used."""
    settings = load(path, f'[keepa]\nurl = "{url}"')

    KeepaClient("key", url=settings.config.keepa.url, timeouts=Timeouts())


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        ("rates = { XAU = 1 }", "exchange.rates"),
        ("rates = { USD = 0 }", "exchange.rates"),
        ("rates = { EUR = 2 }", "exchange.rates.EUR"),
        ('url = "ftp://bank.example"', "exchange.url"),
        ('url = "bank.example"', "exchange.url"),
    ],
)
def test_rates_that_can_not_be_right_are_refused(path: Path, exchange: str, key: str) -> None:
    """And the address of no web server."""
    assert key in refused(path, f"[exchange]\n{exchange}").message


@pytest.mark.parametrize(
    ("listen", "place"),
    [
        ("127.0.0.1:8372", ("127.0.0.1", 8372)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:8372", ("::1", 8372)),
    ],
)
def test_the_page_is_served_on_this_machine(
    path: Path, listen: str, place: tuple[str, int]
) -> None:
    """Wherever one chooses there."""
    web = load(path, f'[web]\nlisten = "{listen}"').config.web

    assert web
    assert web.place == place


@pytest.mark.parametrize(
    "listen",
    [
        "",
        "8372",
        "localhost",
        "0.0.0.0:8372",
        "[::]:8372",
        "192.0.2.1:8372",
        "127.0.0.1:99999",
        "127.0.0.1:8372/x",
        "[::1:8372",
    ],
)
def test_the_page_is_served_to_nobody_else(path: Path, listen: str) -> None:
    """It asks for no password."""
    assert "web.listen" in refused(path, f'[web]\nlisten = "{listen}"').message


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.keepa.com",
        "http://api.keepa.com",
        "http://127.0.0.1.example.net",
        "http://127.0.0.1@example.net",
        "http://localhost.example.net",
        "https://",
        "https://user:password@api.keepa.com",
        "https://api.keepa.com/?key=1",
        "https://api.keepa.com/#x",
        "https://api.keepa.com:99999",
        "https://api.keepa.com:port",
        "https://999.1.1.1",
        "https://a..b",
        "https://[::1",
        "https://[::g]",
        "https://ke epa.com",
        "https://api.k\u0435epa.com",
        "ftp://localhost",
        "file:///etc/passwd",
    ],
)
def test_the_key_is_sent_in_the_clear_to_nobody(path: Path, url: str) -> None:
    """Any other address, one that only looks like Keepa's too, is refused."""
    error = refused(path, f'[keepa]\nurl = "{url}"')

    assert "keepa.url" in error.message
    assert "https" in error.remedy


@given(st.text(alphabet="htps:/[]@.?#%-_ 019aé\t\\", max_size=20))
def test_an_address_that_is_taken_can_be_used(tail: str) -> None:
    """No address passes that the client would stumble over."""
    url = f"https://{tail}"
    with suppress(ConfigError):
        config.of_document({"keepa": {"url": url}}, Path("pricecheck.toml"))
        KeepaClient("key", url=url, timeouts=Timeouts())


@pytest.mark.parametrize(
    ("content", "simulated"),
    [
        ("", False),
        ('[keepa]\nurl = "http://127.0.0.1:1"', True),
        ('[keepa]\nurl = "http://LOCALHOST"\n[simulation]', True),
    ],
)
def test_knows_a_simulation(path: Path, content: str, simulated: bool) -> None:
    """A server on this machine is no Keepa."""
    assert load(path, content).config.simulated is simulated


def test_real_time_is_the_default(path: Path) -> None:
    """And a simulation's own otherwise."""
    local = '[keepa]\nurl = "http://127.0.0.1:1"\n[simulation]\n'

    assert load(path, "").config.time == TimeScale(1.0, 0)
    scaled = load(path, local + "time_factor = 60\nepoch_ms = 1750000000000").config.time
    assert scaled == TimeScale(60.0, 1_750_000_000_000)


def test_time_is_not_sped_up_against_the_real_keepa(path: Path) -> None:
    """A day's tokens would go in a minute, and the prices would be called simulated."""
    error = refused(path, "[simulation]\ntime_factor = 1440\nepoch_ms = 1750000000000")

    assert "simulation" in error.message
    assert "keepa.url" in error.message


@pytest.mark.parametrize("epoch", ["", "epoch_ms = -5", "epoch_ms = 99999999999999"])
def test_simulated_time_needs_a_beginning(path: Path, epoch: str) -> None:
    """Sped up since 1970, now would be no date that can be written."""
    local = '[keepa]\nurl = "http://127.0.0.1:1"\n[simulation]\ntime_factor = 1440\n'

    assert "epoch_ms" in refused(path, local + epoch).message


@pytest.mark.parametrize(
    "rules",
    [
        '[[deals]]\ndomain = "DE"\n[[deals]]\ndomain = "amazon.de"',
        '[[deals]]\ndomain = 3\ncategory = 5\n[[deals]]\ndomain = "DE"\ncategory = 5\npages = 2',
        '[[bestsellers]]\ndomain = "DE"\ncategory = 5\n[[bestsellers]]\ndomain = 3\ncategory = "5"',
    ],
)
def test_two_rules_for_the_same_are_refused(path: Path, rules: str) -> None:
    """Their tasks would have one name, however differently they are written."""
    assert "configured twice" in refused(path, rules).message


def test_rules_that_differ_have_names_of_their_own(path: Path) -> None:
    """By marketplace, category or price type."""
    rules = load(
        path,
        """
        deals = [{domain = "DE"}, {domain = "FR"}, {domain = "DE", category = 5},
                 {domain = "DE", price_type = "AMAZON"}]
        bestsellers = [{domain = "DE", category = 5}, {domain = "DE", category = "Toys"}]
        """,
    ).config

    names = [rule.name for rule in rules.deals + rules.bestsellers]
    assert names == [
        "deals:DE",
        "deals:FR",
        "deals:DE:5",
        "deals:DE:AMAZON",
        "bestsellers:DE:5",
        "bestsellers:DE:Toys",
    ]


class TestDiscoverysLists:
    RULE = '[[discovery]]\nname = "{}"\ndomain = "DE"\nsource = "{}"\ncategory = 5\n{}\n'

    def test_the_lists_of_the_config_are_read(self, path: Path) -> None:
        """What is asked for anyway is asked for once."""
        rules = (
            '[[bestsellers]]\ndomain = "DE"\ncategory = 5\n[[deals]]\ndomain = 3\ncategory = 5\n'
        )
        plain = load(path, rules).config

        read = load(
            path,
            rules + self.RULE.format("a", "bestsellers", "") + self.RULE.format("b", "deals", ""),
        ).config

        assert (read.bestsellers, read.deals) == (plain.bestsellers, plain.deals)

    def test_a_list_that_nobody_asks_for_is_asked_for_once(self, path: Path) -> None:
        """Two readers of one list share it, as often and as far as either needs it."""
        read = load(
            path,
            self.RULE.format("a", "bestsellers", 'top = 50\nevery = "2d"')
            + self.RULE.format("b", "bestsellers", 'top = 20\nevery = "12h"'),
        ).config

        [found] = read.bestsellers
        assert found == config.BestsellersRule(
            domain=config.Domain("DE"), category=5, every=config.Duration(43_200), top=50
        )

    def test_a_search_is_the_rules_own(self, path: Path) -> None:
        """No list is asked for, and its task is called as the rule is."""
        read = load(path, self.RULE.format("a", "search", "")).config

        assert (read.bestsellers, read.deals) == ((), ())
        assert read.discovery[0].source_name == "search:a"

    @pytest.mark.parametrize(
        ("more", "max_price"), [("max_price = 90", 90.0), ("min_price = 40", None)]
    )
    def test_deals_are_asked_for_that_any_reader_wants(
        self, path: Path, more: str, max_price: float | None
    ) -> None:
        """Each sorts out what it does not."""
        first = "min_price = 20\nmax_price = 60\nmin_rating = 4"
        rules = self.RULE.format("a", "deals", first) + self.RULE.format(
            "b", "deals", more + "\nmin_rating = 3.5"
        )

        [found] = load(path, rules).config.deals

        assert (found.max_price, found.min_rating) == (max_price, 3.5)
        assert found.min_price == (20 if "min_price" in more else 0)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("[keepa]\nmax_call_cost = 12\n[prices]\noffers = 20", "prices"),
        ('[keepa]\nmax_call_cost = 4\n[[deals]]\ndomain = "DE"', "deals"),
        ('[keepa]\nmax_call_cost = 9\n[[bestsellers]]\ndomain = "DE"\ncategory = 5', "bestsellers"),
        (
            '[keepa]\nmax_call_cost = 10\n[[discovery]]\nname = "all"\ndomain = "DE"\n'
            'source = "search"\ncategory = 5',
            "discovery all",
        ),
    ],
)
def test_what_no_call_may_cost_is_told_before_it_is_tried(
    path: Path, content: str, what: str
) -> None:
    """A rule that could never run is a mistake of the config's."""
    error = refused(path, content)

    assert f"{what}: a call costs about" in error.message
    assert "max_call_cost" in error.message


@pytest.mark.parametrize(
    ("content", "cost"),
    [
        ("", 1),
        ("[prices]\nbuybox = true", 3),
        ("[prices]\noffers = 25", 19),
        ("[prices]\nupdate = 0", 2),
        ("[costs]\nproduct = 0.5", 0.5),
    ],
)
def test_a_products_check_is_priced_by_what_it_asks_for(
    path: Path, content: str, cost: float
) -> None:
    """Extras add to the token that each product costs."""
    read = load(path, content).config

    assert read.costs.check(read.prices.extras) == cost


def test_paths_start_from_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from where the program happens to be started; ~ is the user's home."""
    monkeypatch.setenv("HOME", "/home/of-me")
    (path.parent / "key").write_text("from-a-file\n")

    settings = load(path, EVERYTHING)
    at_home = load(path, 'state_directory = "~/s"\n[prices]\nwatchlist = "~/w.csv"')
    absolute = load(path, 'state_directory = "/s"\n[prices]\nwatchlist = "/w.csv"')

    assert settings.watchlist == path.parent / "lists/all.csv"
    assert settings.state_directory() == path.parent / "state"
    assert settings.api_key() == "from-a-file"
    assert at_home.watchlist == Path("/home/of-me/w.csv")
    assert at_home.state_directory() == Path("/home/of-me/s")
    assert (absolute.watchlist, absolute.state_directory()) == (Path("/w.csv"), Path("/s"))


def test_a_home_that_does_not_exist_is_told(path: Path) -> None:
    """~ of a user that there is not."""
    settings = load(path, 'state_directory = "~nobody-of-that-name/s"')

    with pytest.raises(ConfigError, match="nobody-of-that-name"):
        settings.state_directory()


def test_the_state_directory_is_found_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Config, then systemd, then the user's own as the XDG rules have it."""
    plain, named = load(path, ""), Settings(Config(state_directory="/named"), path)
    monkeypatch.setenv("HOME", "/home/of-me")
    assert plain.state_directory() == Path("/home/of-me/.local/state/pricecheck")

    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/void")
    assert plain.state_directory() == Path("/home/of-me/.local/state/pricecheck")

    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert plain.state_directory() == Path("/xdg/pricecheck")

    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/pricecheck:/var/lib/more")
    assert plain.state_directory() == Path("/var/lib/pricecheck")

    assert named.state_directory() == Path("/named")


def test_the_key_is_found_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, then systemd's credential, then the file that the config names."""
    (path.parent / "key").write_text("  from-a-file\n")
    credentials = path.parent / "credentials"
    credentials.mkdir()
    (credentials / "keepa-api-key").write_text("from-systemd\n")
    settings = load(path, '[keepa]\nkey_file = "key"')

    assert settings.api_key() == "from-a-file"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert settings.api_key() == "from-systemd"
    monkeypatch.setenv("KEEPA_API_KEY", " from-the-environment\n")
    assert settings.api_key() == "from-the-environment"
    monkeypatch.setenv("KEEPA_API_KEY", "  ")
    assert settings.api_key() == "from-systemd"


def test_without_a_key_the_ways_to_give_one_are_told(path: Path) -> None:
    """Only a simulator needs none."""
    with pytest.raises(ConfigError, match="no Keepa API key") as caught:
        load(path, "").api_key()

    assert "KEEPA_API_KEY" in caught.value.remedy
    assert f"keepa.key_file in {path}" in caught.value.remedy
    assert load(path, '[keepa]\nurl = "http://localhost:1"').api_key() == "any-key-will-do"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "holds no API key"),
        (b"\n  \n", "holds no API key"),
        (b"\xff\xfes3cret", "not UTF-8"),
        (b"s3cret\nmore", "no API key"),
        (b"my s3cret", "no API key"),
        ("s3crét".encode(), "no API key"),
        (b"s3cret\x07", "no API key"),
    ],
)
def test_a_key_file_without_a_key_is_told(path: Path, content: bytes | None, reason: str) -> None:
    """What stands in it is not shown."""
    if content is not None:
        (path.parent / "key").write_bytes(content)
    settings = load(path, '[keepa]\nkey_file = "key"')

    with pytest.raises(ConfigError, match=reason) as caught:
        settings.api_key()

    assert str(path.parent / "key") in caught.value.message
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "s3crét", "s3\ncret", "s3cret\udcff"])
def test_a_key_that_cannot_be_one_is_refused_wherever_it_comes_from(
    path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """It could not travel in an address; the error names the variable and not its value."""
    monkeypatch.setenv("KEEPA_API_KEY", key)

    with pytest.raises(ConfigError, match="KEEPA_API_KEY") as caught:
        load(path, "").api_key()

    assert key not in str(caught.value)


def test_a_key_file_may_have_a_byte_order_mark(path: Path) -> None:
    """Windows editors put one in front."""
    (path.parent / "key").write_bytes(b"\xef\xbb\xbfabc\r\n")

    assert load(path, '[keepa]\nkey_file = "key"').api_key() == "abc"


def test_the_config_is_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one named, then here, then the service's; else there is none."""
    here, service = tmp_path / "here", tmp_path / "service"
    here.mkdir()
    service.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", f"{service}:/more")
    assert config.find() is None

    (service / "pricecheck.toml").touch()
    assert config.find() == service / "pricecheck.toml"

    (here / "pricecheck.toml").touch()
    found = config.find()
    assert found is not None
    assert found.resolve() == here / "pricecheck.toml"

    monkeypatch.setenv("PRICECHECK_CONFIG", "/named.toml")
    assert config.find() == Path("/named.toml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights for a moment")
def test_a_config_out_of_reach_is_told_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service's config that this user may not see: an error, never silently the defaults."""
    service = tmp_path / "service"
    service.mkdir(mode=0o700)
    (service / "pricecheck.toml").touch()
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(service))
    monkeypatch.chdir("/")
    os.seteuid(65_534)
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            config.load(config.find())
    finally:
        os.seteuid(0)


scalars: st.SearchStrategy[Any] = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.text(max_size=8)
    | st.sampled_from(["DE", "6h", "NEW", "http://[::1", "https://a", "http://localhost", "~x"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def table(section: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with some keys of a section, and now and then one that it has not."""
    names = st.sampled_from(section.__struct_fields__) | st.text(max_size=3)
    return st.dictionaries(names, values, max_size=3)


documents = st.fixed_dictionaries(
    {},
    optional={
        "keepa": table(config.Keepa) | values,
        "costs": table(config.Costs) | values,
        "prices": table(config.Prices) | values,
        "outbox": table(config.Outbox) | values,
        "names": table(config.Names) | values,
        "elasticsearch": table(config.Elasticsearch) | values,
        "kafka": table(config.Kafka) | values,
        "simulation": table(config.Simulation) | values,
        "deals": st.lists(table(DealRule), max_size=2) | values,
        "bestsellers": st.lists(table(config.BestsellersRule), max_size=2) | values,
        "log_level": values,
        "state_directory": values,
    },
)


@given(documents)
def test_any_document_gives_a_config_or_a_config_error(document: dict[str, Any]) -> None:
    """Whatever TOML can hold, in whatever place."""
    try:
        settings = config.of_document(document, Path("pricecheck.toml"))
    except ConfigError as error:
        assert error.message.startswith("pricecheck.toml: ")  # noqa: PT017
        assert error.remedy  # noqa: PT017
    else:
        assert settings.config.time.now_ms() > 0
        assert settings.watchlist.name
