"""The sinks and relays that a config asks for.

What a sink needs is imported only where it is used: these clients take up to half a second and
tens of megabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pricecheck.deliver.relay import Relay

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.deliver.sink import Sink
    from pricecheck.outbox import Outbox


def configured_relays(settings: Settings, outbox: Outbox) -> list[Relay]:
    """Return a relay for each sink in the config. Raises ConfigError for what it can't read."""
    time = settings.config.time
    return [Relay(sink, outbox, time=time) for sink in configured_sinks(settings)]


def configured_sinks(settings: Settings, *, make: bool = True) -> list[Sink]:
    """Return the sinks in the config; without `make` they make no topic, template or index.

    Raises ConfigError for a secret that can't be read.
    """
    config = settings.config
    sinks: list[Sink] = []
    if (search := config.elasticsearch) is not None:
        from pricecheck.deliver.elasticsearch import ElasticsearchSink

        sink = ElasticsearchSink(
            search if make else msgspec.structs.replace(search, templates=False),
            config.names,
            api_key=settings.secret("elasticsearch-api-key", search.api_key_file),
            password=settings.secret("elasticsearch-password", search.password_file),
            time_factor=config.time.factor,
        )
        sinks.append(sink)
    if (kafka := config.kafka) is not None:
        from pricecheck.deliver.kafka import KafkaSink

        password = settings.secret("kafka-sasl-password", kafka.sasl_password_file)
        wanted = kafka if make else msgspec.structs.replace(kafka, create_topics=False)
        sinks.append(KafkaSink(wanted, config.names, sasl_password=password))
    return sinks
