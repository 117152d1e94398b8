"""The checks of `pricecheck doctor`: one finding each, with what to do about it.

Each looks at one thing and changes nothing. What a check can't see, it says; it never raises.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from pricecheck import __version__
from pricecheck.collect.calls import CallLog, open_client
from pricecheck.config import Config, Settings
from pricecheck.daemon import Plan, read_plan
from pricecheck.deliver.configured import configured_sinks
from pricecheck.deliver.elasticsearch import ElasticsearchSink
from pricecheck.deliver.kafka import KafkaSink
from pricecheck.errors import PricecheckError, StoreError
from pricecheck.keepa.time import to_rfc3339
from pricecheck.needs import tokens_a_day
from pricecheck.outbox import FILE_NAME, open_readonly
from pricecheck.snapshot import Snapshot
from pricecheck.status import ask
from pricecheck.watched import accepted, with_discovered
from pricecheck.zombies import find_zombies, look_alikes

Level = Literal["ok", "warning", "failure"]

_CLOCK_WARNS_MS: Final = 5_000
_CLOCK_FAILS_MS: Final = 60_000
_ROOM_WARNS: Final = 1_000_000_000
_ROOM_FAILS: Final = 100_000_000
_FULL_SHARE: Final = 0.9


class Finding(msgspec.Struct, frozen=True):
    """What one check has found."""

    check: str
    level: Level
    said: str
    remedy: str = ""


async def examine(path: Path | None, root: Path = Path("/")) -> list[Finding]:
    """Make every check that the config allows; zombies are looked for under `root`."""
    findings: list[Finding] = []
    try:
        plan = read_plan(path)
        with suppress(StoreError):  # which the state is looked at for
            found = accepted(plan.settings)
            watched = with_discovered(plan.watchlist, plan.settings, found)
            plan = msgspec.structs.replace(plan, watchlist=watched)
    except PricecheckError as error:
        findings.append(Finding("config", "failure", error.message, error.remedy))
    else:
        findings += [_config(plan), *_places(plan)]
        checks: tuple[Callable[[Plan], Awaitable[list[Finding]]], ...] = (_keepa, _sinks)
        for check in checks:
            findings += await check(plan)
        findings += _daemon(plan)
    findings.append(_unit(Settings(Config(), path).unit or "pricecheck.service"))
    zombies = find_zombies(root)
    findings += [
        Finding(
            "zombies",
            "warning",
            f"{zombie.kind} {zombie.name} looks like an older deployment: {zombie.proof}",
            "stop and remove it if it is one: it may eat the same tokens",
        )
        for zombie in zombies
    ]
    if not zombies:
        findings.append(Finding("zombies", "ok", "no older deployment is to be seen here"))
    return findings


def _config(plan: Plan) -> Finding:
    watched, config = plan.watchlist, plan.settings.config
    said = f"{plan.settings.path or 'embedded defaults'}, {len(watched.watches):,} products"
    if watched.bad_count:
        said += f", {watched.bad_count:,} bad lines skipped"
        return Finding("config", "warning", said, "`pricecheck config check` lists them")
    if not (watched.watches or config.deals or config.bestsellers or config.discovery):
        said += ", no deals and no best sellers: nothing to do"
        return Finding("config", "warning", said, f"put ASINs into {plan.settings.watchlist}")
    return Finding("config", "ok", said)


def _places(plan: Plan) -> list[Finding]:
    """Look at the state directory's room and owner, and at who may read the key."""
    settings = plan.settings
    directory = settings.state_directory()
    place = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:,.1f} GB free at {directory}"
    if free < _ROOM_FAILS:
        findings = [Finding("disk", "failure", said, "make room: nothing can be stored soon")]
    elif free < _ROOM_WARNS:
        findings = [Finding("disk", "warning", said, "make room, or lower outbox.retention")]
    else:
        findings = [Finding("disk", "ok", said)]
    findings += _outbox(directory)
    if not os.access(place, os.W_OK):
        findings.append(
            Finding(
                "permissions",
                "warning",
                f"{place} can't be written by this user",
                "run doctor as root or as the user of the service",
            )
        )
    if settings.config.keepa.key_file:
        file = settings.folder / Path(settings.config.keepa.key_file).expanduser()
        if file.exists() and file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            said = f"everybody may read the API key in {file}"
            findings.append(Finding("permissions", "warning", said, f"chmod o-rw {file}"))
    return findings


def _outbox(directory: Path) -> list[Finding]:
    """Look whether what is kept can be read; nothing where this user may not look."""
    if directory.exists() and not directory.is_dir():
        said = f"{directory} is no directory"
        return [Finding("outbox", "failure", said, "move it away, or set state_directory")]
    path = directory / FILE_NAME
    if not os.access(path, os.R_OK):
        return []
    try:
        with closing(open_readonly(path)) as outbox:
            return [Finding("outbox", "ok", f"{outbox.size_bytes() / 1e6:,.1f} MB at {path}")]
    except StoreError as error:
        return [Finding("outbox", "failure", error.message, error.remedy)]


async def _keepa(plan: Plan) -> list[Finding]:
    """Ask /token, which is free: the key, the plan against the watchlist, and the clock."""
    config = plan.settings.config
    async with open_client(plan.settings, plan.key, CallLog(config.time)) as client:
        try:
            envelope = await client.token()
        except PricecheckError as error:
            return [Finding("keepa", "failure", error.message, error.remedy)]
    simulated = "SIMULATED, " if config.simulated else ""
    rate = envelope.effective_rate
    findings = [
        Finding(
            "keepa",
            "ok" if rate > 0 else "failure",
            f"{simulated}{envelope.tokens_left:,} tokens left, {rate:g} a minute",
            "" if rate > 0 else "Keepa trackings take the whole rate: remove some",
        )
    ]
    needed, refilled = sum(tokens_a_day(config, plan.watchlist).values()), rate * 1440
    share = needed / refilled if refilled else float("inf")
    said = f"{needed:,.0f} tokens a day of {refilled:,.0f} are needed: {share:.1%}"
    remedy = "raise `every`, watch less, ask for fewer extras, or take a larger plan"
    level: Level = "ok" if share <= _FULL_SHARE else "warning"
    findings.append(Finding("budget", level, said, "" if level == "ok" else remedy))
    off_ms = abs(envelope.timestamp_ms - config.time.now_ms()) / config.time.factor
    if envelope.timestamp_ms:
        level = "ok"
        if off_ms > _CLOCK_WARNS_MS:
            level = "failure" if off_ms > _CLOCK_FAILS_MS else "warning"
        said = f"{off_ms / 1000:,.1f} s from Keepa's"
        remedy = "" if level == "ok" else "start a time service such as systemd-timesyncd"
        findings.append(Finding("clock", level, said, remedy))
    return findings


async def _sinks(plan: Plan) -> list[Finding]:
    """Reach each sink, without making anything there, and look for names almost like ours."""
    findings: list[Finding] = []
    names = plan.settings.config.names.by_kind()
    try:
        sinks = configured_sinks(plan.settings, make=False)
    except PricecheckError as error:
        return [Finding("sinks", "failure", error.message, error.remedy)]
    for sink in sinks:
        try:
            peer = await sink.connect()
            findings.append(Finding(sink.name, "ok", peer))
            findings += [Finding(sink.name, "warning", note) for note in sink.notes]
            if isinstance(sink, ElasticsearchSink):
                findings += await _elasticsearch(sink, list(names.values()), plan)
            elif isinstance(sink, KafkaSink):
                findings += await _kafka(sink)
        except PricecheckError as error:
            findings.append(Finding(sink.name, "failure", error.message, error.remedy))
        finally:
            await sink.close()
        if isinstance(sink, KafkaSink):
            alike = look_alikes(names.values(), sink.topics)
            written = {name: _told(await sink.last_write(name)) for name in alike}
            findings += _alike(sink.name, "topic", alike, written)
    return findings


async def _kafka(sink: KafkaSink) -> list[Finding]:
    """Look at the right to write; whether the brokers and topics are there, connecting tells."""
    return [
        Finding(
            sink.name,
            "failure",
            f"these credentials may not write to the topic {name}",
            "give them the right to: operation Write in its access list",
        )
        for name in await sink.not_writable()
    ]


async def _elasticsearch(sink: ElasticsearchSink, ours: list[str], plan: Plan) -> list[Finding]:
    findings: list[Finding] = []
    for node in await sink.ask("/_cat/allocation?format=json&h=node,disk.percent"):
        used = int(node.get("disk.percent") or 0)
        if used >= 85:  # the low watermark that Elasticsearch comes with
            said = f"the disk of node {node['node']} is {used} % full"
            remedy = "make room: from 95 % on Elasticsearch takes nothing more"
            findings.append(Finding(sink.name, "warning", said, remedy))
    indices = await sink.ask("/_cat/indices?format=json&h=index,docs.count&expand_wildcards=open")
    there = [index["index"] for index in indices]
    findings += _missing(sink.name, "index", ours, there)
    search = plan.settings.config.elasticsearch
    if search is not None and search.templates:
        known = await sink.ask("/_index_template?filter_path=index_templates.name")
        templates = [template["name"] for template in known.get("index_templates", ())]
        findings += _missing(sink.name, "index template", ours, templates)
    alike = look_alikes(ours, there)
    written = {name: await _last_write(sink, name) for name in alike}
    return [*findings, *_alike(sink.name, "index", alike, written)]


async def _last_write(sink: ElasticsearchSink, index: str) -> str:
    """Return when an index last got a document, by its newest timestamp."""
    newest = await sink.ask(
        f"/{index}/_search?size=0", {"aggs": {"newest": {"max": {"field": "timestamp"}}}}
    )
    value = newest["aggregations"]["newest"]["value"]
    return _told(int(value) if value else None)


def _told(time_ms: int | None) -> str:
    return to_rfc3339(time_ms) if time_ms else "unknown"


def _missing(sink: str, what: str, ours: list[str], there: list[str]) -> list[Finding]:
    """Name those of our names that are missing, unless all are: then nothing was delivered yet."""
    missing = [name for name in ours if name not in there]
    if not missing or len(missing) == len(ours):
        return []
    said = f"no {what} {', '.join(missing)}"
    return [Finding(sink, "warning", said, "restart pricecheck: it makes what is missing")]


def _alike(sink: str, what: str, alike: dict[str, str], written: dict[str, str]) -> list[Finding]:
    return [
        Finding(
            sink,
            "warning",
            f"the {what} {name} is almost called {ours}; last written {written[name]}",
            "an older deployment may write there: find it, then delete what is not needed",
        )
        for name, ours in alike.items()
    ]


def _daemon(plan: Plan) -> list[Finding]:
    """Ask the running daemon: its version, its health, and tokens that somebody else spends."""
    try:
        snapshot = ask(plan.settings.socket_directory())
    except PricecheckError as error:
        return [Finding("daemon", "warning", error.message, error.remedy)]
    return [*_version(snapshot), *_health(snapshot)]


def _version(snapshot: Snapshot) -> list[Finding]:
    if snapshot.version != __version__:
        said = f"{snapshot.version} runs, {__version__} is installed"
        return [Finding("daemon", "warning", said, "restart it: systemctl restart pricecheck")]
    return [Finding("daemon", "ok", f"pid {snapshot.pid} runs the installed {__version__}")]


def _health(snapshot: Snapshot) -> list[Finding]:
    findings = [
        Finding("daemon", "warning", reason, "see `pricecheck status`")
        for reason in snapshot.reasons
    ]
    if foreign := snapshot.tokens.foreign_per_hour:
        said = f"somebody else spent {foreign:,} tokens of this key in the last hour"
        findings.append(Finding("tokens", "warning", said, "find it, or give it its own key"))
    return findings


def _unit(name: str) -> Finding:
    """Look at the systemd unit, where there is a systemd."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").exists():
        return Finding("unit", "ok", "no systemd runs here")
    wanted = "--property=LoadState,ActiveState,SubState,NRestarts,UnitFileState"
    done = subprocess.run(  # noqa: S603  # systemd's own program
        [systemctl, "show", name, wanted],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    state = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if state.get("LoadState") != "loaded":
        return Finding("unit", "warning", f"{name} is not installed", "sudo make install")
    said = f"{name} is {state.get('ActiveState')}, {state.get('UnitFileState')}"
    restarts = int(state.get("NRestarts") or 0)
    if restarts:
        said += f", restarted {restarts} times"
    if state.get("ActiveState") != "active":
        return Finding("unit", "failure", said, f"journalctl -u {name} -p warning")
    if state.get("UnitFileState") != "enabled":
        return Finding("unit", "warning", said, f"systemctl enable {name}, to start at boot")
    if restarts:
        return Finding("unit", "warning", said, f"journalctl -u {name} -p warning")
    return Finding("unit", "ok", said)
