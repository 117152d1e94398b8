"""No secret is in anything that is put out: one table of channels, and what goes through them.

The daemon and the commands run as processes, with servers that give back all that they are told
and a bug planted that shows all it knows. A new command, or a new secret, fails here until it
stands in the tables.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import click
import httpx
import pytest
import trio
from confluent_kafka import Consumer, Producer, TopicPartition

import pricecheck.cli
from pricecheck import status
from pricecheck.outbox import Candidate, Commit, Outbox, open_readonly
from pricecheck.records import TOPICS, Bestsellers
from tests.daemons import KEY, House, Service, assigned, fast_time, free_port, until
from tests.deliver.conftest import Serve, serve_http  # noqa: F401  # the fixture

from .planted import CRASH, IN_PLACES, SECRETS, Keepa, Listener, Search, leaked, refuse, variable

ASINS = ["B000000010", "B000000011", "B000000012"]
ADDED = "B000000013"
FOUND = ["B000000014", "B000000015"]


class Scene(NamedTuple):
    """A daemon's house, and the servers around it."""

    house: House
    keepa: Keepa
    search: Search
    listener: Listener
    urls: dict[str, str]
    environ: dict[str, str]
    web: int

    def configure(self, keepa: str, *, more: str = "") -> None:
        """Write a config for a Keepa at that address, and this Elasticsearch and service."""
        times = assigned(self.house.service.time)
        simulation = f"[simulation]\n{times}" if keepa.startswith("http:") else ""
        self.house.config.write_text(
            'state_directory = "state"\nlog_level = "DEBUG"\n'
            f'[keepa]\nurl = "{keepa}"\ncall_timeout = "5s"\n'
            f'[prices]\nmode = "fixed"\nevery = "3650d"\n{simulation}'
            f'[elasticsearch]\nhosts = ["{self.urls["search"]}"]\nusername = "user"\n'
            f'[notify]\nevery = "1s"\n[web]\nlisten = "127.0.0.1:{self.web}"\n'
            '[[deals]]\ndomain = "DE"\nevery = "1h"\n'
            f'[[bestsellers]]\ndomain = "DE"\ncategory = 340843031\n{more}'
        )


class Evidence(NamedTuple):
    """What was put out, and where the rest of it is."""

    scene: Scene
    caught: dict[str, bytes]  # while the daemon ran


CHANNELS: dict[str, Callable[[Evidence], bytes]] = {
    "log, tracebacks, stacks": lambda it: read(it.scene.house.directory / "log"),
    "files of the state": lambda it: read(*it.scene.house.state.iterdir()),
    "other files": lambda it: read(*others(it.scene.house)),
    "status socket": lambda it: it.caught["socket"],
    "status for systemd": lambda it: it.caught["systemd"],
    "page": lambda it: it.caught["page"],
    "command line": lambda it: it.caught["command line"],
    "documents": lambda it: b"".join(it.scene.search.got),
    "messages": lambda it: b"".join(it.scene.listener.got),
}
"""All that leaves the daemon, and how it is read. Kafka gets the bytes of the documents."""

MARKS: dict[str, bytes] = {
    "log, tracebacks, stacks": b"RuntimeError: a bug: ***",
    "files of the state": b"mapper_parsing_exception",
    "other files": b"asin,target_price",
    "status socket": b"***",
    "status for systemd": b"STATUS=",
    "page": b"<html",
    "command line": b"pricecheck",
    "documents": b"invalidParameter",
    "messages": b'"message"',
}
"""A word that has to be in each, or it would not have been looked through."""

LETTER: Final = "the newest dead letter"
"""Stands for the name that it has when a command is called with it."""


class Way(NamedTuple):
    """How a command is called, and by what it is known to have done its work."""

    arguments: tuple[str, ...]
    word: str  # among what it prints
    code: int = 0


COMMANDS: dict[str, Way] = {
    "init": Way(("new",), "pricecheck config check new"),
    "run": Way((), "already running", os.EX_TEMPFAIL),  # more of it in the test of the daemon
    "simulate": Way(("--key", KEY), "SIMULATED Keepa API on http"),
    "status": Way(("--json",), "RuntimeError: a bug: ***", 1),
    "check": Way((ASINS[0], "--yes"), ASINS[0]),
    "watch add": Way((ADDED,), f"{ADDED} is watched, for"),
    "watch export": Way((), f"{ADDED},DE,"),
    "watch import": Way(("watchlist.csv", "--yes"), "4 watched already"),
    "watch list": Way((), "4 of 4 products"),
    "watch remove": Way((ADDED,), f"{ADDED} is watched no longer"),
    "discover": Way((), "2 of 2 candidates"),
    "discover accept": Way((FOUND[0],), "1 products are watched"),
    "discover reject": Way((FOUND[1],), "1 candidates are rejected"),
    "plan": Way((), "By Keepa plan"),
    "history": Way((ASINS[0],), f"{ASINS[0]} on amazon.de"),
    "compare": Way((ASINS[1],), "In EUR"),
    "deals": Way(("--send",), "told"),
    "bestsellers": Way((), "1 of 7"),
    "report": Way(("--output", "report.html"), "report.html: 4 products"),
    "notify test": Way((), "told"),
    "outbox": Way((), "of elasticsearch"),
    "outbox list": Way(("--json",), "mapper_parsing_exception"),
    "outbox show": Way((LETTER,), "mapper_parsing_exception"),
    "outbox retry": Way((LETTER,), "1 will be delivered again"),
    "outbox drop": Way((LETTER,), "1 dropped"),
    "kibana export": Way((), '"type": "dashboard"'),
    "kibana install": Way(("--username", "me"), "answers 407", os.EX_UNAVAILABLE),
    "config check": Way((), "in all"),
    "doctor": Way((), "tokens left", 1),
}
"""What each command is called with, and does."""

REFUSED: dict[str, Way] = {
    "check": Way((ASINS[0], "--yes"), "Keepa answered 500", os.EX_UNAVAILABLE),
    "doctor": Way((), "FAIL  keepa", 2),
}
"""Those that end otherwise where Keepa and Elasticsearch refuse."""


def test_every_secret_and_every_command_is_in_the_tables() -> None:
    """Whoever adds one adds it here."""
    package = Path(pricecheck.cli.__file__).parent.parent
    sources = "".join(path.read_text() for path in package.rglob("*.py"))

    assert set(re.findall(r'secret\(\s*"([a-z-]+)"', sources)) | {"keepa-api-key"} == set(SECRETS)
    assert set(commands(pricecheck.cli._pricecheck)) == set(COMMANDS)


async def test_the_daemon_shows_no_secret(
    scene: Scene, service: Service, notified: socket.socket
) -> None:
    """In success, refusal, reload, crash, and its end by a signal that shows all stacks."""
    house = scene.house
    service.runs_in(fast_time(3600.0))
    await service.serve(key=KEY, refill_rate=100_000)
    scene.configure(service.url)
    systemd = {"NOTIFY_SOCKET": notified.getsockname(), "WATCHDOG_USEC": "60000000"}

    with house.start(**scene.environ, **systemd) as daemon:
        await until(lambda: scene.search.got[1:] and scene.listener.got)
        scene.configure(scene.urls["keepa"])
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: scene.keepa.asked > 2 * Keepa.WAYS)
        caught = {"command line": read(Path(f"/proc/{daemon.process.pid}/cmdline"))}
        caught["socket"] = await trio.to_thread.run_sync(ask, house.state)
        caught["page"] = await page(scene.web)
        assert await daemon.ends(signal.SIGABRT) == -signal.SIGABRT

    caught["systemd"] = b"\n".join(datagrams(notified))
    seen = {name: read_it(Evidence(scene, caught)) for name, read_it in CHANNELS.items()}
    assert {name: leaks for name, text in seen.items() if (leaks := leaked(text))} == {}
    assert [name for name, word in MARKS.items() if word not in seen[name]] == []


async def test_no_secret_shows_where_nothing_can_be_reached(
    scene: Scene, kafka_that_knows_no_passwords: str
) -> None:
    """A proxy that refuses and repeats all it was told, no TLS, Kafka at its most talkative."""
    scene.house.watch(ASINS)
    scene.configure(
        "https://keepa.invalid",
        more=f'[kafka]\nbrokers = ["{kafka_that_knows_no_passwords}"]\n[kafka.options]\n'
        'debug = "all"\n"security.protocol" = "sasl_plaintext"\n"sasl.mechanism" = "PLAIN"\n'
        f'"sasl.username" = "user"\n"ssl.keystore.password" = "{IN_PLACES["kafka.options"]}"\n',
    )
    environ = scene.environ | {"ELASTICSEARCH_API_KEY": SECRETS["elasticsearch-api-key"]}

    with scene.house.start(**environ) as daemon:
        # librdkafka names SASL and SSL among its features; what failed, it says at more length.
        refused = ("ProxyError: 407", "SASL authentication")
        await until(lambda: all(word in daemon.log for word in refused))
        text = scene.house.config.read_text()
        plain = scene.urls["keepa"].replace("http:", "https:")
        scene.house.config.write_text(text.replace("https://keepa.invalid", plain))
        before = len(daemon.log)
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: "ConnectError: [SSL" in daemon.log[before:])
        told = await trio.to_thread.run_sync(ask, scene.house.state)
        assert await daemon.ends(signal.SIGTERM) == 0

    files = [scene.house.directory / "log", *scene.house.state.iterdir()]
    assert leaked(told) == leaked(read(*files)) == []


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_no_command_and_no_message_of_kafkas_shows_a_secret(
    scene: Scene, service: Service, kafka_that_knows_no_passwords: str
) -> None:
    """Of all there are, with the daemon running, with Keepa and with a server that repeats all."""
    brokers = kafka_that_knows_no_passwords
    await service.serve(key=KEY, refill_rate=100_000)
    scene.configure(service.url, more=f'[kafka]\nbrokers = ["{brokers}"]\n')
    with scene.house.start(**scene.environ) as daemon:
        # The first alert fails, and so would what a command sends in its place.
        await until(lambda: scene.listener.got[1:] and "a bug: ***" in daemon.log)
        await until(lambda: letters(scene.house)[6:])  # each round takes two away
        shown = await outputs(scene, COMMANDS)
        bugs = {"CRASHES": "products", "PLANTED": "KEEPA_API_KEY"}  # no more is known to it
        _, bug = await output(scene, "check", COMMANDS["check"], **bugs)
        messages = await trio.to_thread.run_sync(consumed, brokers)
        scene.configure(scene.urls["keepa"])
        scene.search.refusals = [403] * 99
        refused = await outputs(scene, COMMANDS | REFUSED)
        assert await daemon.ends(signal.SIGTERM) == 0

    assert b"a bug: ***" in bug
    assert ASINS[0].encode() in messages
    shown |= {f"{command}, refused": text for command, text in refused.items()}
    shown |= {"check, with a bug": bug, "files": read(*others(scene.house)), "kafka": messages}
    assert {name: leaks for name, text in shown.items() if (leaks := leaked(text))} == {}


@pytest.fixture
async def scene(house: House, serve_http: Serve, monkeypatch: pytest.MonkeyPatch) -> Scene:  # noqa: F811
    """A house with a watchlist, an environment with every secret, and servers that repeat all."""
    keepa, search, listener = Keepa(), Search(), Listener()
    urls = {
        name: await serve_http(behave)
        for name, behave in {
            "keepa": keepa,
            "search": search,
            "listener": listener,
            "proxy": refuse,
            "kibana": refuse,
        }.items()
    }
    (house.directory / "watchlist.csv").write_text(
        "asin,target_price\n" + "".join(f"{asin},9999999\n" for asin in ASINS)
    )
    bugs = house.directory / "bugs"
    bugs.mkdir()
    (bugs / "sitecustomize.py").write_text(CRASH)
    environ = {variable(name): secret for name, secret in SECRETS.items()}
    del environ["ELASTICSEARCH_API_KEY"]  # or the password would not be used
    host = urls["listener"].removeprefix("http://")
    user = quote(IN_PLACES["a service's user"])
    environ["NOTIFY_URLS"] = f"phone=json://user:{user}@{host}/{SECRETS['notify-urls']}/"
    proxy = urls["proxy"].replace("http://", f"http://user:{quote(IN_PLACES['the proxy'])}@")
    environ |= {"HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1", "KIBANA_URL": urls["kibana"]}
    known = ("keepa-api-key", "elasticsearch-password", "elasticsearch-api-key", "notify-urls")
    environ |= {"PYTHONPATH": str(bugs), "PLANTED": " ".join(map(variable, known))}
    environ |= {"TMPDIR": str(house.directory), "CRASHES": "bestsellers"}
    return Scene(house, keepa, search, listener, urls, environ, free_port())


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd would listen at."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify.sock"))
        listening.setblocking(False)
        yield listening


@pytest.fixture
def kafka_that_knows_no_passwords() -> Iterator[str]:
    """The address of librdkafka's mock broker, with our topics."""
    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    for topic in TOPICS.values():
        cluster.list_topics(topic, timeout=10)  # which makes it
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    del cluster


def read(*paths: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in paths if path.is_file())


def others(house: House) -> list[Path]:
    """All files in the house but those that the test itself wrote."""
    ours = {house.config, house.directory / "log", house.directory / "ledger"}
    return [
        path for path in house.directory.rglob("*") if path not in ours and "bugs" not in path.parts
    ]


def ask(state: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(state / status.SOCKET_NAME))
        with asking.makefile("rb") as answer:
            return answer.read()


async def page(port: int) -> bytes:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as browser:
        return (await browser.get(f"http://127.0.0.1:{port}/")).content


def datagrams(listening: socket.socket) -> Iterator[bytes]:
    with suppress(BlockingIOError):
        while True:
            yield listening.recv(65_536)


def consumed(brokers: str) -> bytes:
    """Return all of our messages that the brokers have, with keys and headers."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    there = consumer.list_topics(timeout=10).topics
    consumer.assign(
        [TopicPartition(one, n, 0) for one in TOPICS.values() for n in there[one].partitions]
    )
    found: list[bytes] = []
    while message := consumer.poll(5.0 if not found else 1.0):
        for part in (message.value(), message.key(), repr(message.headers())):
            found.append(part.encode() if isinstance(part, str) else part or b"")
    consumer.close()
    return b"\n".join(found)


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the whole name of each command there is."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield " ".join(words)
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*words, name))


async def outputs(scene: Scene, ways: dict[str, Way]) -> dict[str, bytes]:
    """Run commands in the house; return what each printed. Fails unless they did their work."""
    await trio.to_thread.run_sync(plant, scene.house)
    ended = {command: await output(scene, command, way) for command, way in ways.items()}
    assert {
        command: (code, text.decode())
        for command, (code, text) in ended.items()
        if code != ways[command].code or ways[command].word.encode() not in text
    } == {}
    return {command: text for command, (_, text) in ended.items()}


def plant(house: House) -> None:
    """Put into the outbox what commands show and no daemon brings here."""
    found = [Candidate("DE", asin, "a rule", "waiting", 0, b"{}") for asin in FOUND]
    bestsellers = Bestsellers(
        domain="DE",
        category="340843031",
        observed_at="2026-11-24T12:00:00Z",
        last_update=None,
        total=7,
        asins=(ASINS[0],),
    )
    with closing(Outbox.open(house.outbox, verify=False)) as outbox:
        outbox.decide(found)
        outbox.commit(Commit(records=(bestsellers.record(),)))


def letters(house: House) -> list[str]:
    """Name the dead letters of Elasticsearch's, the newest first."""
    with closing(open_readonly(house.outbox)) as outbox:
        found = outbox.dead_letters(source="elasticsearch")
    return [f"{letter.source}/{letter.kind}/{letter.id}" for letter in found]


async def output(scene: Scene, command: str, way: Way, **environ: str) -> tuple[int, bytes]:
    """Run a command in the house; return its exit code, and all that it printed."""
    own = {"PATH": os.environ["PATH"], "HOME": str(scene.house.directory)}
    arguments = [letters(scene.house)[0] if word is LETTER else word for word in way.arguments]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "pricecheck", *command.split(), *arguments],
        cwd=scene.house.directory,
        env=own | scene.environ | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    printed = b""
    try:
        with trio.fail_after(60):
            async for some in process.stdout:
                printed += some
                if command == "simulate":  # which nothing else ends
                    process.terminate()
            return await process.wait(), printed
    finally:
        process.kill()
