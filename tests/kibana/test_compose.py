"""The stack for users: Kafka, Elasticsearch and Kibana, by a compose file."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "packaging" / "compose" / "compose.yaml").read_text("utf-8")
SERVICES = ("kafka", "elasticsearch", "kibana")


def test_every_port_is_open_to_this_machine_only() -> None:
    """Nothing in the stack asks for a password."""
    ports = re.findall(r'^ +- "([\d.:]+)"$', COMPOSE, re.MULTILINE)

    assert ports == ["127.0.0.1:9092:9092", "127.0.0.1:9200:9200", "127.0.0.1:5601:5601"]


def test_every_image_has_its_version() -> None:
    """A stack started again next year is the same; Kibana's version is Elasticsearch's."""
    images = dict(re.findall(r"image: (?:\w+/)?(\w+):(\S+)", COMPOSE))

    assert tuple(images) == SERVICES
    assert re.fullmatch(r"\d+\.\d+\.\d+", images["kafka"])
    assert re.fullmatch(r"\$\{ELASTIC_VERSION:-\d+\.\d+\.\d+\}", images["kibana"])
    assert images["kibana"] == images["elasticsearch"]


def test_the_broker_is_the_one_that_is_tested() -> None:
    """Of Kafka the same version runs in our tests."""
    [tested] = re.findall(
        r'^KAFKA = "(.+)"', (ROOT / "scripts" / "services").read_text(), re.MULTILINE
    )

    assert f"image: apache/kafka:{tested}\n" in COMPOSE


def test_every_service_is_watched_and_keeps_its_data() -> None:
    """Each has a health check and a volume of its own."""
    services, _, volumes = COMPOSE.partition("\nvolumes:\n")
    parts = re.split(r"^  (\w+):$", services, flags=re.MULTILINE)[1:]

    told = dict(zip(parts[::2], parts[1::2], strict=True))

    assert tuple(told) == SERVICES
    assert re.findall(r"^  (\w+):$", volumes, re.MULTILINE) == list(SERVICES)
    for name, service in told.items():
        assert "healthcheck:" in service
        assert f"- {name}:/" in service
