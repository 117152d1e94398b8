"""The relays that a config asks for. What a sink needs is imported only where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pricecheck.config import Settings
from pricecheck.deliver.relay import Relay

if TYPE_CHECKING:
    from pricecheck.deliver.sink import Sink
    from pricecheck.outbox import Outbox


def configured_relays(settings: Settings, outbox: Outbox) -> list[Relay]:
    """Return a relay for each sink in the config. Raises ConfigError for a secret it can't read."""
    config = settings.config
    sinks: list[Sink] = []
    # These clients take up to half a second and tens of megabytes.
    if (search := config.elasticsearch) is not None:
        from pricecheck.deliver.elasticsearch import ElasticsearchSink

        api_key = settings.secret("elasticsearch-api-key", search.api_key_file)
        password = settings.secret("elasticsearch-password", search.password_file)
        sink = ElasticsearchSink(
            search,
            config.names,
            api_key=api_key,
            password=password,
            time_factor=config.time.factor,
        )
        sinks.append(sink)
    if (kafka := config.kafka) is not None:
        from pricecheck.deliver.kafka import KafkaSink

        password = settings.secret("kafka-sasl-password", kafka.sasl_password_file)
        sinks.append(KafkaSink(kafka, config.names, sasl_password=password))
    return [Relay(sink, outbox, time=config.time) for sink in sinks]
