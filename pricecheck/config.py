"""pricecheck.toml, read into frozen structs; what is wrong in it is said by file, key and remedy.

Every key has a default, so the program runs without any file. The defaults here are the ones
that `pricecheck init` writes out with comments.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pricecheck import systemd
from pricecheck.durations import parse_duration
from pricecheck.errors import ConfigError, PricecheckError
from pricecheck.keepa.tables import BY_CODE, PRICES, Marketplace, marketplace
from pricecheck.records import TOPICS
from pricecheck.timescale import TimeScale

FILE_NAME: Final = "pricecheck.toml"
SERVICES: Final = Path("/etc/pricecheck")
KEY_VARIABLE: Final = "KEEPA_API_KEY"
KEY_CREDENTIAL: Final = "keepa-api-key"
SIMULATED_KEY: Final = "any-key-will-do"


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


_Text: TypeAlias = Annotated[str, Meta(min_length=1)]
_Node: TypeAlias = Annotated[int, Meta(ge=1)]  # of Amazon's tree of categories
_Amount: TypeAlias = Annotated[float, Meta(ge=0, le=20_000_000)]  # Keepa's ints hold no more cents


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

    def unit_cost(self, costs: Costs) -> float:
        """Return the tokens that one product's check is expected to cost."""
        return (
            costs.product
            + costs.buybox * self.buybox
            + costs.offers * -(-self.offers // 10)
            + costs.update * (self.update is not None)
        )


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
    outbox: Outbox = Outbox()
    names: Names = Names()
    elasticsearch: Elasticsearch | None = None
    kafka: Kafka | None = None
    simulation: Simulation | None = None

    @property
    def simulated(self) -> bool:
        """Whether the prices are made up: Keepa's place is taken by a server on this machine."""
        return self.simulation is not None or _is_loopback(self.keepa.url)

    def others_a_minute(self, costs: Mapping[str, float]) -> float:
        """Return the tokens a minute that deals and best sellers take, at these costs a call."""
        deals = sum(costs["deal"] * rule.pages / rule.every for rule in self.deals)
        return 60 * (deals + sum(costs["bestsellers"] / rule.every for rule in self.bestsellers))

    @property
    def prior_costs(self) -> dict[str, float]:
        """Tokens a unit of each operation is expected to cost: a product, a page, a list."""
        return {
            "product": self.prices.unit_cost(self.costs),
            "deal": self.costs.deal,
            "bestsellers": self.costs.bestsellers,
        }

    @property
    def time(self) -> TimeScale:
        """The time that the daemon lives in."""
        simulation = self.simulation or Simulation()
        return TimeScale(simulation.time_factor, simulation.epoch_ms)


class Settings(msgspec.Struct, frozen=True):
    """A config with where it came from: relative paths in it are meant from there."""

    config: Config
    path: Path | None  # None: embedded defaults

    @property
    def folder(self) -> Path:
        """The directory that relative paths start from."""
        return self.path.parent if self.path else Path.cwd()

    @property
    def watchlist(self) -> Path:
        """Where the watchlist is."""
        return self.place(self.config.prices.watchlist)

    @property
    def service(self) -> str | None:
        """What the service that reads this file calls its directories: pricecheck[-INSTANCE].

        None for a file that no service reads. So a command finds what the service keeps.
        """
        if self.path is None or self.path.name != FILE_NAME:
            return None
        folder = self.folder.absolute()
        if folder == SERVICES:
            return SERVICES.name
        return f"{SERVICES.name}-{folder.name}" if folder.parent == SERVICES else None

    def state_directory(self) -> Path:
        """Return where outbox and lock are: by config, by systemd, or the user's own."""
        if self.config.state_directory:
            return self.place(self.config.state_directory)
        if systemd := os.environ.get("STATE_DIRECTORY"):
            return Path(systemd.split(":")[0])
        if self.service:
            return Path("/var/lib") / self.service
        home = os.environ.get("XDG_STATE_HOME", "")
        if not Path(home).is_absolute():  # to be ignored then, by the XDG rules
            home = "~/.local/state"
        return self.place(home) / "pricecheck"

    def socket_directory(self) -> Path:
        """Return where the status socket is: a running service's own place, else the state's."""
        if systemd := os.environ.get("RUNTIME_DIRECTORY"):
            return Path(systemd.split(":")[0])
        if self.service and (runtime := Path("/run") / self.service).is_dir():
            return runtime
        return self.state_directory()

    def secret(self, name: str, file: str | None) -> str | None:
        """Return a sink's secret: from the environment, a systemd credential, or a file.

        `name` is the credential's, such as kafka-sasl-password; the variable is called
        KAFKA_SASL_PASSWORD then. None when there is none; ConfigError when it can't be read.
        """
        if secret := os.environ.get(name.upper().replace("-", "_"), "").strip():
            return secret
        if secret := systemd.credential(name) or "":
            return secret
        return _read_key(self.place(file), name) if file else None

    def api_key(self) -> str:
        """Return the API key: from the environment, a systemd credential, or keepa.key_file.

        Raises ConfigError when there is none; a simulator needs none.
        """
        if key := os.environ.get(KEY_VARIABLE, "").strip():
            return _sound_key(key, KEY_VARIABLE)
        if key := systemd.credential(KEY_CREDENTIAL) or "":
            return _sound_key(key, f"the credential {KEY_CREDENTIAL}")
        if self.config.keepa.key_file:
            file = self.place(self.config.keepa.key_file)
            return _sound_key(_read_key(file), str(file))
        if self.config.simulated:
            return SIMULATED_KEY
        remedy = f"name a file that holds it: keepa.key_file in {self.path or FILE_NAME}"
        if self.service:  # which names that file to systemd
            remedy = f"put it into {self.folder / KEY_CREDENTIAL}, readable by root alone"
        raise ConfigError("no Keepa API key", remedy=f"set {KEY_VARIABLE}, or {remedy}")

    def place(self, path: str) -> Path:
        """Return what a path in the config means, ~ included. Raises ConfigError."""
        try:
            return self.folder / Path(path).expanduser()
        except RuntimeError as error:
            raise ConfigError(f"{path}: {error}", remedy="write the whole path") from None


def find() -> Path | None:
    """Return the config file to use when none is named: the first that exists, or None."""
    if named := os.environ.get("PRICECHECK_CONFIG"):
        return Path(named)
    systemd = os.environ.get("CONFIGURATION_DIRECTORY", str(SERVICES)).split(":")[0]
    candidates = (Path(FILE_NAME), Path(systemd) / FILE_NAME)
    return next((path for path in candidates if _may_exist(path)), None)


def load(path: Path | None) -> Settings:
    """Read a config file, or the embedded defaults for None.

    Raises ConfigError with file, key and remedy for whatever is wrong.
    """
    if path is None:
        return Settings(Config(), None)
    try:
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", remedy="`pricecheck init` writes a config to start from"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="check owner and mode") from None
    except (ValueError, RecursionError) as error:  # tomllib lets more through than its own error
        raise ConfigError(
            f"{path}: {error}",
            remedy='mend the TOML syntax there; texts and durations are quoted: every = "6h"',
        ) from None
    return of_document(document, path)


def of_document(document: dict[str, Any], path: Path) -> Settings:
    """Make settings of a TOML document that was read from `path`. Raises ConfigError."""
    try:
        _check_values(document, "")
        config = msgspec.convert(document, Config, dec_hook=_convert)
        _check(config)
    except msgspec.ValidationError as error:
        raise _explain(path, str(error)) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", remedy=error.remedy) from None
    return Settings(config, path)


def _may_exist(path: Path) -> bool:
    """Tell whether there is such a file, or may be one that is out of our reach."""
    try:
        return path.exists()
    except PermissionError:
        return True


def _convert(kind: type, value: Any) -> Any:
    try:
        if kind is Duration:
            return Duration(parse_duration(str(value)))
        if kind is Domain:
            return Domain(marketplace(str(value)).code)
    except PricecheckError as error:
        raise ValueError(str(error)) from None
    names = [series.name for series in PRICES]
    if str(value).upper() not in names:
        raise ValueError(f"unknown price type {value!r} (use one of {', '.join(names)})")
    return PriceTypeName(str(value).upper())


def _check_values(value: object, place: str) -> None:
    """Refuse what TOML allows and nobody can use: numbers without end, a NUL in a text."""
    reason = ""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_values(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_values(inner, f"{place}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        reason = f"{value} is no number to count with"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        reason = "the number is too large"
    elif isinstance(value, str) and "\0" in value:
        reason = "there is a NUL in it"
    if reason:
        raise ConfigError(f"{place}: {reason}", remedy="mend the value there")


def _check(config: Config) -> None:
    """Refuse what each key by itself allows but the whole does not."""
    url = config.keepa.url
    if not _is_address(url) or not (url.startswith("https:") or _is_loopback(url)):
        raise ConfigError(
            f"keepa.url: {url!r} is not an https address such as {Keepa().url}",
            remedy="the API key travels in it: https, or http to a simulator on this machine",
        )
    if config.log_level not in _LEVELS:
        raise ConfigError(
            f"log_level: {config.log_level!r} is unknown", remedy="use " + ", ".join(_LEVELS)
        )
    if 0 < config.prices.offers < _LEAST_OFFERS:
        raise ConfigError("prices.offers: Keepa takes 20 to 100", remedy="0 asks for none")
    _check_simulation(config)
    _check_sinks(config)
    _check_rules(config)
    _check_costs(config)


def _check_simulation(config: Config) -> None:
    if config.simulation is None:
        return
    if not _is_loopback(config.keepa.url):
        raise ConfigError(
            "simulation: keepa.url is not a simulator on this machine",
            remedy="leave the section out, or set keepa.url to what `pricecheck simulate` says",
        )
    if not 0 < config.time.now_ms() <= _LATEST_MS:
        raise ConfigError(
            "simulation.epoch_ms: with it, now is no date that can be written",
            remedy="set it to the Unix time in milliseconds at which the simulator was started",
        )


def _check_rules(config: Config) -> None:
    for number, rule in enumerate(config.deals):
        place = f"deals[{number}]"
        if rule.max_discount < rule.min_discount:
            raise ConfigError(f"{place}.max_discount: is below min_discount", remedy="swap them")
        if rule.max_price is not None and rule.max_price < rule.min_price:
            raise ConfigError(f"{place}.max_price: is below min_price", remedy="swap them")
    tasks = [rule.name for rule in config.deals]
    tasks += [rule.name for rule in config.bestsellers]
    if twice := {name for name in tasks if tasks.count(name) > 1}:
        raise ConfigError(f"{min(twice)} is configured twice", remedy="join the two rules into one")


def _check_costs(config: Config) -> None:
    limit, costs = config.keepa.max_call_cost, config.costs
    needs = {"prices": config.prices.unit_cost(costs)}
    needs |= {"deals": costs.deal} if config.deals else {}
    needs |= {"bestsellers": costs.bestsellers} if config.bestsellers else {}
    for name, cost in needs.items():
        if cost > limit:
            raise ConfigError(
                f"{name}: a call costs about {cost:g} tokens, above keepa.max_call_cost = {limit}",
                remedy="raise the cap, or ask for less",
            )


def _check_sinks(config: Config) -> None:
    names = config.names.by_kind()
    for kind, name in names.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,199}", name):
            raise ConfigError(
                f"names.{kind}: {name!r} can't name both a topic and an index",
                remedy="use a-z, 0-9, '-', '_' and '.', and begin with a letter or digit",
            )
        if list(names.values()).count(name) > 1:
            raise ConfigError(
                f"names.{kind}: {name!r} is used twice", remedy="each kind needs its own"
            )
    for host in config.elasticsearch.hosts if config.elasticsearch else ():
        if not _is_address(host):
            raise ConfigError(
                f"elasticsearch.hosts: {host!r} is not an address",
                remedy="write it like https://search.example.net:9200; "
                "user and password stand apart",
            )
    for option in config.kafka.options if config.kafka else ():
        if option in _OURS_IN_KAFKA:
            raise ConfigError(
                f"kafka.options: {option} can't be changed, for delivery depends on it",
                remedy="leave it out",
            )


_OURS_IN_KAFKA: Final = (
    "acks",
    "bootstrap.servers",
    "delivery.report.only.error",
    "enable.idempotence",
    "message.timeout.ms",
    "request.required.acks",
    "transactional.id",
)
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_LEAST_OFFERS: Final = 20
_LATEST_MS: Final = 253_402_300_799_999  # the year 9999
_URL: Final = re.compile(
    r"https?://(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w-]+(?:\.[\w-]+)*))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[\w.~/-]*)?",
    re.ASCII,
)


def _explain(path: Path, said: str) -> ConfigError:
    """Turn msgspec's words into file, key and remedy."""
    reason, _, place = said.rpartition(" - at `$") if " - at `$" in said else (said, "", "")
    key = place.rstrip("`").lstrip(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL):
        name = unknown[1]
        near = difflib.get_close_matches(name, _known_keys(key), n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else "known: " + ", ".join(_known_keys(key))
        return ConfigError(f"{path}: unknown key {f'{key}.{name}'.lstrip('.')}", remedy=remedy)
    remedy = "mend the value there"
    if missing := re.fullmatch("Object missing required field `(.*)`", reason):
        return ConfigError(f"{path}: {key}: {missing[1]} is missing", remedy="write it there")
    if reason == "Expected `array`, got `object`":
        remedy = f"write [[{key}]], with two brackets: each one is a table of its own"
    elif reason.endswith("got `array`") and "object" in reason:
        remedy = f"write [{key}], with single brackets, and only once"
    reason = re.sub(r"`([a-z |]+)`", _in_words, reason.replace("Expected", "expected"))
    return ConfigError(f"{path}: {key or 'file'}: {reason.replace('`', '')}", remedy=remedy)


def _in_words(types: re.Match[str]) -> str:
    names = [name for name in types[1].split(" | ") if name != "null"]
    return " or ".join(_WORDS.get(name, name) for name in names)


_WORDS: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": "a text",
}


def _known_keys(place: str) -> list[str]:
    """Return the keys of the table that a place such as `deals[0]` names."""
    tables: dict[str, type[msgspec.Struct]] = {
        "": Config,
        "keepa": Keepa,
        "costs": Costs,
        "prices": Prices,
        "deals": DealRule,
        "bestsellers": BestsellersRule,
        "outbox": Outbox,
        "names": Names,
        "elasticsearch": Elasticsearch,
        "kafka": Kafka,
        "simulation": Simulation,
    }
    return list(tables[re.sub(r"\[.*", "", place)].__struct_fields__)


def _read_key(path: Path, name: str = "API key") -> str:
    try:
        key = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"{path}: the {name} can't be read: {reason}", remedy="check owner and mode"
        ) from None
    if not key:
        raise ConfigError(f"{path}: holds no {name}", remedy="put it on the first line")
    return key


def _sound_key(key: str, source: str) -> str:
    """Return a Keepa key that can travel in an address. Raises ConfigError, without showing it."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            f"{source}: what stands there is no API key: it holds more than letters and digits",
            remedy="put the key there, and nothing else",
        )
    return key


def _is_address(url: str) -> bool:
    """Tell whether this is a whole http or https address: host, port, path, and nothing else."""
    found = _URL.fullmatch(url)
    if found is None or int(found["port"] or 0) > 65_535:
        return False
    number = found["v6"] or (found["name"] if re.fullmatch(r"[0-9.]+", found["name"]) else None)
    if number is None:
        return True
    try:
        ipaddress.ip_address(number)
    except ValueError:
        return False
    return True


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
