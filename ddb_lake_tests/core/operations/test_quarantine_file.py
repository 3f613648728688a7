from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.operations.quarantine_file import parse_corrected
from ddb_lake.errors import UsageError

bodies = st.dictionaries(st.text(min_size=1, max_size=8), st.binary(max_size=30), max_size=5)


@given(bodies, st.booleans(), st.booleans())
def test_entries_in_a_document_or_in_lines_give_their_bytes(
    entries: dict[str, bytes], lines: bool, as_text: bool
) -> None:
    listed = []
    for identifier, raw in entries.items():
        entry = {"quarantine_id": identifier, "raw": base64.b64encode(raw).decode(), "reason": "x"}
        if as_text:
            entry |= {"text": raw.decode("utf-8", "surrogateescape")}
        listed.append(entry)
    document = "\n".join(json.dumps(e) for e in listed) if lines else json.dumps({"table": "t", "entries": listed})
    if not listed and lines:
        assert parse_corrected(b"", "f") == {}
    else:
        assert parse_corrected(document.encode(), "f") == entries


def test_text_counts_more_than_raw_and_null_text_does_not() -> None:
    raw = base64.b64encode(b"raw").decode()
    assert parse_corrected(json.dumps({"quarantine_id": "a", "raw": raw, "text": "text"}).encode(), "f") == {
        "a": b"text"
    }
    assert parse_corrected(json.dumps([{"quarantine_id": "a", "raw": raw, "text": None}]).encode(), "f") == {
        "a": b"raw"
    }


@given(st.binary(max_size=40) | st.recursive(st.none() | st.integers(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_other_files_are_wrong_use(data: bytes) -> None:
    try:
        assert parse_corrected(data, "f") == {}
    except UsageError as error:
        assert str(error).startswith("f")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"raw": "eA=="}], "entry 1: expected an object with a `quarantine_id`"),
        ([{"quarantine_id": "a", "raw": "?"}], "cannot be encoded"),
        ([{"quarantine_id": "a"}], "neither"),
        ([{"quarantine_id": "a", "text": ""}, {"quarantine_id": "a", "text": ""}], "occurs twice"),
    ],
)
def test_faulty_entry_is_named(entries: list[dict[str, str]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_corrected(json.dumps({"entries": entries}).encode(), "f")
