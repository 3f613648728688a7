"""What listings and counts cannot show is unknown: a wrong prefix, an absent folder, a count that AWS does not give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.source import describe_source
from ddb_lake.checks import backlog
from ddb_lake.checks.backlog import rows_match_source, up_to_date
from ddb_lake.checks.check import Subject
from ddb_lake.checks.registry import CHECKS
from ddb_lake.config import TableSettings
from ddb_lake.errors import UnreachableError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, land
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.sandbox_lake import BUCKET, orders_lake, orders_source
from ddb_lake_tests.support.verified_source import LANDING, Stand

MAX_LAG_MIN = 30


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A source and a lake that has its changes, which landed in S3."""
    changes = {"uri": f"s3://{BUCKET}/{LANDING}", "delivery_stream": "hose"}
    with (
        pytest.MonkeyPatch.context() as patch,
        orders_source(patch) as sandbox,
        orders_lake(sandbox, tmp_path_factory.mktemp("lake"), changes=changes) as opened,
    ):
        stand = Stand(sandbox, opened)
        stand.put("o1", total="1")
        stand.wait(5)
        load_export(opened, "orders", stand.export())
        stand.put("o1", total="2")
        stand.deliver()
        yield stand


def with_uri(table: TableSettings, uri: str) -> TableSettings:
    assert table.changes is not None
    return table.model_copy(update={"changes": table.changes.model_copy(update={"uri": uri})})


@pytest.mark.parametrize(
    ("uri", "state"),
    [
        (f"s3://{BUCKET}/{LANDING}", "pass"),
        (f"s3://{BUCKET}/{LANDING.rstrip('/')}", "pass"),
        (f"s3://{BUCKET}/chagnes/", "unknown"),
        (f"s3://{BUCKET}/chan/", "unknown"),
        (f"s3://{BUCKET}/chan", "unknown"),
    ],
)
def test_prefix_at_which_nothing_ever_landed_is_unknown(stand: Stand, uri: str, state: str) -> None:
    table = with_uri(stand.lake.table("orders"), uri)
    for just_written in (False, True):
        found = up_to_date(Subject(stand.lake, table, just_written))
        assert found.state == state, found.text
    assert (uri in found.text) and (state == "pass" or "from elsewhere" in found.text)


def test_folder_that_does_not_exist_is_unknown(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    with lake(tmp_path / "lake", "t", ["id"], changes={"uri": str(landing)}) as opened:
        apply_objects(opened, "t", [land(landing / "2026/03/01/10/a", change(T0_US + HOUR_US, {"id": {"S": "x"}}))])
        check = next(one for one in CHECKS if one.name == "up_to_date")
        subject = Subject(opened, opened.table("t"))
        assert check.outcome(subject).state == "pass"
        landing.rename(tmp_path / "moved")
        with pytest.raises(UnreachableError, match="does not exist"):
            up_to_date(subject)
        assert check.outcome(subject).state == "unknown"


def test_count_that_describe_table_does_not_give_is_unknown(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(stand.lake, stand.lake.table("orders"))
    assert rows_match_source(subject).state == "pass"

    def uncounted(table: TableSettings) -> Any:
        return replace(describe_source(table), items=None)

    monkeypatch.setattr(backlog, "describe_source", uncounted)
    found = rows_match_source(subject)
    assert (found.state, found.figures) == ("unknown", {"rows": 1})


def test_lake_without_the_newest_change_is_not_as_fresh_as_its_source(stand: Stand) -> None:
    check = next(one for one in CHECKS if one.name == "fresh_as_source")
    subject = Subject(stand.lake, stand.lake.table("orders"))
    stand.wait(MAX_LAG_MIN + 5)
    assert check.outcome(subject).state == "pass"
    stand.put("o2", total="1")
    stand.wait(MAX_LAG_MIN - 5)
    assert check.outcome(subject).state == "pass"  # it may still be under way
    stand.wait(10)
    found = check.outcome(subject)
    assert (found.state, found.color(check.severity)) == ("fail", "yellow")
    stand.deliver()
    assert check.outcome(subject).state == "pass"
