"""A file of corrected quarantine entries, in the format of `ddb-lake quarantine show --json`. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from ddb_lake.errors import UsageError


def parse_corrected(data: bytes, where: str) -> dict[str, bytes]:
    """The bytes of each entry by its quarantine id.

    Args:
        data: the document that `quarantine show --json` prints, or one entry in each line. Of an entry, `quarantine_id`
            and `text` are read, or `raw` in base64 if there is no text. Other members are ignored.
        where: the name of the file, for messages.

    Raises:
        UsageError: the file has another form. The message names the entry and never quotes it.
    """
    entries: dict[str, bytes] = {}
    for number, entry in enumerate(_entries(data, where), start=1):
        place = f"{where}, entry {number}"
        identifier = entry.get("quarantine_id") if isinstance(entry, dict) else None
        if not isinstance(identifier, str) or not identifier:
            raise UsageError(
                f"{place}: expected an object with a `quarantine_id`, as `quarantine show --json` prints it"
            )
        if identifier in entries:
            raise UsageError(f"{place}: quarantine id {identifier} occurs twice")
        entries[identifier] = _bytes(entry, place)
    return entries


def _entries(data: bytes, where: str) -> list[Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{where}: no UTF-8 text; expected the output of `quarantine show --json`") from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return [_line(line, number, where) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    listed = document.get("entries", [document]) if isinstance(document, dict) else document
    if not isinstance(listed, list):
        raise UsageError(f"{where}: `entries` is no list; expected the output of `quarantine show --json`")
    return listed


def _line(line: str, number: int, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError(
            f"{where}, line {number}: no JSON; expected the output of `quarantine show --json`, or one entry in each line"
        ) from None


def _bytes(entry: dict[str, Any], place: str) -> bytes:
    text, raw = entry.get("text"), entry.get("raw")
    try:
        if isinstance(text, str):
            return text.encode("utf-8", "surrogateescape")
        if isinstance(raw, str):
            return base64.b64decode(raw, validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise UsageError(f"{place}: its text or its base64 cannot be encoded") from None
    raise UsageError(f"{place}: it has neither a `text` nor `raw` bytes in base64")
