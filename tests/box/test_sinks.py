"""The hardened service at its real work: Kafka and Elasticsearch, by name, TLS and password."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.box.conftest import (
    CONFIG,
    SYSTEMD_BOX,
    Box,
    Service,
    booted,
    configure,
    exposure,
    install,
    wait_for,
)
from tests.deliver.conftest import Services

pytestmark = [pytest.mark.services, pytest.mark.long, pytest.mark.timeout(600)]

PASSWORD = "not-a-secret"  # of scripts/services
NAMES = "[Service]\nExecStart=/usr/bin/python3 /opt/names.py\n"
# Run in the box with the program's own libraries, as the user who may do everything.
CLIENT = """
import sys
client = {
    "bootstrap.servers": sys.argv[1], "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN",
    "sasl.username": "kafka-test", "sasl.password": sys.argv[2],
    "ssl.ca.location": "/etc/pricecheck/ca.pem",
}
"""
CONSUME = f"""{CLIENT}
from confluent_kafka import Consumer
consumer = Consumer(client | {{"group.id": "test", "auto.offset.reset": "earliest"}})
consumer.subscribe(["keeper-prices"])
while (message := consumer.poll(30)) and message.error():
    pass
print(message.key().decode() if message else "nothing came")
"""
LET_THE_GUEST_LOOK = f"""{CLIENT}
from confluent_kafka.admin import *
look = AclBinding(
    ResourceType.TOPIC, "keeper-", ResourcePatternType.PREFIXED, "User:kafka-guest", "*",
    AclOperation.DESCRIBE, AclPermissionType.ALLOW,
)
admin = AdminClient(client)
[made] = admin.create_acls([look]).values()
made.result(30)
"""


@pytest.fixture(scope="module")
def place(package: Path) -> Iterator[Box]:
    """A box with the package, a simulated Keepa, and a name server of its own."""
    with booted() as box:
        install(box, package)
        shutil.copy(Path(__file__).parent / "names.py", box.path("/opt/names.py"))
        box.write("/etc/systemd/system/names.service", NAMES)
        box.run("sh", "-c", "rm -f /etc/resolv.conf; echo nameserver 127.0.0.1 >/etc/resolv.conf")
        box.run("systemctl", "start", "keepa", "names")
        yield box


@pytest.fixture(scope="module")
def ports(place: Box) -> Iterator[dict[str, str]]:
    """A real broker and a real node on the box's loopback, with TLS and users; their ports."""
    folder = Path(tempfile.mkdtemp(prefix="pricecheck-services-"))
    services = Services(folder, SYSTEMD_BOX, "net", place.state)
    try:
        started = services.run("start", "kafka-secure", "elasticsearch-secure")
        authorities = [folder / "kafka-secure/node.crt"]
        authorities += [folder / "elasticsearch-secure/config/node.crt"]
        bundle = "".join(file.read_text() for file in authorities)
        place.write("/etc/pricecheck/ca.pem", bundle)
        yield {name: address.rpartition(":")[2] for name, address in started.items()}
    finally:
        services.run("stop", "kafka-secure", "elasticsearch-secure")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def delivering(place: Box, ports: dict[str, str]) -> Service:
    """The service as packaged, which has delivered all that it found."""
    service = configure(place)
    kafka = f"broker.pricecheck.test:{ports['kafka-secure']}"
    config = f"""{CONFIG}
[elasticsearch]
hosts = ["https://search.pricecheck.test:{ports["elasticsearch-secure"]}"]
username = "elastic-test"
ca_file = "ca.pem"
[kafka]
brokers = ["{kafka}"]
partitions = 1
[kafka.options]
"security.protocol" = "SASL_SSL"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "kafka-test"
"ssl.ca.location" = "/etc/pricecheck/ca.pem"
"""
    place.write("/etc/pricecheck/pricecheck.toml", config)
    for name in ("elasticsearch-password", "kafka-sasl-password"):
        place.write(f"/etc/pricecheck/{name}", f"{PASSWORD}\n")
        place.path(f"/etc/pricecheck/{name}").chmod(0o600)
    service.systemctl("start")
    wait_for(lambda: all(has_delivered(each) for each in relays(place)), "delivery", 120)
    return service


def relays(box: Box) -> list[dict[str, Any]]:
    told = box.run("pricecheck", "status", "--json", check=False).stdout
    found: list[dict[str, Any]] = json.loads(told)["relays"]
    return found


def has_delivered(relay: dict[str, Any]) -> bool:
    return bool(relay["state"] == "idle" and relay["backlog"] == 0 and relay["delivered"] > 0)


def search(box: Box, port: str, path: str, *options: str) -> dict[str, Any]:
    """Ask the node, as a person would with curl in the box."""
    curl = ["curl", "-sS", "--cacert", "/etc/pricecheck/ca.pem", "-u", f"elastic-test:{PASSWORD}"]
    done = box.run(*curl, *options, f"https://search.pricecheck.test:{port}{path}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def run_python(box: Box, script: str, ports: dict[str, str]) -> str:
    """Run a script for the broker with the program's Python."""
    broker = f"broker.pricecheck.test:{ports['kafka-secure']}"
    return box.run("/opt/pricecheck/bin/python", "-c", script, broker, PASSWORD).stdout


def test_hardened_it_delivers_to_elasticsearch_and_kafka_by_name_tls_and_password(
    delivering: Service, ports: dict[str, str]
) -> None:
    """Both relays are idle, and what was checked can be found and consumed."""
    box, port = delivering.box, ports["elasticsearch-secure"]

    told = box.run("pricecheck", "status").stdout
    found = search(box, port, "/keeper-prices/_search?q=asin:B0D8W1YVBX")
    consumed = run_python(box, CONSUME, ports)

    assert {relay["name"]: relay["state"] for relay in relays(box)} == {
        "elasticsearch": "idle",
        "kafka": "idle",
    }
    assert f"search.pricecheck.test:{port}" in told
    assert found["hits"]["total"]["value"] == 1
    assert consumed == "B0D8W1YVBX\n"


def test_so_its_exposure_is_low_and_nothing_was_refused(delivering: Service) -> None:
    """1.2 at most with everything at work, nothing in the journal for a person, and no drop-in."""
    assert exposure(delivering) <= 1.2
    assert delivering.journal("-p", "warning") == ""
    assert delivering.show("DropInPaths") == ""
    assert PASSWORD not in delivering.journal()


def test_doctor_finds_a_look_alike_index_in_what_the_service_reaches(
    delivering: Service, ports: dict[str, str]
) -> None:
    """`keepa-deals` beside `keeper-deals`, with its last write; root needs no option for that."""
    box, port = delivering.box, ports["elasticsearch-secure"]
    document = ("-H", "Content-Type: application/json", "-d", '{"timestamp": "2026-08-01"}')
    search(box, port, "/keepa-deals/_doc?refresh=true", *document)

    told = box.run("pricecheck", "doctor", check=False).stdout

    assert "the index keepa-deals is almost called keeper-deals" in told
    assert "last written 2026-08-01T00:00:00Z" in told
    assert "FAIL" not in told


def test_doctor_says_when_the_credentials_may_look_but_not_write(
    delivering: Service, ports: dict[str, str]
) -> None:
    """A user that Kafka lets see the topics; each topic is named that would take nothing."""
    box, config = delivering.box, "/etc/pricecheck/pricecheck.toml"
    run_python(box, LET_THE_GUEST_LOOK, ports)
    before = box.path(config).read_text()
    box.write(config, before.replace("kafka-test", "kafka-guest"))

    told = box.run("pricecheck", "doctor", check=False)

    box.write(config, before)
    assert told.returncode == 2
    assert "these credentials may not write to the topic keeper-prices" in told.stdout
