"""Whatever raises while one record is read costs that record alone: it goes to quarantine, and the rest is read."""

from __future__ import annotations

import base64
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pyarrow.parquet as pq
import pytest

import ddb_lake.core
from ddb_lake.aws.objects import ObjectRef
from ddb_lake.engine.staging import StagingWriter
from ddb_lake.errors import DdbLakeError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.export_files import land
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.group_reader import group_reader

CORE = str(Path(ddb_lake.core.__file__).parent)
OF_THE_OBJECT = ("compression.py", "firehose_paths.py", "system.py")
"""Modules that concern an object as a whole, or the process: what raises there concerns all records."""

EVERY = by_effort(11, 3, 1)
"""Of the calls, every so many raise; `make trust` raises at each."""

GUARDS = (
    "read_object",
    "read_object_by_runs",
    "_open",
    "_read",
    "read_within",
    "read_envelope",
    "split_json",
    "_split",
    "unexpected",
    "limited",
    "<genexpr>",
    "first_run",
    "next_run",
    "_read_behind",
    "is_blank_from",
    "_skip_space",
    "__bool__",
)
"""Functions that guard what they call, generators, which are also called in order to be closed, and functions that look at an object's
bytes or at the configuration before a record is read."""


SECRET = "an item's value"


class FaultError(Exception):
    """What no code expects."""


def change(marker: str, **image: Any) -> dict[str, Any]:
    keys = {"id": {"S": marker}}
    return envelopes.kds(
        envelopes.Change("MODIFY", keys, {**keys, **image}, {**keys, **image}, 1_664_000_000_000_000, marker)
    )


PIECES = [
    envelopes.compact(change("m1", plain={"S": "x"}, list={"L": [{"N": "1.5"}, {"M": {"a": {"SS": ["b", "a"]}}}]})),
    envelopes.compact(change("m2", binary={"B": "QUE9PQ=="}, numbers={"NS": ["1.0", "1e2"]}, no={"NULL": False})),
    envelopes.compact(
        envelopes.streams(
            envelopes.Change("REMOVE", {"id": {"S": "m3"}}, None, {"id": {"S": "m3"}}, 1_664_000_000_000_000, "m3")
        )
    ),
    envelopes.compact(
        {"Event": "INSERT", "ingestion_timestamp": "2024-01-01 00:00:00", "id": "m4", "tags": ["a", 1.50]}
    ),
    envelopes.compact(envelopes.error_object(envelopes.compact(change("m5", a={"N": "7"})))),
    envelopes.compact(
        envelopes.kinesis_event(envelopes.compact(change("m6")), envelopes.compact(change("m7", q={"S": '"'})))
    ),
    envelopes.compact({**change("m8"), "tableName": "third"}),
    envelopes.compact(change("m9", bad={"S": 1}, odd={"SS": ['"']})),
    b'{"a":1,"a":2}',
    b"no JSON",
    envelopes.compact(change("m10")),
]
GOOD = {f"m{number}" for number in (1, 2, 3, 4, 5, 6, 7, 10)}


class Fault:
    """Raises at one call of a function of `ddb_lake.core`, and only counts the calls if `at` is 0."""

    def __init__(self, at: int, error: type[BaseException] = FaultError) -> None:
        self.at, self.error = at, error
        self.calls = 0
        self.name = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(CORE) or path.endswith(OF_THE_OBJECT):
            return
        if frame.f_code.co_name in GUARDS:
            return
        self.calls += 1
        if self.calls == self.at:
            self.name = f"{Path(path).name}: {frame.f_code.co_name}"
            sys.settrace(None)
            raise self.error

    @contextmanager
    def on(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before)


def read(data: bytes, fast: bool, fault: Fault) -> tuple[set[str], list[tuple[str, bytes]], dict[str, int]]:
    """Markers of the records that were staged, what was quarantined with its reason, and records of other tables."""
    refs = [ObjectRef("s3://bucket/landing/0", "1", len(data), 0)]
    with TemporaryDirectory() as folder:
        reader = group_reader(folder, "orders", fast=fast)
        with fault.on():
            group = reader.read(zip(refs, [data], strict=True))
        staged = group.tables["orders"]
        ids = {key.partition(":")[2] for key in pq.read_table(staged.changes.path)["_key"].to_pylist()}
        rejected = pq.read_table(staged.quarantine.path, columns=["reason", "raw"]).to_pylist()
        return ids, [(row["reason"], row["raw"]) for row in rejected], dict(group.other_tables)


def opened(raw: bytes) -> bytes:
    """The bytes with what they hold in base64."""
    content = [raw]
    for part in raw.replace(b'"', b" ").split():
        try:
            content.append(base64.b64decode(part, validate=True))
        except ValueError:
            continue
    return b" ".join(content)


@pytest.mark.more_examples
@pytest.mark.parametrize("fast", (True, False))
@pytest.mark.parametrize("joint", (b"\n", b""))
def test_exception_at_any_call_costs_the_record_that_is_read(fast: bool, joint: bytes) -> None:
    logging.disable(logging.CRITICAL)
    try:
        data = joint.join(PIECES)
        counting = Fault(0)
        ids, rejected, others = read(data, fast, counting)
        assert (ids, len(rejected), others) == (GOOD, 3, {"third": 1})
        assert counting.calls > 100
        for at in range(1, counting.calls + 1, EVERY):
            fault = Fault(at)
            found, kept, others = read(data, fast, fault)
            missing = GOOD - found
            assert len(missing) <= 1 or missing == {"m6", "m7"}, (at, fault.name, missing)
            unexpected = [raw for reason, raw in kept if FaultError.__name__ in reason]
            for marker in missing:
                assert any(f'"{marker}"'.encode() in opened(raw) for raw in unexpected), (at, fault.name, marker)
            for marker in (b'"m9"', b'"a":2', b"no JSON"):
                assert any(marker in raw for _, raw in kept), (at, fault.name, marker)
            assert others == {"third": 1} or any(b'"m8"' in raw for raw in unexpected), (at, fault.name)
    finally:
        logging.disable(logging.NOTSET)


def test_unexpected_exception_is_logged_with_its_frames_and_without_its_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr("ddb_lake.core.decode.captures._source", broken)
    _, kept, _ = read(PIECES[0], False, Fault(0))
    ((reason, raw),) = kept
    assert "ValueError" in reason and SECRET not in reason and raw == PIECES[0]
    assert "in broken" in caplog.text and "s3://bucket/landing/0, byte 0" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.more_examples
@pytest.mark.parametrize("fast", (True, False))
def test_lack_of_memory_ends_reading_at_any_call(fast: bool) -> None:
    data = b"\n".join(PIECES[:5])
    counting = Fault(0)
    read(data, fast, counting)
    for at in range(1, counting.calls + 1, 3 * EVERY):
        with pytest.raises(MemoryError):
            read(data, fast, Fault(at, MemoryError))


@pytest.mark.parametrize("error", (OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt()))
def test_machine_that_fails_ends_the_run_and_nothing_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def failing(self: StagingWriter) -> None:
        raise error

    path = land(tmp_path / "object", b"\n".join([PIECES[0], PIECES[9]]).decode())
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        with monkeypatch.context() as patched, pytest.raises((OSError, MemoryError, KeyboardInterrupt, DdbLakeError)):
            patched.setattr(StagingWriter, "flush", failing)
            apply_objects(opened, "orders", [path])
        assert opened.changes("orders") is None and opened.quarantine("orders") is None
        result = apply_objects(opened, "orders", [path])
        assert (result.new, result.quarantined) == (1, 1)
