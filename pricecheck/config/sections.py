"""The tables of pricecheck.toml as frozen structs.

Every key has a default, so the program runs without any file. The defaults here are the ones
that `pricecheck init` writes out with comments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pricecheck.extras import Extras
from pricecheck.keepa.tables import ASIN, BY_CODE, Marketplace, finder_price
from pricecheck.records import TOPICS
from pricecheck.timescale import TimeScale

if TYPE_CHECKING:
    from datetime import tzinfo


class Duration(int):
    """Seconds, written in the file as 90s, 30m, 6h, 1d or 1h30m."""


class Domain(str):
    """A marketplace's code, written in the file as DE, amazon.de or Keepa's number."""

    __slots__ = ()

    @property
    def market(self) -> Marketplace:
        """The marketplace itself."""
        return BY_CODE[self]


class PriceTypeName(str):
    """The name of a price type, such as NEW or AMAZON."""

    __slots__ = ()


class Threshold(float):
    """A figure of an alert: a plain number, or a share, written in the file as "15%"."""

    __slots__ = ("percent",)

    def __new__(cls, number: float, *, percent: bool = False) -> Threshold:
        """Make a figure, in per cent if it is one of those."""
        made = super().__new__(cls, number)
        made.percent = percent
        return made

    percent: bool


_Text: TypeAlias = Annotated[str, Meta(min_length=1)]
_Node: TypeAlias = Annotated[int, Meta(ge=1)]  # of Amazon's tree of categories
_Asin: TypeAlias = Annotated[str, Meta(pattern=f"^({ASIN.pattern})$")]
_Amount: TypeAlias = Annotated[float, Meta(ge=0, le=20_000_000)]  # Keepa's ints hold no more cents


_RULE: Final = "^[A-Za-z0-9][A-Za-z0-9 _-]{0,39}$"
_HOURS: Final = "^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$"


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Keepa(_Section, frozen=True, kw_only=True):
    """How to reach Keepa, and what one call may cost."""

    url: str = "https://api.keepa.com"
    key_file: _Text | None = None
    max_call_cost: Annotated[int, Meta(ge=1)] = 200
    concurrency: Annotated[int, Meta(ge=1, le=32)] = 4
    connect_timeout: Duration = Duration(30)
    read_timeout: Duration = Duration(120)
    call_timeout: Duration = Duration(180)


class Costs(_Section, frozen=True, kw_only=True):
    """Tokens, as a first guess until the server's figures are known (Keepa's price list)."""

    product: Annotated[float, Meta(ge=0)] = 1
    buybox: Annotated[float, Meta(ge=0)] = 2
    offers: Annotated[float, Meta(ge=0)] = 6  # for every 10 offers asked for
    update: Annotated[float, Meta(ge=0)] = 1
    deal: Annotated[float, Meta(ge=0)] = 5
    bestsellers: Annotated[float, Meta(ge=0)] = 50
    query: Annotated[float, Meta(ge=0)] = 10  # and a tenth of it for every 100 ASINs

    def search(self, asins: int) -> float:
        """Return the tokens that a page of so many ASINs of a search is expected to cost."""
        return self.query / 10 * finder_price(asins)

    def check(self, extras: Extras) -> float:
        """Return the tokens that the check of a product with such extras is expected to cost."""
        return (
            self.product
            + self.buybox * extras.buybox
            + self.offers * -(-extras.offers // 10)
            + self.update * (extras.update is not None)
        )


class Prices(_Section, frozen=True, kw_only=True):
    """The watchlist, its defaults, and what a price check asks for."""

    watchlist: _Text = "watchlist.csv"
    domain: Domain = Domain("DE")
    mode: Literal["adaptive", "fixed"] = "adaptive"
    every: Duration = Duration(6 * 3600)
    min_every: Duration = Duration(15 * 60)
    reserve: Annotated[float, Meta(ge=0, le=0.9)] = 0.1
    weight: Annotated[float, Meta(gt=0)] = 1.0
    lookback: Duration = Duration(90 * 86400)
    stats_days: Annotated[int, Meta(ge=1, le=3650)] = 90
    buybox: bool = False
    offers: Annotated[int, Meta(ge=0, le=100)] = 0
    update: Annotated[int, Meta(ge=0)] | None = None

    @property
    def extras(self) -> Extras:
        """What is asked of a product whose line says nothing of it."""
        return Extras(self.buybox, self.offers, self.update)


class DealRule(_Section, frozen=True, kw_only=True):
    """Which deals of one marketplace to collect. Prices in the marketplace's currency."""

    domain: Domain
    category: _Node | None = None
    every: Duration = Duration(3600)
    pages: Annotated[int, Meta(ge=1, le=100)] = 1
    price_type: PriceTypeName = PriceTypeName("NEW")
    min_discount: Annotated[int, Meta(ge=10, le=100)] = 10
    max_discount: Annotated[int, Meta(ge=10, le=100)] = 90
    min_price: _Amount = 0
    max_price: _Amount | None = None
    min_rating: Annotated[float, Meta(ge=0, le=5)] = 0

    @property
    def name(self) -> str:
        """What the rule's task is called."""
        kind = None if self.price_type == "NEW" else self.price_type
        return ":".join(str(part) for part in ("deals", self.domain, self.category, kind) if part)


class AlertRule(_Section, frozen=True, kw_only=True):
    """What to be told of, and of which products; collect/alerts.py says when a rule rings.

    `threshold` is the price of a target (unset: the watchlist's), by how much a price has to drop
    or rise (an amount, or a share such as "15%"), the least score, or the least share that lies
    between two marketplaces. Amounts are in the
    marketplace's currency.
    """

    name: Annotated[str, Meta(pattern=_RULE)]
    what: Literal["target", "drop", "rise", "low", "high", "stock", "spread", "score"]
    threshold: Threshold | None = None
    against: Literal["last", "avg30", "avg90"] = "last"
    price_type: PriceTypeName = PriceTypeName("NEW")
    margin: Annotated[float, Meta(ge=0, le=50)] = 1.0  # per cent
    domains: tuple[Domain, ...] = ()
    asins: tuple[_Asin, ...] = ()
    cheapest: bool = False  # tell only of the cheapest of `asins`

    @property
    def falls(self) -> bool:
        """Whether it waits for a price to fall."""
        return self.what in ("target", "drop", "low")

    def is_for_domain(self, domain: str) -> bool:
        """Tell whether it says anything of a marketplace, by its code."""
        return not self.domains or domain in self.domains


TARGET_RULE: Final = AlertRule(name="target", what="target")
"""The rule that is always there; one of its name takes its place."""


class BestsellersRule(_Section, frozen=True, kw_only=True):
    """Which category's best sellers to collect: a browse node, or a product group's name."""

    domain: Domain
    category: _Node | _Text
    every: Duration = Duration(86400)
    top: Annotated[int, Meta(ge=1, le=100_000)] = 100

    @property
    def name(self) -> str:
        """What the rule's task is called."""
        return f"bestsellers:{self.domain}:{self.category}"


class DiscoveryRule(_Section, frozen=True, kw_only=True):
    """Which products to find, and what becomes of them. Prices in the marketplace's currency.

    They are those of a [[bestsellers]] or [[deals]] table of the same marketplace and category;
    where there is none, discovery asks for the list itself, `every` so often. A search is always
    the rule's own.
    """

    name: Annotated[str, Meta(pattern=_RULE)]
    domain: Domain
    source: Literal["bestsellers", "deals", "search"]
    category: _Node | _Text | None = None
    every: Duration = Duration(86400)
    top: Annotated[int, Meta(ge=1, le=100_000)] = 100  # of the list, or found
    pages: Annotated[int, Meta(ge=1, le=100)] = 1  # of the deals
    min_price: _Amount = 0
    max_price: _Amount | None = None
    min_rating: Annotated[float, Meta(ge=0, le=5)] = 0
    min_reviews: Annotated[int, Meta(ge=0)] = 0
    brands: tuple[_Text, ...] = ()
    words: tuple[_Text, ...] = ()  # all of them are in the title
    without: tuple[_Text, ...] = ()  # none of them is
    most: Annotated[int, Meta(ge=1, le=1_000_000)] = 100  # products of this rule on the watchlist
    accept: Literal["ask", "all"] = "ask"
    reserve: Annotated[float, Meta(ge=0, le=1)] = 0.5  # the share of the bucket left to others

    @property
    def source_name(self) -> str:
        """What the task is called that brings the products."""
        if self.source == "search":
            return f"search:{self.name}"
        return ":".join(str(part) for part in (self.source, self.domain, self.category) if part)


class Outbox(_Section, frozen=True, kw_only=True):
    """How long records stay."""

    retention: Duration = Duration(90 * 86400)
    metrics_cap: Annotated[int, Meta(ge=0)] = 100_000


class Names(_Section, frozen=True, kw_only=True):
    """What topics and indices are called: `prefix`, then the name of the kind of record."""

    prefix: str = ""
    price: str = TOPICS["price"]
    change: str = TOPICS["change"]
    deal: str = TOPICS["deal"]
    bestseller: str = TOPICS["bestseller"]
    metric: str = TOPICS["metric"]
    alert: str = TOPICS["alert"]

    def by_kind(self) -> dict[str, str]:
        """Return the whole name of each kind's topic and index."""
        return {kind: self.prefix + getattr(self, kind) for kind in TOPICS}


class Elasticsearch(_Section, frozen=True, kw_only=True):
    """Where and how to deliver to Elasticsearch; without this section, nothing goes there.

    The API key comes from ELASTICSEARCH_API_KEY, a systemd credential or `api_key_file`, the
    password from ELASTICSEARCH_PASSWORD, a systemd credential or `password_file`.
    """

    hosts: Annotated[tuple[str, ...], Meta(min_length=1)] = ("http://localhost:9200",)
    api_key_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    layout: Literal["index", "data_stream"] = "index"  # of prices, changes and metrics
    templates: bool = True  # false: somebody else makes templates and indices
    request_timeout: Duration = Duration(60)


class Kafka(_Section, frozen=True, kw_only=True):
    """Where and how to deliver to Kafka; without this section, nothing goes there.

    `options` are librdkafka's own (TLS, SASL, ...), and win over what is set here. The SASL
    password comes from KAFKA_SASL_PASSWORD, a systemd credential, `sasl_password_file` or them.
    """

    brokers: Annotated[tuple[str, ...], Meta(min_length=1)] = ("localhost:9092",)
    create_topics: bool = True
    partitions: Annotated[int, Meta(ge=1)] = 3
    replication: Annotated[int, Meta(ge=1)] | None = None  # None: the broker's default
    retention: Duration | None = None  # None: the broker's default
    sasl_password_file: str | None = None
    options: dict[str, str | int | float | bool] = {}


class Notify(_Section, frozen=True, kw_only=True):
    """Whom to tell of alerts, how and when; without this section, nobody is told.

    The addresses of the services are secrets: they come from NOTIFY_URLS, a systemd credential
    notify-urls, or `urls_file`.
    """

    urls_file: _Text | None = None
    language: Literal["en", "de"] = "en"
    time_zone: _Text | None = None  # of times told, and of `quiet`; None: the machine's
    quiet: Annotated[str, Meta(pattern=_HOURS)] | None = None
    every: Duration = Duration(60)  # at most one message in this time

    @property
    def zone(self) -> tzinfo | None:
        """The time zone; None for the machine's. Raises ValueError when there is none such."""
        from zoneinfo import ZoneInfo  # `status` reads a config, too, and starts quickly

        return None if self.time_zone is None else ZoneInfo(self.time_zone)

    def is_quiet(self, minute: int) -> bool:
        """Tell whether nobody is to be told at a minute of the day."""
        if self.quiet is None:
            return False
        begin, end = (int(part[:2]) * 60 + int(part[3:]) for part in self.quiet.split("-"))
        return begin <= minute < end if begin <= end else not end <= minute < begin


class Web(_Section, frozen=True, kw_only=True):
    """Where the daemon shows its page; without this section, nowhere."""

    listen: _Text = "127.0.0.1:8372"

    @property
    def place(self) -> tuple[str, int]:
        """Host and port. Raises ValueError when it is no HOST:PORT of this machine's own."""
        url = urlsplit(f"//{self.listen}")
        if url.port is None or url.netloc != self.listen or not is_loopback(url.geturl()):
            raise ValueError
        return url.hostname or "", url.port


class Exchange(_Section, frozen=True, kw_only=True):
    """How prices of several currencies are compared: units of each that one euro buys.

    `url` is where the European Central Bank's daily file is to be had (unset: not asked); `rates`
    win over it.
    """

    url: _Text | None = None
    rates: dict[str, Annotated[float, Meta(gt=0, le=1e9)]] = {}


class Simulation(_Section, frozen=True, kw_only=True):
    """Time against a simulator: `time_factor` simulated seconds in each real one."""

    time_factor: Annotated[float, Meta(gt=0, le=100_000)] = 1.0
    epoch_ms: int = 0


class Config(_Section, frozen=True, kw_only=True):
    """The whole file."""

    state_directory: _Text | None = None
    log_level: str = "INFO"
    stall_after: Duration = Duration(900)
    keepa: Keepa = Keepa()
    costs: Costs = Costs()
    prices: Prices = Prices()
    deals: tuple[DealRule, ...] = ()
    bestsellers: tuple[BestsellersRule, ...] = ()
    discovery: tuple[DiscoveryRule, ...] = ()
    alerts: tuple[AlertRule, ...] = ()
    outbox: Outbox = Outbox()
    names: Names = Names()
    elasticsearch: Elasticsearch | None = None
    kafka: Kafka | None = None
    notify: Notify | None = None
    exchange: Exchange = Exchange()
    web: Web | None = None
    simulation: Simulation | None = None

    @property
    def simulated(self) -> bool:
        """Whether the prices are made up: Keepa's place is taken by a server on this machine."""
        return self.simulation is not None or is_loopback(self.keepa.url)

    @property
    def alert_rules(self) -> tuple[AlertRule, ...]:
        """All rules: those written, and that of the watchlist's target prices."""
        if any(rule.name == TARGET_RULE.name for rule in self.alerts):
            return self.alerts
        return (TARGET_RULE, *self.alerts)

    def others_a_minute(self, costs: Mapping[str, float]) -> float:
        """Return the tokens a minute that deals and best sellers take, at these costs a call."""
        deals = sum(costs["deal"] * rule.pages / rule.every for rule in self.deals)
        return 60 * (deals + sum(costs["bestsellers"] / rule.every for rule in self.bestsellers))

    @property
    def prior_costs(self) -> dict[str, float]:
        """Tokens that a page of deals and a list of best sellers are expected to cost.

        And for each token that Keepa's price list asks for a page of a search, what it is.
        """
        costs = self.costs
        return {"deal": costs.deal, "bestsellers": costs.bestsellers, "query": costs.query / 10}

    @property
    def time(self) -> TimeScale:
        """The time that the daemon lives in."""
        simulation = self.simulation or Simulation()
        return TimeScale(simulation.time_factor, simulation.epoch_ms)


def is_loopback(url: str) -> bool:
    """Tell whether an address is on this machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
