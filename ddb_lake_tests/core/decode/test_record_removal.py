"""Records are removed from landed objects, and all other outcomes stay where they are."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.decode.envelopes import Outcome
from ddb_lake.core.decode.record_removal import ReadSettings, without_lines, without_records
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.export_files import T0_US, change, item, text_of

SETTINGS = ReadSettings(("id",))
KEYS = st.sampled_from(["a", "b", "gone"])
PIECES = st.one_of(
    KEYS.map(lambda key: ("record", [key])),
    st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: ("wrapper", keys)),
    st.just(("garbage", [])),
)


def is_gone(outcome: Outcome) -> bool:
    return isinstance(outcome, ChangeRecord) and outcome.keys["id"] == {"S": "gone"}


def piece(kind: str, keys: list[str]) -> Any:
    if kind == "garbage":
        return '{"no": "envelope"}'
    records = [change(T0_US, item(key, v=1)) for key in keys]
    if kind == "record":
        return records[0]
    return {"Records": [{"kinesis": {"data": base64.b64encode(json.dumps(r).encode()).decode()}} for r in records]}


@examples(30, 300)
@given(st.lists(PIECES, max_size=5), st.sampled_from(["", "\n", " "]), st.booleans())
def test_all_other_outcomes_stay_at_their_offsets(
    pieces: list[tuple[str, list[str]]], between: str, zipped: bool
) -> None:
    content = text_of(*(part for kind, keys in pieces for part in (piece(kind, keys), between)))
    data = gzip.compress(content) if zipped else content
    before = SETTINGS.outcomes(data)
    rewritten = without_records(data, SETTINGS, is_gone)
    count = sum(keys.count("gone") for _, keys in pieces)
    if rewritten is None:
        assert count == 0
        return
    assert rewritten.removed == count and rewritten.data is not None
    assert list(rewritten.after) == SETTINGS.outcomes(rewritten.data)
    expected = [(one.offset, one.outcome) for one in before if not is_gone(one.outcome)]
    assert [(one.offset, one.outcome) for one in rewritten.after] == expected
    plain = gzip.decompress(rewritten.data) if zipped else rewritten.data
    assert len(plain) == len(content) and b'"gone"' not in plain
    assert base64.b64encode(b'{"awsRegion"')[:8] in plain or "wrapper" not in [
        k for k, keys in pieces if {*keys} - {"gone"}
    ]
    assert without_records(rewritten.data, SETTINGS, is_gone) is None


def test_damaged_container_is_left_and_reported() -> None:
    data = gzip.compress(text_of(change(T0_US, item("gone")), "\n", change(T0_US, item("a"))))[:-4]
    rewritten = without_records(data, SETTINGS, is_gone)
    assert rewritten is not None and rewritten.data is None and rewritten.removed == 1


@given(st.lists(st.sampled_from([b"gone\n", b"a\n", b"\n"])))
def test_lines_are_removed(lines: list[bytes]) -> None:
    kept, removed, left = without_lines(b"".join(lines), lambda line: line == b"gone\n")
    assert (kept, removed) == (b"".join(line for line in lines if line != b"gone\n"), lines.count(b"gone\n"))
    assert left == lines.count(b"a\n")
