"""How the program logs: one event a line, in a form for the journal or for people, no secrets.

The whole program logs like this: `log.info("prices checked", extra=kv(domain="DE", asked=31))`.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, TextIO, TypeAlias

import msgspec


class _Level(msgspec.Struct, frozen=True):
    """How a level is shown: syslog's priority, its name for people, its colour (ANSI)."""

    priority: int
    label: str
    colour: str


_LEVELS: Final = {
    logging.DEBUG: _Level(7, "DEBUG", "2"),
    logging.INFO: _Level(6, "INFO", "0"),
    logging.WARNING: _Level(4, "WARN", "33"),
    logging.ERROR: _Level(3, "ERROR", "31"),
    logging.CRITICAL: _Level(2, "CRIT", "1;31"),
}

# Every Keepa URL carries the key, so it is hidden there whether or not it is registered.
_KEY_IN_URL: Final = re.compile(r"""([?&]key=)[^&\s"']+""")

_LEAST_BASE64: Final = 8

_secrets: Final[dict[str, re.Pattern[str]]] = {}


def setup(level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Log everything from `level` up to a stream, by default standard error.

    Replaces what was set up before. Raises ValueError for a level that logging doesn't know.
    """
    stream = stream or sys.stderr
    if _is_journal(stream):
        prefixes = _journal_prefixes
    elif stream.isatty() and not os.environ.get("NO_COLOR"):
        prefixes = _colour_prefixes
    else:
        prefixes = _plain_prefixes
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(prefixes))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "urllib3"):  # they log every request, with its URL
        logging.getLogger(chatty).setLevel(logging.WARNING)


def kv(**fields: object) -> dict[str, dict[str, object]]:
    """Return the `extra=` argument that puts these fields behind an event, as key=value."""
    return {"fields": fields}


def redact(secret: str) -> None:
    """Keep a secret out of everything logged from now on, however it is quoted there."""
    if secret:
        ways = ["".join(map(_spellings, secret)), *_in_base64(secret)]
        _secrets[secret] = re.compile("|".join(ways))


def redacted(text: str) -> str:
    """Return the text with every secret, and every key in a URL, replaced by `***`."""
    # Longest first: masking a secret that is part of another would leave the rest to be seen.
    for secret in sorted(_secrets, key=len, reverse=True):
        text = _secrets[secret].sub("***", text)
    return _KEY_IN_URL.sub(r"\1***", text)


def excerpt(text: str, most: int) -> str:
    """Return the first `most` characters of a text without secrets, however long it is.

    Cut before it is redacted, it would end in half a secret, which nothing recognises.
    """
    return redacted(text[: 200 * most])[:most]


def _spellings(char: str) -> str:
    """Return a pattern for the ways to write a character: plain, for URLs, JSON, HTML, code."""
    raw = char.encode(errors="surrogateescape")
    percent = "".join(f"%{byte:02X}" for byte in raw)
    ways = {
        char,
        percent,
        percent.lower(),
        json.dumps(char)[1:-1],
        repr(raw)[2:-1],
        html.escape(char),
    }
    if char in "&<>+=/'":  # some write these so, though JSON does not ask for it
        ways |= {f"\\u{ord(char):04x}", f"\\u{ord(char):04X}", f"\\{char}"}
    if char == " ":
        ways.add("+")
    return f"(?:{'|'.join(map(re.escape, ways))})"


def _in_base64(secret: str) -> Iterator[str]:
    """Yield patterns for a secret within base64, such as a header's user and password.

    There are three, by where the secret begins in what was coded; of each the characters that
    nothing else has a part in. Short ones would be found in words.
    """
    raw = secret.encode(errors="surrogateescape")
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw).decode()
        core = coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        if len(core) >= _LEAST_BASE64:
            yield re.escape(core).replace(r"\+", "[+-]").replace("/", "[/_]")


def _is_journal(stream: TextIO) -> bool:
    """Tell whether systemd reads the stream; it names its device and inode in JOURNAL_STREAM."""
    try:
        file = os.fstat(stream.fileno())
    except (OSError, ValueError):  # in memory, or closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}"


_Prefixes: TypeAlias = Callable[[logging.LogRecord], tuple[str, str]]
"""What an event's line begins with, and what each line of its traceback does."""


def _journal_prefixes(record: logging.LogRecord) -> tuple[str, str]:
    priority = _level(record).priority
    return f"<{priority}>", f"<{priority}>  "


def _plain_prefixes(record: logging.LogRecord) -> tuple[str, str]:
    return f"{_clock(record)} {_level(record).label:<5} ", "  "


def _colour_prefixes(record: logging.LogRecord) -> tuple[str, str]:
    level = _level(record)
    return f"{_clock(record)} \x1b[{level.colour}m{level.label:<5}\x1b[0m ", "  "


def _level(record: logging.LogRecord) -> _Level:
    """Return how a record's level is shown; levels of others' making count as the next lower."""
    return _LEVELS[min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)]


def _clock(record: logging.LogRecord) -> str:
    return time.strftime("%H:%M:%S", time.localtime(record.created))


class _Formatter(logging.Formatter):
    """Writes an event and its fields on one line, and its traceback on further ones."""

    def __init__(self, prefixes: _Prefixes) -> None:
        super().__init__()
        self._prefixes = prefixes

    def format(self, record: logging.LogRecord) -> str:
        first, further = self._prefixes(record)
        fields: dict[str, object] = getattr(record, "fields", {})
        event = _printable(redacted(_message(record)))
        lines = [first + " ".join([event, *(f"{k}={_value(v)}" for k, v in fields.items())])]
        if record.exc_info:
            # Redacted before it is split: a secret may hold a newline.
            trace = redacted(self.formatException(record.exc_info))
            lines += (further + _printable(line) for line in trace.split("\n"))
        return "\n".join(lines)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # logging itself would print the arguments, secrets and all
        return f"{record.msg} {record.args!r}"


def _value(value: object) -> str:
    """Write a field's value as logfmt does: None as `-`, quoted where it has to be."""
    if value is None:
        return "-"
    text = redacted(str(value))
    if text and text.isprintable() and not any(char in text for char in ' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_printable(escaped)}"'


def _printable(text: str) -> str:
    """Escape what would break a line or command a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
