"""pricecheck.toml: its tables (sections), what it means (settings), how it is read (loading)."""

from __future__ import annotations

from pricecheck.config.loading import find, load, of_document
from pricecheck.config.sections import (
    AlertRule,
    BestsellersRule,
    Config,
    Costs,
    DealRule,
    DiscoveryRule,
    Domain,
    Duration,
    Elasticsearch,
    Kafka,
    Keepa,
    Names,
    Notify,
    Outbox,
    Prices,
    PriceTypeName,
    Simulation,
    Threshold,
)
from pricecheck.config.settings import (
    FILE_NAME,
    KEY_CREDENTIAL,
    KEY_VARIABLE,
    SERVICES,
    SIMULATED_KEY,
    Settings,
)

__all__ = [
    "FILE_NAME",
    "KEY_CREDENTIAL",
    "KEY_VARIABLE",
    "SERVICES",
    "SIMULATED_KEY",
    "AlertRule",
    "BestsellersRule",
    "Config",
    "Costs",
    "DealRule",
    "DiscoveryRule",
    "Domain",
    "Duration",
    "Elasticsearch",
    "Kafka",
    "Keepa",
    "Names",
    "Notify",
    "Outbox",
    "PriceTypeName",
    "Prices",
    "Settings",
    "Simulation",
    "Threshold",
    "find",
    "load",
    "of_document",
]
