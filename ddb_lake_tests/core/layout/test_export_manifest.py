import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.layout.export_manifest import (
    DataFile,
    ExportSummary,
    build_files,
    build_summary,
    locate,
    md5_text,
    parse_files,
    parse_summary,
    relative_key,
)
from ddb_lake.errors import ExportError
from ddb_lake_tests.support.samples import sample_files

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"
FULL: dict[str, Any] = {
    "version": "2020-06-30",
    "exportArn": f"{ARN}/export/01715685260608-c488b4e1",
    "startTime": "2024-05-14T11:14:20.608Z",
    "endTime": "2024-05-14T11:19:26.869Z",
    "tableArn": ARN,
    "tableId": "11991185-e7ab-4da5-8bab-03f0db0b7bfd",
    "exportTime": "2024-05-14T11:14:20.608Z",
    "s3Bucket": "exports",
    "s3Prefix": None,
    "s3SseAlgorithm": "AES256",
    "s3SseKmsKeyId": None,
    "manifestFilesS3Key": "AWSDynamoDB/01715685260608-c488b4e1/manifest-files.json",
    "billedSizeBytes": 19,
    "itemCount": 3,
    "outputFormat": "DYNAMODB_JSON",
}
INCREMENTAL: dict[str, Any] = {
    "version": "2023-08-01",
    **{k: v for k, v in FULL.items() if k not in ("version", "exportTime")},
    "exportFromTime": "2024-05-14T10:00:00.000Z",
    "exportToTime": "2024-05-14T11:00:00.000Z",
    "outputView": "NEW_AND_OLD_IMAGES",
    "exportType": "INCREMENTAL_EXPORT",
}

micros = st.integers(0, 4_000_000_000_000).map(lambda ms: ms * 1000)
texts = st.text(min_size=1, max_size=20)


def encoded(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


@st.composite
def summaries(draw: st.DrawFn) -> ExportSummary:
    full = draw(st.booleans())
    from_us, to_us = sorted(draw(st.lists(micros, min_size=2, max_size=2, unique=True)))
    return ExportSummary(
        version="2020-06-30" if full else "2023-08-01",
        export_arn=draw(texts),
        table_arn=draw(texts),
        table_id=draw(texts),
        export_type="FULL" if full else "INCREMENTAL",
        start_time_us=draw(micros),
        end_time_us=draw(st.none() | micros),
        export_time_us=to_us if full else None,
        from_us=None if full else from_us,
        to_us=None if full else to_us,
        bucket=draw(texts),
        prefix=draw(st.none() | texts),
        manifest_files_key=draw(texts),
        item_count=draw(st.integers(0, 10**12)),
        billed_size_bytes=draw(st.integers(0, 10**15)),
        output_view=None if full else "NEW_IMAGE",
        sse_algorithm=draw(st.none() | texts),
        sse_kms_key_id=draw(st.none() | texts),
    )


@pytest.mark.parametrize("sample", sample_files("pitr_full_export", "manifest-summary.json"), ids=lambda p: p.parts[-4])
def test_sample_export_is_parsed_and_built_back_byte_for_byte(sample: Path) -> None:
    folder = sample.parent
    summary_bytes = sample.read_bytes().rstrip(b"\n")  # the sample's publisher added one
    files_bytes = (folder / "manifest-files.json").read_bytes()
    (file,) = parse_files(files_bytes)
    assert build_summary(parse_summary(summary_bytes)) == summary_bytes
    assert build_files([file]) == files_bytes
    data = (folder.parents[1] / relative_key(file.key)).read_bytes()
    assert md5_text(data) == file.md5


def test_parse_summary_of_a_full_export_gives_its_fields() -> None:
    assert parse_summary(encoded(FULL)) == ExportSummary(
        version="2020-06-30",
        export_arn=FULL["exportArn"],
        table_arn=ARN,
        table_id=FULL["tableId"],
        export_type="FULL",
        start_time_us=1_715_685_260_608_000,
        end_time_us=1_715_685_566_869_000,
        export_time_us=1_715_685_260_608_000,
        bucket="exports",
        prefix=None,
        manifest_files_key=FULL["manifestFilesS3Key"],
        item_count=3,
        billed_size_bytes=19,
    )


def test_parse_summary_derives_the_names_from_the_arns() -> None:
    summary = parse_summary(encoded(FULL))
    assert (summary.export_id, summary.table_name, summary.as_of_us) == (
        "01715685260608-c488b4e1",
        "orders",
        1_715_685_260_608_000,
    )


def test_parse_summary_of_an_incremental_export_gives_its_window() -> None:
    summary = parse_summary(encoded(INCREMENTAL))
    assert summary.export_type == "INCREMENTAL"
    assert (summary.from_us, summary.to_us) == (1_715_680_800_000_000, 1_715_684_400_000_000)
    assert (summary.export_time_us, summary.output_view, summary.as_of_us) == (
        None,
        "NEW_AND_OLD_IMAGES",
        summary.to_us,
    )


@pytest.mark.parametrize(
    "changed",
    [{"version": "2023-08-01", "exportType": "FULL_EXPORT"}, {"exportType": None}, {"outputView": "NEW_IMAGE"}],
)
def test_parse_summary_of_a_full_export_that_says_so_is_full(changed: dict[str, Any]) -> None:
    assert parse_summary(encoded(FULL | changed)).export_type == "FULL"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-14T11:14:20Z", 1_715_685_260_000_000),
        ("2024-05-14T11:14:20.608Z", 1_715_685_260_608_000),
        ("2024-05-14T11:14:20.6Z", 1_715_685_260_600_000),
        ("2024-05-14T11:14:20.608123456Z", 1_715_685_260_608_123),
        ("2024-05-14T11:14:20+00:00", 1_715_685_260_000_000),
        (1715685260, 1_715_685_260_000_000),
        (1715685260.608123, 1_715_685_260_608_123),
        ("1715685260.608", 1_715_685_260_608_000),
    ],
)
def test_parse_summary_tolerates_times_with_and_without_a_fraction_and_epoch_seconds(
    text: object, expected: int
) -> None:
    assert parse_summary(encoded(FULL | {"exportTime": text})).export_time_us == expected


@pytest.mark.parametrize(
    "value", [None, True, "", "yesterday", "2024-13-14T11:14:20Z", "2024-05-14T11:14:20+02:00", [], -1]
)
def test_parse_summary_with_no_time_is_an_export_error(value: object) -> None:
    with pytest.raises(ExportError, match="exportTime"):
        parse_summary(encoded(FULL | {"exportTime": value}))


@pytest.mark.parametrize(
    "name",
    sorted(set(FULL) - {"endTime", "s3Prefix", "s3SseAlgorithm", "s3SseKmsKeyId", "billedSizeBytes"}),
)
def test_parse_summary_without_a_field_names_it(name: str) -> None:
    with pytest.raises(ExportError, match=name):
        parse_summary(encoded({k: v for k, v in FULL.items() if k != name}))


@pytest.mark.parametrize("name", ["exportFromTime", "exportToTime", "outputView"])
def test_parse_summary_of_an_incremental_export_without_a_field_names_it(name: str) -> None:
    with pytest.raises(ExportError, match=name):
        parse_summary(encoded({k: v for k, v in INCREMENTAL.items() if k != name}))


def test_parse_summary_of_an_unknown_format_names_the_options_to_choose() -> None:
    with pytest.raises(ExportError, match="ExportFormat DYNAMODB_JSON or ION"):
        parse_summary(encoded(FULL | {"outputFormat": "CSV"}))


@pytest.mark.parametrize(
    "changed", [{"version": "2031-01-01"}, {"exportType": "PARTIAL"}, {"itemCount": -1}, {"itemCount": True}]
)
def test_parse_summary_of_what_is_not_known_is_an_export_error(changed: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=next(iter(changed))):
        parse_summary(encoded(FULL | changed))


def test_parse_summary_with_an_inverted_window_is_an_export_error() -> None:
    with pytest.raises(ExportError, match="exportFromTime"):
        parse_summary(encoded(INCREMENTAL | {"exportToTime": INCREMENTAL["exportFromTime"]}))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'"x"'])
def test_parse_summary_of_other_bytes_is_an_export_error(data: bytes) -> None:
    with pytest.raises(ExportError, match=r"manifest-summary\.json"):
        parse_summary(data)


@given(summaries())
def test_parse_summary_gives_back_what_build_summary_was_given(summary: ExportSummary) -> None:
    assert parse_summary(build_summary(summary)) == summary


def test_build_summary_is_laid_out_as_aws_does() -> None:
    incremental = parse_summary(encoded(INCREMENTAL))
    assert list(json.loads(build_summary(incremental))) == [
        "version", "exportArn", "startTime", "endTime", "tableArn", "tableId", "exportFromTime", "exportToTime",
        "s3Bucket", "s3Prefix", "s3SseAlgorithm", "s3SseKmsKeyId", "manifestFilesS3Key", "billedSizeBytes",
        "itemCount", "outputFormat", "outputView", "exportType",
    ]  # fmt: skip
    assert build_summary(parse_summary(encoded(FULL))) == json.dumps(FULL, separators=(",", ":")).encode()


def test_build_summary_with_times_of_another_type_is_an_export_error() -> None:
    summary = parse_summary(encoded(FULL))
    mixed = replace(summary, export_type="INCREMENTAL")
    with pytest.raises(ExportError, match="INCREMENTAL"):
        build_summary(mixed)


@given(st.lists(st.builds(DataFile, texts, st.integers(0, 10**12), texts, st.text()), unique_by=lambda f: f.key))
def test_parse_files_gives_back_what_build_files_was_given(files: list[DataFile]) -> None:
    assert parse_files(build_files(files)) == files


def test_parse_files_skips_blank_lines_and_a_missing_etag() -> None:
    line = b'{"itemCount":3,"md5Checksum":"rzAeIrtALbOlNdK5Hh8tgA==","dataFileS3Key":"AWSDynamoDB/x/data/y"}'
    assert parse_files(b"\n" + line + b"\r\n\n") == [DataFile("AWSDynamoDB/x/data/y", 3, "rzAeIrtALbOlNdK5Hh8tgA==")]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b'{"itemCount":1,"md5Checksum":"x"}', "line 1.*dataFileS3Key"),
        (b'{"itemCount":1,"dataFileS3Key":"k"}', "line 1.*md5Checksum"),
        (b'\n{"md5Checksum":"x","dataFileS3Key":"k"}', "line 2.*itemCount"),
        (b'{"itemCount":1', "line 1"),
        (2 * b'{"itemCount":1,"md5Checksum":"x","dataFileS3Key":"k"}\n', "line 2.*twice"),
    ],
)
def test_parse_files_of_a_damaged_line_names_the_line(data: bytes, fault: str) -> None:
    with pytest.raises(ExportError, match=fault):
        parse_files(data)


def test_md5_text_is_24_characters_of_base64() -> None:
    assert md5_text(b"") == "1B2M2Y8AsgTpgAmY7PhCfg=="


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("AWSDynamoDB/01-a/data/x.json.gz", "AWSDynamoDB/01-a/data/x.json.gz"),
        ("deep/prefix/AWSDynamoDB/01-a/data/x.json.gz", "AWSDynamoDB/01-a/data/x.json.gz"),
        ("AWSDynamoDB/AWSDynamoDB/data/x.json.gz", "AWSDynamoDB/data/x.json.gz"),
        ("notAWSDynamoDB/AWSDynamoDB/data/x", "AWSDynamoDB/data/x"),
        ("a//b/AWSDynamoDB/data/x", "AWSDynamoDB/data/x"),
    ],
)
def test_relative_key_begins_at_the_last_awsdynamodb_folder(key: str, expected: str) -> None:
    assert relative_key(key) == expected


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x.json.gz",
        "AWSDynamoDB/",
        "notAWSDynamoDB/data/x",
        "/AWSDynamoDB/data/x",
        "/etc/passwd",
        "AWSDynamoDB//etc/passwd",
        "AWSDynamoDB/../../etc/passwd",
        "../AWSDynamoDB/data/x",
        "AWSDynamoDB/data/..",
        "AWSDynamoDB/./data/x",
        "AWSDynamoDB/data/..\\..\\x",
        "AWSDynamoDB/data/x\0",
    ],
)
def test_relative_key_that_escapes_is_an_export_error(key: str) -> None:
    with pytest.raises(ExportError):
        relative_key(key)


@given(st.text(alphabet="./\\abAWSDynamoDB\0", max_size=30).map(lambda t: t.replace("a", "AWSDynamoDB")))
def test_relative_key_never_leaves_the_folder(key: str) -> None:
    try:
        relative = relative_key(key)
    except ExportError:
        return
    root = Path("/export/root")
    assert (root / relative).resolve().is_relative_to(root / "AWSDynamoDB")


@pytest.mark.parametrize(
    ("manifest", "key", "expected"),
    [
        ("AWSDynamoDB/01-a/manifest-summary.json", "old/AWSDynamoDB/01-a/data/x", "AWSDynamoDB/01-a/data/x"),
        ("new/AWSDynamoDB/01-a/manifest-summary.json", "AWSDynamoDB/data/x", "new/AWSDynamoDB/data/x"),
        ("/srv/AWSDynamoDB/01-a/manifest-summary.json", "old/AWSDynamoDB/01-a/data/x", "/srv/AWSDynamoDB/01-a/data/x"),
        ("/srv/copy/manifest-summary.json", "old/AWSDynamoDB/01-a/data/x", "/srv/copy/data/x"),
        (
            "/srv/copy/manifest-summary.json",
            "old/AWSDynamoDB/01-a/manifest-files.json",
            "/srv/copy/manifest-files.json",
        ),
        ("/srv/copy/manifest-summary.json", "old/AWSDynamoDB/data/x", "/srv/copy/data/x"),
        ("manifest-summary.json", "old/AWSDynamoDB/01-a/data/x", "data/x"),
    ],
)
def test_locate_finds_a_copy_beside_its_manifest(manifest: str, key: str, expected: str) -> None:
    assert locate(manifest, key) == expected
