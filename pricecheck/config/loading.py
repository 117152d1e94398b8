"""Reads pricecheck.toml; what is wrong in it is said by file, key and remedy."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from pricecheck.config import sections
from pricecheck.config.checks import check, check_values
from pricecheck.config.sections import Config
from pricecheck.config.settings import FILE_NAME, SERVICES, Settings
from pricecheck.config.sources import with_sources
from pricecheck.durations import parse_duration
from pricecheck.errors import ConfigError, PricecheckError
from pricecheck.keepa.tables import PRICES, marketplace


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
        check_values(document, "")
        config = msgspec.convert(document, Config, dec_hook=_convert)
        check(config)
        config = with_sources(config)
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
        if kind is sections.Duration:
            return sections.Duration(parse_duration(str(value)))
        if kind is sections.Domain:
            return sections.Domain(marketplace(str(value)).code)
        if kind is sections.Threshold:
            return _threshold(value)
    except PricecheckError as error:
        raise ValueError(str(error)) from None
    names = [series.name for series in PRICES]
    if str(value).upper() not in names:
        raise ValueError(f"unknown price type {value!r} (use one of {', '.join(names)})")
    return sections.PriceTypeName(str(value).upper())


def _threshold(value: Any) -> sections.Threshold:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)( ?%)?", str(value), re.ASCII)
    if found is None or isinstance(value, bool) or not float(found[1]):
        raise ValueError(f'{value!r} is neither a number above 0 nor a share such as "15%"')
    return sections.Threshold(float(found[1]), percent=found[2] is not None)


def _explain(path: Path, said: str) -> ConfigError:
    """Turn msgspec's words into file, key and remedy."""
    reason, _, place = said.rpartition(" - at `$") if " - at `$" in said else (said, "", "")
    key = place.rstrip("`").lstrip(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL):
        name = unknown[1]
        near = difflib.get_close_matches(name, _known_keys(key), n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else "known: " + ", ".join(_known_keys(key))
        return ConfigError(f"{path}: unknown key {f'{key}.{name}'.lstrip('.')}", remedy=remedy)
    if reason.startswith("Invalid enum value"):
        reason = reason.replace("Invalid enum value", "unknown value")
        remedy = f"use one of {', '.join(_choices(key))}"
        return ConfigError(f"{path}: {key}: {reason}", remedy=remedy)
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


def _choices(key: str) -> list[str]:
    """Return what a key such as `alerts[0].what` may be."""
    place, _, name = key.rpartition(".")
    kinds = {field.name: field.type for field in msgspec.structs.fields(_table(place))}
    return list(get_args(kinds[name]))


def _known_keys(place: str) -> list[str]:
    """Return the keys of the table that a place such as `deals[0]` names."""
    return list(_table(place).__struct_fields__)


def _table(place: str) -> type[msgspec.Struct]:
    tables: dict[str, type[msgspec.Struct]] = {
        "": Config,
        "keepa": sections.Keepa,
        "costs": sections.Costs,
        "prices": sections.Prices,
        "deals": sections.DealRule,
        "bestsellers": sections.BestsellersRule,
        "discovery": sections.DiscoveryRule,
        "alerts": sections.AlertRule,
        "outbox": sections.Outbox,
        "names": sections.Names,
        "elasticsearch": sections.Elasticsearch,
        "kafka": sections.Kafka,
        "notify": sections.Notify,
        "exchange": sections.Exchange,
        "web": sections.Web,
        "simulation": sections.Simulation,
    }
    return tables[re.sub(r"\[.*", "", place)]
