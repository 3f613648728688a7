"""Cases of locations: where change objects land and how their keys continue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ddb_lake.config import load_settings
from ddb_lake.errors import ConfigError
from ddb_lake_tests.support.cases import Case
from ddb_lake_tests.support.landed_files import change, order, write_changes


def test_expression_in_the_uri_is_an_error_that_says_what_to_write(case: Callable[[str], Case]) -> None:
    found = case("uri-with-random-string")
    result = found.run("sync")
    assert result.exit_code == 2
    assert "Firehose's expressions (`!{...}`) are not allowed here" in result.stderr
    assert "'landing/'" in result.stderr
    settings = found.folder / "ddb_lake.yaml"
    settings.write_text(settings.read_text().replace("!{firehose:random-string}/", ""))
    found.ok("sync")
    assert len(found.items()) == 1


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://b/landing!{timestamp:yyyy/MM/dd/HH}/", "'s3://b/landing'"),
        ("s3://bkt/x/dt=!{timestamp:yyyy-MM-dd}/", "'s3://bkt/x/'"),
        ("s3://bkt/!{partitionKeyFromLambda:table}/", "'s3://bkt/'"),
        ("!{firehose:random-string}/x", "'./'"),
        ("s3a://bucket/landing/", "write s3://bucket/landing/"),
        ("S3://bucket/landing/", "write s3://bucket/landing/"),
        ("s3:/bucket/landing/", "write s3://bucket/landing/"),
        ("s3:bucket/landing/", "write s3://bucket/landing/"),
        ("gs://bucket/landing/", "s3://bucket/prefix"),
        ("arn:aws:s3:::bucket/landing/", "write s3://bucket/landing/"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/landing/", "write s3://bucket/landing/"),
        ("s3://", "s3:// needs a bucket's name"),
        ("s3:///landing", "s3:// needs a bucket's name"),
        ("s3://Legacy_Bucket/landing", None),
        ("s3://{env}/landing", "s3:// needs a bucket's name"),
        ("s3://bucket//landing/", None),
        ("s3://bucket/landing/*", "'s3://bucket/landing/'"),
        (" s3://bucket/landing/", "spaces around it"),
        ("", "is empty"),
        ("landing", None),
        ("landing/a:b", None),
        ("file:///landing", None),
        ("s3://bucket", None),
        ("s3://bucket/a*b!c/", None),
    ],
)
@pytest.mark.parametrize("setting", ["uri", "errors_uri", "landing"])
def test_location_is_checked_when_the_file_is_read(tmp_path: Path, setting: str, uri: str, said: str | None) -> None:
    file = tmp_path / "ddb_lake.yaml"
    file.write_text(f'warehouse: lake\ntables: [{{name: t, changes: {{{setting}: "{uri}"}}}}]\n')
    if said is None:
        assert load_settings(file).tables[0].changes is not None
        return
    with pytest.raises(ConfigError) as raised:
        load_settings(file)
    assert said in str(raised.value) and f"tables.0.changes.{setting}" in str(raised.value)


@pytest.mark.parametrize(
    "export", ["{bucket: 's3://b/x'}", "{bucket: b, prefix: 's3://b/x'}", "{bucket: b, prefix: '!{x:y}'}"]
)
def test_place_of_exports_is_a_bucket_and_a_prefix(tmp_path: Path, export: str) -> None:
    file = tmp_path / "ddb_lake.yaml"
    file.write_text(f"warehouse: lake\ntables: [{{name: t, export: {export}}}]\n")
    with pytest.raises(ConfigError, match=r"tables\.0\.export"):
        load_settings(file)


def test_keys_that_continue_the_prefix_without_a_slash_are_found_or_warned_of(
    case: Callable[[str], Case],
) -> None:
    found = case("uri-with-random-string")
    settings = found.folder / "ddb_lake.yaml"
    text = settings.read_text().replace("!{firehose:random-string}/", "")
    key = f"landing{datetime.now(UTC):%Y/%m/%d/%H}/x"
    record = change(1, int(datetime.now(UTC).timestamp() * 1e6), order("ann", 1), table="t")
    write_changes(found.folder / key, record)
    settings.write_text(text.replace('["id"]', '["customer", "order_id"]'))
    synced = found.run("sync")
    doctored = found.run("doctor")
    assert "continue" in synced.stderr and "write `uri: landing`" in synced.stderr
    assert "write `uri: landing`" in doctored.stdout
    settings.write_text(settings.read_text().replace("landing/", "landing"))
    found.run("sync")
    assert {"S": "ann"} in [item.get("customer") for item in found.items()]
    assert "without its slash" not in found.run("doctor").stdout
