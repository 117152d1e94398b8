"""The sinks that a config asks for.

What a sink needs is imported only where it is used: these clients take up to half a second and
tens of megabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pricecheck.errors import ConfigError

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.deliver.notify import NotifySink
    from pricecheck.deliver.sink import Sink


def configured_sinks(settings: Settings, *, make: bool = True) -> list[Sink]:
    """Return the sinks in the config; without `make` they make no topic, template or index.

    Raises ConfigError for a secret that can't be read, or an option that librdkafka refuses.
    """
    config = settings.config
    sinks: list[Sink] = []
    if (search := config.elasticsearch) is not None:
        from pricecheck.deliver.elasticsearch import ElasticsearchSink

        api_key = settings.secret("elasticsearch-api-key", search.api_key_file)
        password = settings.secret("elasticsearch-password", search.password_file)
        wanted = msgspec.structs.replace(
            search,
            templates=search.templates and make,
            ca_file=search.ca_file and str(settings.place(search.ca_file)),
        )
        sink = ElasticsearchSink(
            wanted,
            config.names,
            api_key=api_key,
            password=password,
            time_factor=config.time.factor,
        )
        sinks.append(sink)
    if (kafka := config.kafka) is not None:
        from pricecheck.deliver.kafka import KafkaSink, check_options

        password = settings.secret("kafka-sasl-password", kafka.sasl_password_file)
        check_options(kafka, sasl_password=password)
        topics = msgspec.structs.replace(kafka, create_topics=kafka.create_topics and make)
        sinks.append(KafkaSink(topics, config.names, sasl_password=password))
    sinks += notifiers(settings)
    return sinks


def notifiers(settings: Settings) -> list[NotifySink]:
    """Return the services that people are told of alerts through.

    Raises ConfigError where [notify] is in the config and there is none, or one is unknown.
    """
    config = settings.config
    if (notify := config.notify) is None:
        return []
    from pricecheck.deliver.notify import NotifySink, read_services

    services = read_services(settings.secret("notify-urls", notify.urls_file) or "")
    if not services:
        raise ConfigError(
            "notify: there is no address of a service",
            remedy="set NOTIFY_URLS, or name a file that holds them: notify.urls_file",
        )
    return [
        NotifySink(service, notify, time=config.time, simulated=config.simulated)
        for service in services
    ]
