from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.objects import DamagedObjectError, Piece, decompress, read_object, split_objects
from ddb_lake.core.records import ChangeRecord, Rejected
from ddb_lake.errors import UndecodableError
from ddb_lake_tests import forms
from ddb_lake_tests import strategies as ddb

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the AWS samples are not here")


def make(number: int, **attributes: Any) -> dict[str, Any]:
    """A small change record, told from others by its number."""
    key = {"id": {"N": str(number)}}
    item = {**key, "text": {"S": '}{ "a" {'}, "map": {"M": {"eventID": {"S": "x"}, "Keys": {"M": {}}}}, **attributes}
    return forms.kds(forms.Change("MODIFY", key, item, item, 1_720_742_302_233_000, f"event-{number}"))


RECORDS = [forms.compact(make(number)) for number in range(4)]


def numbers(data: bytes, **options: Any) -> list[int]:
    """The numbers of the records in an object, and -1 for each Rejected."""
    outcomes = [located.outcome for located in read_object(data, **options)]
    return [int(o.keys["id"]["N"]) if isinstance(o, ChangeRecord) else -1 for o in outcomes]


def rejected(data: bytes, **options: Any) -> list[Rejected]:
    return [o.outcome for o in read_object(data, **options) if isinstance(o.outcome, Rejected)]


# compression


def zipped(*contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(contents):
            archive.writestr(f"part-{index}", content)
    return buffer.getvalue()


def hadoop_snappy(content: bytes, block_bytes: int = 700, chunk_bytes: int = 300) -> bytes:
    out = []
    for start in range(0, len(content), block_bytes):
        block = content[start : start + block_bytes]
        out.append(len(block).to_bytes(4, "big"))
        for at in range(0, len(block), chunk_bytes):
            chunk = bytes(cramjam.snappy.compress_raw(block[at : at + chunk_bytes]))
            out.append(len(chunk).to_bytes(4, "big") + chunk)
    return b"".join(out)


def gzip_members(content: bytes) -> bytes:
    middle = len(content) // 2
    return gzip.compress(content[:middle]) + gzip.compress(b"") + gzip.compress(content[middle:])


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda content: content,
    "gzip": gzip.compress,
    "gzip, several members": gzip_members,
    "gzip, padded": lambda content: gzip.compress(content) + bytes(512),
    "zip": zipped,
    "snappy, framed": lambda content: bytes(cramjam.snappy.compress(content)),
    "snappy, raw": lambda content: bytes(cramjam.snappy.compress_raw(content)),
    "snappy, hadoop": hadoop_snappy,
}


@pytest.mark.parametrize("name", COMPRESSIONS)
@given(st.integers(1, 400), st.sampled_from([b"", b"\n", b" ", b"\xef\xbb\xbf", b"\r\n\t"]))
@settings(max_examples=40)
def test_decompress_gives_back_json_of_any_length(name: str, length: int, before: bytes) -> None:
    content = before + forms.compact({"text": "x" * length}) * 3
    assert decompress(COMPRESSIONS[name](content)) == content


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("delimiter", [b"", b"\n", b"\r\n", b" ", b"\n\n\t ", b"\xef\xbb\xbf", b",\n"])
def test_any_compression_and_any_delimiter_gives_every_record(name: str, delimiter: bytes) -> None:
    assert numbers(COMPRESSIONS[name](delimiter.join(RECORDS) + delimiter)) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_empty_content_yields_nothing(name: str) -> None:
    compressed = COMPRESSIONS[name](b"")
    if name != "snappy, raw":  # a single zero byte, which is no snappy of JSON
        assert list(read_object(compressed)) == []


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    outcomes = list(read_object(data))
    assert all(isinstance(o.outcome, Rejected) for o in outcomes)


@pytest.mark.parametrize("name", COMPRESSIONS)
@given(st.data())
@settings(max_examples=30)
def test_any_damage_to_a_compressed_object_is_read_without_an_error(name: str, data: st.DataObject) -> None:
    damaged = bytearray(COMPRESSIONS[name](b"\n".join(RECORDS)))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    list(read_object(bytes(damaged[: data.draw(st.integers(0, len(damaged)))])))


def incompressible(count: int) -> list[bytes]:
    """Records whose compressed size is a good part of their size, so that damage hits some and spares some."""
    seed = 1
    records = []
    for number in range(count):
        text = []
        for _ in range(300):
            seed = seed * 6364136223846793005 % (1 << 64) + 1442695040888963407
            text.append(chr(33 + (seed >> 33) % 90))
        records.append(forms.compact(make(number, noise={"S": "".join(text)})))
    return records


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_gzip_yields_its_complete_records_and_one_rejected_for_the_damage(share: float) -> None:
    records = incompressible(400)
    whole = gzip.compress(b"\n".join(records))
    cut = whole[: int(len(whole) * share)]
    found = numbers(cut)
    complete = [number for number in found if number >= 0]
    assert complete == list(range(len(complete)))
    assert abs(len(complete) - 400 * share) < 20
    assert found.count(-1) in (1, 2)  # the damage, and the record that broke off
    assert "truncated" in rejected(cut)[-1].reason
    assert rejected(cut)[-1].raw == cut


def test_gzip_truncated_between_two_records_is_still_rejected() -> None:
    with io.BytesIO() as buffer, gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        file.write(RECORDS[0] + b"\n")
        file.flush()
        cut = buffer.getvalue()
    assert numbers(cut) == [0, -1]


def test_gzip_with_a_wrong_checksum_is_not_silently_accepted() -> None:
    whole = bytearray(gzip.compress(b"\n".join(RECORDS)))
    whole[-6] ^= 1
    assert numbers(bytes(whole)) == [0, 1, 2, 3, -1]
    with pytest.raises(UndecodableError, match="checksum"):
        decompress(bytes(whole))


def test_damaged_gzip_member_does_not_cost_the_next_one() -> None:
    first = bytearray(gzip.compress(RECORDS[0] + RECORDS[1]))
    first[-6] ^= 1
    assert numbers(bytes(first) + gzip.compress(RECORDS[2])) == [0, 1, 2, -1]
    assert numbers(bytes(first[:20]) + gzip.compress(RECORDS[2]))[-2:] == [2, -1]
    assert numbers(gzip.compress(RECORDS[0]) + b"rubbish" + gzip.compress(RECORDS[2])) == [0, 2, -1]


@pytest.mark.parametrize("name", [name for name in COMPRESSIONS if name != "none"])
def test_bomb_stops_at_the_limit_and_is_rejected(name: str) -> None:
    content = b"\n".join(RECORDS) + b"\n" + forms.compact({"text": "x" * 100_000})
    compressed = COMPRESSIONS[name](content)
    assert decompress(compressed, len(content)) == content
    with pytest.raises(DamagedObjectError, match="limit") as raised:
        decompress(compressed, 50_000)
    assert len(raised.value.salvaged) <= 50_000
    found = numbers(compressed, limit_bytes=50_000)
    assert found[-1] == -1
    if name != "snappy, raw":  # all or nothing
        assert found[:4] == [0, 1, 2, 3]


def test_zip_yields_all_its_files_and_one_rejected_for_a_damaged_one() -> None:
    whole = bytearray(zipped(*RECORDS))
    assert numbers(bytes(whole)) == [0, 1, 2, 3]
    whole[60] ^= 0xFF
    assert numbers(bytes(whole))[-4:] == [1, 2, 3, -1]


def test_truncated_zip_yields_what_can_be_read_and_one_rejected() -> None:
    whole = zipped(*RECORDS)
    assert numbers(whole[: len(whole) - 30]) == [0, 1, 2, 3, -1]
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("a", RECORDS[0])
        archive.writestr("b", RECORDS[1])
    assert numbers(stored.getvalue()[:-30]) == [0, 1, -1]


def test_damaged_framed_snappy_yields_the_chunks_before_and_after() -> None:
    records = incompressible(600)
    whole = bytearray(cramjam.snappy.compress(b"\n".join(records)))
    assert len(whole) > 3 * 65536
    whole[65536 * 3 // 2] ^= 1
    found = numbers(bytes(whole))
    assert found[-1] == -1
    assert found[0] == 0
    assert 599 in found
    assert len(found) > 200
    assert numbers(bytes(whole[:-5]))[-1] == -1


def test_truncated_hadoop_snappy_yields_the_blocks_before_and_one_rejected() -> None:
    whole = hadoop_snappy(b"\n".join(incompressible(20)))
    assert numbers(whole)[-1] == 19
    for cut in (whole[:-5], whole + b"\x00\x00", whole + b"\x00\x00\x00\x09"):
        assert numbers(cut)[0] == 0
        assert "Hadoop Snappy" in rejected(cut)[-1].reason


@pytest.mark.parametrize(
    "data", [b"x(" + RECORDS[0], b"a, " + RECORDS[0], b"\x00\x00\x00\x05" + RECORDS[0], b"ORC" + RECORDS[0]]
)
def test_garbage_before_a_record_is_not_mistaken_for_compression(data: bytes) -> None:
    assert numbers(data) == [-1, 0]


@pytest.mark.parametrize(
    "data", [b"PAR1....PAR1", b"ORC....ORC.", b"\xe0\x01\x00\xea...", b"BZh91AY&SY..", b"\x28\xb5\x2f\xfd.."]
)
def test_foreign_format_is_one_rejected_that_names_it(data: bytes) -> None:
    (only,) = rejected(data)
    assert only.raw == data
    assert "JSON" in only.reason or "Firehose does not write" in only.reason


# splitting


def pieces(data: bytes) -> list[Piece]:
    """All pieces, checked: in order, apart, and with the bytes that stand at their offset."""
    found = list(split_objects(data))
    position = 0
    for piece in found:
        assert piece.offset >= position
        assert data[piece.offset : piece.offset + len(piece.raw)] == piece.raw
        assert (piece.value is None) == bool(piece.problem)
        position = piece.offset + len(piece.raw)
    return found


def values(data: bytes) -> list[Any]:
    return [piece.value for piece in pieces(data)]


objects = st.dictionaries(
    st.text(max_size=3) | ddb.texts(), ddb.values() | ddb.texts() | st.integers(-5, 5), max_size=3
)
spaces = st.sampled_from([b"", b"\n", b" ", b"\t", b"\r\n", b"\n\n", b"  \n ", b"\xef\xbb\xbf", b"\n\xef\xbb\xbf"])
dumps = st.sampled_from([
    forms.compact,
    lambda obj: json.dumps(obj).encode(),
    lambda obj: json.dumps(obj, indent=1).encode(),
    lambda obj: json.dumps(obj, ensure_ascii=False, separators=(" , ", " : ")).encode(),
])  # fmt: skip


@given(st.lists(st.tuples(spaces, dumps, objects), max_size=5), spaces)
def test_split_any_objects_any_way_gives_them_back(parts: list[Any], end: bytes) -> None:
    data = b"".join(space + dump(obj) for space, dump, obj in parts) + end
    assert values(data) == [obj for _, _, obj in parts]


@given(st.lists(st.tuples(spaces, dumps, forms.changes()), max_size=3), spaces)
@settings(max_examples=50)
def test_split_whole_array_of_records_is_unwrapped(parts: list[Any], end: bytes) -> None:
    records = [forms.kds(change) for _, _, change in parts]
    for text in (forms.compact(records), json.dumps(records, indent=2).encode()):
        assert values(end + text + end) == records


def test_split_line_of_records_with_boundaries_inside_their_texts() -> None:
    nasty = [{"a": "}{"}, {"}{": ":"}, {"a": '}{"b":1}'}, {"}{": {"}{": ["}{", ":"]}}, {"": ""}, {}, {"x": {}}]
    for dump in (forms.compact, lambda obj: json.dumps(obj).encode()):
        assert values(b"".join(map(dump, nasty))) == nasty
        assert values(b" ".join(map(dump, nasty * 3))) == nasty * 3


GARBAGE = [
    b"garbage", b"\x00\xff\xfe", b"{", b"}", b'"', b'{"', b'{"a', b'{"a":', b'{"a":{"b":"c', b'{"a":[', b'{"a":[{"b":1},',
    b"\\", b'{"a":"\\', b"}}}}", b"]]", b'{"Keys":{"id":{"S":"x"}},"NewImage"', b"123", b'"text"', b"null", b"[1,", b"{}}",
    b"{'a':1}", b'"NewImage":{"id":{"N":"7"}},', b"$ion_1_0 {Item:{Id:103.}}", b'{"a":"\x01"}', b'{"a":"\\ud800"}',
    b'{"a":NaN}', b"\xef\xbb", b'{"a":1,"a":2}', b"-", b"tru", b"{" * 50, b'{"a":' * 997, b'{"a":' * 2000, b"[" * 2000,
]  # fmt: skip

garbage = st.one_of(
    st.sampled_from(GARBAGE),
    st.binary(max_size=12),
    st.integers(1, len(RECORDS[0]) - 1).map(lambda size: RECORDS[0][:size]),
    st.integers(1, len(RECORDS[0]) - 1).map(lambda size: RECORDS[0][size:]),
)


@given(st.lists(st.one_of(st.integers(1, 3), garbage), max_size=7))
@settings(max_examples=400)
def test_garbage_on_lines_of_its_own_never_costs_a_record(parts: list[Any]) -> None:
    lines = [RECORDS[part] if isinstance(part, int) else part for part in parts]
    data = b"\n".join(lines)
    assert [n for n in numbers(data) if n > 0] == [part for part in parts if isinstance(part, int)]
    _nothing_is_lost(data)


def _nothing_is_lost(data: bytes) -> None:
    """Every byte is in a piece, or is white space, a byte order mark, or a separator."""
    position, between = 0, b""
    for piece in pieces(data):
        between += data[position : piece.offset]
        position = piece.offset + len(piece.raw)
    between += data[position:]
    assert not between.replace(b"\xef\xbb\xbf", b"").strip(b" \t\r\n,[]")


@given(st.integers(0, len(RECORDS[0]) - 1), st.sampled_from([b"", b"\n", b" "]), st.sampled_from([b"", b"\n"]))
@settings(max_examples=300)
def test_truncated_record_never_costs_the_next_and_is_never_a_record_itself(
    size: int, delimiter: bytes, after: bytes
) -> None:
    data = RECORDS[1] + delimiter + RECORDS[0][:size] + delimiter + RECORDS[2] + after + RECORDS[3]
    found = numbers(data)
    assert [n for n in found if n >= 0] == [1, 2, 3]
    assert found.count(-1) == (1 if size else 0)
    _nothing_is_lost(data)


@given(st.integers(1, len(RECORDS[0]) - 1), st.sampled_from([b"", b"\n"]))
@settings(max_examples=300)
def test_tail_of_a_record_never_costs_the_next_and_is_never_a_record_itself(size: int, delimiter: bytes) -> None:
    data = RECORDS[0][size:] + delimiter + RECORDS[2] + RECORDS[3]
    assert [n for n in numbers(data) if n >= 0] == [2, 3]
    assert [n for n in numbers(data, asserted_us=1) if n >= 0] == [2, 3]
    _nothing_is_lost(data)


@given(st.integers(1, 2000), st.sampled_from([None, 2]))
@settings(max_examples=100)
def test_truncated_event_yields_its_complete_records(size: int, indent: int | None) -> None:
    text = json.dumps({"Records": [make(0), make(1), make(2)]}, indent=indent).encode()
    found = [n for n in numbers(text[:size]) if n >= 0]
    assert found == list(range(len(found)))
    assert len(found) in (text[:size].count(b"aws:dynamodb"), text[:size].count(b"aws:dynamodb") - 1)


def test_pretty_printed_records_are_read_with_garbage_around_them() -> None:
    pretty = [json.dumps(make(number), indent=2).encode() for number in range(3)]
    assert numbers(b"\n".join(pretty)) == [0, 1, 2]
    assert numbers(b"".join(pretty)) == [0, 1, 2]
    found = numbers(pretty[0] + b"\n" + pretty[1][:200] + b"\n" + pretty[2])
    assert [n for n in found if n >= 0] == [0, 2]


def test_garbage_is_one_piece_for_each_line_of_it() -> None:
    found = pieces(b"one\n\ntwo " + RECORDS[0] + b"three\r\n  four\n")
    assert [piece.raw for piece in found if piece.value is None] == [b"one", b"two", b"three", b"four"]


def test_separators_of_an_array_are_no_garbage() -> None:
    lines = b"[\n" + b",\n".join(RECORDS) + b"\n]\n"
    assert numbers(lines) == [0, 1, 2, 3]
    assert numbers(b"[" + b",".join(RECORDS)) == [0, 1, 2, 3]
    assert numbers(b",\n".join(RECORDS)) == [0, 1, 2, 3]
    assert numbers(b"[1,2]\n") == [-1]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"x", "no JSON object"),
        (b"5", "a JSON value that is no object"),
        (b"null", "a JSON value that is no object"),
        (b'{"a":', "a damaged or truncated JSON object"),
        (b"$ion_1_0 {Item:{}}", "an export in Amazon Ion; export again with ExportFormat=DYNAMODB_JSON"),
        (b'{"a":{"b":1,"b":1}}', "two members of one JSON object have the same name"),
        (b'{"a" : "x","\\u0061":"x\\":"}', "two members of one JSON object have the same name"),
        (b'{"b":"\\u0022:","a":1,"a":2}', "two members of one JSON object have the same name"),
    ],
)
def test_garbage_says_what_is_wrong(data: bytes, problem: str) -> None:
    assert [piece.problem for piece in pieces(data)] == [problem]


def test_flattened_numbers_keep_every_digit() -> None:
    text = b'{"id":12345678901234567890123456789012345678,"x":1.10,'
    text += b'"Event":"INSERT","ingestion_timestamp":"2022-03-01 10:11:12"}'
    for data in (text, text + text, b"junk" + text, forms.compact(forms.kinesis_event(text))):
        record = list(read_object(data, key_names=("id",)))[-1].outcome
        assert isinstance(record, ChangeRecord)
        assert record.new_image == {"id": {"N": "12345678901234567890123456789012345678"}, "x": {"N": "1.10"}}


def test_deeply_nested_flattened_record_is_rejected() -> None:
    text = b'{"Event":"INSERT","ingestion_timestamp":"2022-03-01 10:11:12","id":' + b"[" * 1020 + b"]" * 1020 + b"}"
    assert len(rejected(text)) == 1


def test_located_offset_is_where_the_object_begins_in_the_decompressed_data() -> None:
    data = b"\xef\xbb\xbf\n" + RECORDS[0] + b"junk\n  " + RECORDS[1] + RECORDS[2]
    for located in read_object(gzip.compress(data)):
        raw = RECORDS[int(located.outcome.keys["id"]["N"])] if isinstance(located.outcome, ChangeRecord) else b"junk"
        assert data.startswith(raw, located.offset)


def test_rejected_bytes_are_the_landed_bytes() -> None:
    line = b'{"Hello" : "World","n":1.0}'
    (only,) = rejected(b" " + line + b"\r\n")
    assert only.raw == line


HOSTILE = {
    "braces": b"{" * 1_000_000,
    "braces and quotes": b'{"' * 500_000,
    "deep objects": b'{"a":' * 200_000,
    "deep objects of lines": b'{"a":\n' * 170_000,
    "deep arrays": b"[" * 1_000_000,
    "arrays of objects": b'[{"a":' * 160_000,
    "boundaries": b'}{"":' * 200_000,
    "boundaries in texts": b'{"a":[' + b'"}{",' * 200_000,
    "boundaries that look right": b'{"a":[{"}{":":"},' * 60_000,
    "joints without end": b'{"a":{}{"b":' * 80_000,
    "tiny objects with commas": b'{"a":1},' * 120_000,
    "tiny objects": b'{"a":1}' * 140_000,
    "first keys": b'{"eventID":' * 90_000,
    "envelopes in envelopes": b'{"Keys":{},"Metadata":' * 45_000,
    "an endless text": b'{"a":"' + b"x" * 1_000_000,
    "escapes": b'{"a":"' + b'\\"{' * 300_000,
    "spaces": b'{ "a" : "' + b" " * 1_000_000,
    "line breaks": b"{\n" * 300_000,
    "text lines": b'"a": "b",\n' * 60_000,
    "quotes": b'"' * 1_000_000,
    "nul": bytes(1_000_000),
    "gzip starts": gzip.compress(b"x")[:10] * 100_000,
    "zip starts": (zipped(b"x")[:40]) * 25_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_take_linear_time_and_do_not_hide_the_record_behind_them(name: str) -> None:
    data = HOSTILE[name] + b"\n" + RECORDS[1]
    started = time.process_time()
    found = numbers(data)
    assert time.process_time() - started < 10
    if "starts" not in name:
        assert [n for n in found if n >= 0] == [1]


@needs_samples
def test_samples_every_record_is_read_or_rejected() -> None:
    kds = (SAMPLES / "kds_records/lorrystream-microsecond.jsonl").read_bytes()
    records = [located.outcome for located in read_object(kds)]
    assert [r.event_name for r in records if isinstance(r, ChangeRecord)] == ["INSERT", "MODIFY", "REMOVE"]
    errors = (SAMPLES / "firehose_error_records/mbta-ocs_saver.jsonl").read_bytes()
    assert [r.reason.split(":")[0] for r in rejected(errors)] == [
        f"Firehose error {code}"
        for code in ("Lambda.FunctionTimedOut", "Lambda.FunctionError", *["Lambda.FunctionTimedOut"] * 3)
    ]
    (export,) = (SAMPLES / "pitr_full_export").rglob("*.json.gz")
    assert ["`ddb-lake load`" in r.reason for r in rejected(export.read_bytes())] == [True] * 3


def test_orjson_is_as_strict_as_the_scanner_expects() -> None:
    for text in (b'{"a":01}', b'{"a":1,}', b"{'a':1}", b'{"a":"\x01"}', b'{"a":+1}', b'{"a":.5}'):
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(text)
