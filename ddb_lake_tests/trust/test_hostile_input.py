"""Bytes made to hurt: no parser crashes, hangs or takes memory without bound, and what is wrong goes to quarantine."""

from __future__ import annotations

import gzip
import json
import os
import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.config import load_settings, parse_settings
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.layout.export_manifest import parse_files, parse_summary
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake.errors import ConfigError, ExportError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.export_files import T0_US, change, full, item, land, sorted_items, text_of
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.several_tables import dumped
from ddb_lake_tests.trust.mutating import TOKENS, mutants
from ddb_lake_tests.trust.parsing import feed

MUTANTS = int(os.environ.get("DDB_LAKE_MUTANTS", "500"))
GIVEN_UP_S = 120
"""Processor time after which a batch of small inputs hangs: it takes a few seconds."""


@contextmanager
def no_hang() -> Iterator[None]:
    """Break off what takes processor time without end, with a traceback of where."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("a parser hangs")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, GIVEN_UP_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_spoiled_samples_crash_and_hang_no_parser() -> None:
    with no_hang():
        taken = sum(feed(data) for data in mutants(seed=1, count=MUTANTS))
    assert taken > MUTANTS, "hardly anything was parsed"


@settings(max_examples=60)
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=40)), max_size=12).map(b"".join))
def test_any_bytes_crash_no_parser(data: bytes) -> None:
    feed(data)
    feed(gzip.compress(data, 1))


# --- each known weapon


def outcomes(data: bytes, limit_bytes: int = 1 << 20) -> list[Any]:
    return [found.outcome for found in read_object(data, key_names=("id",), limit_bytes=limit_bytes)]


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"S": "deep"}
    for _ in range(levels):
        value = {"M": {"m": value}}
    return value


def test_gzip_bomb_is_bounded_in_memory_and_reported() -> None:
    limit_bytes = 24 << 20
    bomb = gzip.compress(b"{" + bytes(64 << 20), 9)
    tracemalloc.start()
    try:
        found = outcomes(bomb, limit_bytes=limit_bytes)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5 * limit_bytes
    assert [one.reason for one in found if "larger than the limit" in one.reason] != []
    assert sum(len(one.raw) for one in found) < 4 << 20


def test_garbage_without_an_end_is_kept_in_part() -> None:
    (found,) = outcomes(b"x" * (17 << 20))
    assert len(found.raw) == 1 << 20
    assert str(17 << 20) in found.reason


@pytest.mark.parametrize("levels", (32, 100, 400, 1_000, 100_000))
def test_nesting_of_any_depth_is_read_or_rejected(levels: int) -> None:
    head, middle, tail = json.dumps(change(T0_US, item("a", m={"S": "X"}))).partition('{"S": "X"}')
    record = head + '{"M":{"m":' * levels + '{"S":"deep"}' + "}}" * levels + tail
    assert middle
    (found,) = outcomes(record.encode(), 1 << 24)
    assert isinstance(found, ChangeRecord if levels <= 32 else ChangeRecord | Rejected)


def test_number_of_more_digits_than_dynamodb_has_is_kept_as_it_is(tmp_path: Path) -> None:
    many = [item("a", n={"N": "7" * 39}), item("b", n={"N": "1" + "0" * 1_000}), item("c", n={"N": f"0.{'3' * 900}"})]
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        apply_objects(opened, "orders", [land(tmp_path / "x", *(change(T0_US, one) for one in many))])
        assert dumped(opened) == sorted_items(many)


@pytest.mark.parametrize("digits", (5_000, 1_000_000))
def test_number_of_thousands_of_digits_is_rejected(digits: int) -> None:
    record = json.dumps(change(T0_US, item("a", n={"N": "7" * digits}))).encode()
    plain = b'{"Event":"INSERT","ingestion_timestamp":"2026-03-01T09:30:00","id":"a","n":' + b"7" * digits + b"}"
    for data in (record, plain):
        (found,) = outcomes(data, 1 << 24)
        assert isinstance(found, Rejected) and len(found.reason) < 300


def test_names_of_64_kb_and_bad_utf8_go_through_or_into_quarantine(tmp_path: Path) -> None:
    long = item("a", **{"n" * 65_535: {"S": "x"}, "é" * 30_000: {"N": "1"}})
    broken = text_of(change(T0_US, item("b", s="QQ"))).replace(b"QQ", b"\xc3\x28")
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        result = apply_objects(opened, "orders", [land(tmp_path / "x", change(T0_US, long), "\n", broken, "\n")])
        assert (result.new, result.quarantined) == (1, 1)
        assert dumped(opened) == sorted_items([long])


def test_hostile_records_in_one_object_cost_the_others_nothing(tmp_path: Path) -> None:
    good = [change(T0_US + number, item(f"key {number}", v=number)) for number in range(4)]
    weapons = [
        json.dumps(change(T0_US, item("deep", m=nested(300)))),
        json.dumps(change(T0_US, item("digits", n={"N": "9" * 100_000}))),
        "[" * 5_000,
        '{"Item":' * 3_000,
        json.dumps(change(T0_US, item("twice"))).replace('"id"', '"id": {"S": "x"}, "id"', 1),
    ]
    pieces = [piece for pair in zip(good, weapons, strict=False) for piece in (*pair, "\n")]
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        whole = land(tmp_path / "object", *pieces, pack=gzip.compress)
        cut = land(tmp_path / "cut", *pieces, pack=lambda text: gzip.compress(text)[:-20])
        result = apply_objects(opened, "orders", [whole, cut])
        assert result.new >= 4 and result.quarantined >= 4
        named = [json.loads(line)["id"]["S"] for line in dumped(opened)]
        assert [name for name in named if name.startswith("key")] == [f"key {number}" for number in range(4)]


@pytest.mark.parametrize("parse", (parse_summary, parse_files))
def test_manifest_nested_without_end_is_refused(parse: Any) -> None:
    with pytest.raises(ExportError):
        parse(b'{"a":' * 100_000)


@pytest.mark.parametrize(
    "key",
    (
        "AWSDynamoDB/../../etc/passwd",
        "/etc/passwd",
        "AWSDynamoDB/x/../../../secret",
        "AWSDynamoDB/data/..\\secret",
        "s3://another-bucket/AWSDynamoDB/data/x.json.gz",
        "//another-bucket/AWSDynamoDB/data/x",
        "AWSDynamoDB/data/x\0.json.gz",
        "AWSDynamoDB/",
    ),
)
def test_manifest_cannot_lead_out_of_its_folder_or_bucket(tmp_path: Path, key: str) -> None:
    secret = tmp_path / "etc" / "passwd"
    land(secret, "secret")
    export = full([item("a")])
    manifest = export.write(tmp_path / "exports")
    path = manifest.with_name("manifest-files.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "dataFileS3Key": key}))
    manifest.with_name("manifest-files.md5").unlink()
    with lake(tmp_path / "lake", "orders", ["id"]) as opened, pytest.raises(ExportError):
        load_export(opened, "orders", str(manifest))


# --- configuration


@pytest.mark.parametrize(
    "text",
    (
        "warehouse: !!python/object/apply:os.system ['touch {folder}/owned']",
        "warehouse: !include /etc/passwd",
        'warehouse: \'{{{{ __import__("os").system("touch {folder}/owned") }}}}\'',
        "warehouse: \"{{{{ env.HOME.__class__ }}}}{{{{ open('/etc/passwd').read() }}}}\"",
        "warehouse: x\ntables: [{{name: 'a; DROP TABLE b'}}]",
        "warehouse: x\ntables: [{{name: '../../etc'}}]",
        "warehouse: x\ntables: [{{name: a, columns: {{b: 'long); ATTACH \"x\"'}}}}]",
        "warehouse: x\nmemory: '1GB; PRAGMA x'",
    ),
)
def test_configuration_runs_no_code_reads_no_file_and_is_no_sql(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lake.yaml"
    path.write_text(text.format(folder=tmp_path))
    with pytest.raises(ConfigError) as raised:
        load_settings(path, {"HOME": "home"})
    assert "root:" not in str(raised.value)
    assert not (tmp_path / "owned").exists()


def test_file_named_as_a_schema_that_is_none_is_not_quoted(tmp_path: Path) -> None:
    marker = "root:x:0:0:MARKER:/root"
    for content in (f"{marker}\n: [", f"{marker}\n", f"- {marker}\n", f"type: {marker}\n"):
        (tmp_path / "passwd").write_text(content)
        validate = {"schema": str(tmp_path / "passwd")}
        with pytest.raises(ConfigError) as raised:
            parse_settings({"warehouse": "x", "tables": [{"name": "a", "validate": validate}]}, "test")
        assert "MARKER" not in str(raised.value), content
