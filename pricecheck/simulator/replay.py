"""Recorded /product answers, served as they were recorded."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pricecheck.errors import InputError

Recording = dict[tuple[int, str], bytes]
"""The JSON of each recorded product, by its domain and ASIN."""


class _Answer(msgspec.Struct, frozen=True):
    products: list[msgspec.Raw]


class _Identity(msgspec.Struct, frozen=True, rename="camel"):
    asin: str
    domain_id: int


def load(directory: Path) -> Recording:
    """Read every *.json of a directory as a /product answer.

    Raises InputError when there is none, or one that is not such an answer.
    """
    files = sorted(directory.glob("*.json"))
    if not files:
        raise InputError(
            f"no recorded answers in {directory}", remedy="put /product answers there as *.json"
        )
    recording: Recording = {}
    for file in files:
        try:
            for raw in msgspec.json.decode(file.read_bytes(), type=_Answer).products:
                who = msgspec.json.decode(raw, type=_Identity)
                recording[who.domain_id, who.asin] = bytes(raw)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{file} is not a recorded /product answer: {error}",
                remedy="record the whole body of the answer, with its `products`",
            ) from None
    return recording
