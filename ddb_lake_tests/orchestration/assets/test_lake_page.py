"""The page for whoever is on call, the advice of red checks, and what samples do not show."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.config import TableSettings, parse_settings
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.errors import ConfigError
from ddb_lake.orchestration.assets.lake_page import SHOWN, TableSummary, overview_metadata, overview_page
from ddb_lake.orchestration.checks import TODO
from ddb_lake.orchestration.metadata import MASKED, masked_columns
from ddb_lake.pipeline.read.status import TableStatus
from ddb_lake_tests.support.dagster_folders import FolderLake, check, inserted

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
US = int(NOW.timestamp() * 1e6)
Make = Callable[..., FolderLake]


def fresh(name: str, **status: Any) -> TableSummary:
    return TableSummary(name, 1800, TableStatus(name, rows=3, watermark_us=US, lag_s=12.0, **status), US)


def steps(metadata: Mapping[str, Any]) -> str:
    """What an evaluation says is to be done."""
    return "\n".join(str(record.data["do"]) for record in metadata[TODO].records)


def body(page: str) -> list[list[str]]:
    lines = page.split("\n\n")[1].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_page_of_fresh_tables_says_so() -> None:
    page = overview_page([fresh("b"), fresh("a")], NOW)

    assert page.startswith("**All 2 tables are fresh.** Seen 2026-03-04 12:30Z.")
    assert [row[:2] for row in body(page)] == [["a", "✓ fresh"], ["b", "✓ fresh"]]
    assert body(page)[0][2:] == ["12 s", "12:30Z", "12:30Z", "0", "0", "never"]
    later = overview_page([fresh("a")], NOW + timedelta(days=1))
    assert body(later)[0][3] == "2026-03-04 12:30Z"


def test_page_has_the_worst_first_and_says_what_is_wrong() -> None:
    late = replace(fresh("late"), waiting_s=7200.0)
    differs = replace(fresh("differs"), verified={"outcome": "different", "read_to_us": US})
    gap = fresh("gap", gaps=(Gap("stream_off", US, US + 1, "off", US),))
    odd, away = fresh("odd", quarantined=4), TableSummary("away", 1800, fault="AWS cannot be called")

    page = overview_page([fresh("good"), odd, late, gap, away, differs], NOW)

    assert page.startswith("**5 of 6 tables need a look.**")
    assert [(row[0], row[1].strip("*")) for row in body(page)] == [
        ("away", "cannot be looked at: AWS cannot be called"),
        ("differs", "differs from its source"),
        ("gap", "1 gaps: changes may be missing"),
        ("late", "what landed waits for 2 h"),
        ("odd", "something is quarantined"),
        ("good", "✓ fresh"),
    ]
    assert body(page)[1][-1] == "different 12:30Z"


def test_waiting_for_less_than_the_table_allows_is_no_problem() -> None:
    assert replace(fresh("a"), waiting_s=1800.0).problems == ()
    assert replace(fresh("a"), waiting_s=1801.0).problems != ()


@given(st.lists(st.booleans(), max_size=SHOWN + 20))
def test_page_is_bounded_and_its_figures_count_all_tables(faulty: list[bool]) -> None:
    found = [fresh(f"t{number}", quarantined=int(bad)) for number, bad in enumerate(faulty)]
    metadata = overview_metadata(found, NOW)

    assert metadata["tables"] == len(found) and metadata["tables with problems"] == sum(faulty)
    assert len(body(metadata["overview"].value)) == min(len(found), SHOWN)


def test_overview_is_materialized_with_the_checks(folder_lake: Make) -> None:
    lake = folder_lake(orders={"checks": {"max_lag": "10m"}}, others=[{"name": "idle", "key": ["k"]}])
    os.utime(lake.land("2025/02/03/04/a", inserted(1)), (1_700_000_000, 1_700_000_000))

    result = lake.defs.resolve_job_def(f"{lake.name}_checks_job").execute_in_process(instance=lake.instance)

    (event,) = result.asset_materializations_for_node(f"lake__{lake.name}")
    page = str(event.metadata["overview"].value)
    assert [row[0] for row in body(page)] == ["orders", "idle"]
    assert "what landed waits for" in body(page)[0][1]
    (late,) = (c for c in result.get_asset_check_evaluations() if c.check_name == "up_to_date")
    (waiting,) = late.metadata["first objects waiting"].records
    assert waiting.data["object"].endswith("2025/02/03/04/a") and waiting.data["landed"] == "2023-11-14 22:13:20Z"
    assert "ddb-lake sync orders" in steps(late.metadata)


# --- what is told of the assets


def test_specs_have_the_owners_tags_and_freshness_of_the_settings(folder_lake: Make) -> None:
    lake = folder_lake(orders={"owners": ["team:shop"], "tags": {"tier": "1"}, "checks": {"freshness": "2h"}})
    graph = lake.defs.resolve_asset_graph()

    current = graph.get(dg.AssetKey(["current", "orders"]))
    assert current.owners == ["team:shop"] and current.tags["tier"] == "1"
    assert current.freshness_policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=2))
    assert graph.get(dg.AssetKey(["changes", "orders"])).freshness_policy is None


@pytest.mark.parametrize("wrong", [{"owners": ["nobody"]}, {"checks": {"freshness": "10s"}}])
def test_wrong_settings_are_told_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse_settings({"warehouse": "lake", "tables": [{"name": "orders", **wrong}]}, "test")


def test_sample_and_figures_of_a_run(folder_lake: Make) -> None:
    lake = folder_lake(orders={"mask": ["status", "address"]})
    secret = {"address": {"M": {"city": {"S": "Oslo"}}}, "status": {"S": "hush"}, "shown": {"S": "seen"}}
    lake.land("2025/02/03/04/a", inserted(1, **secret), inserted(2, customer="bob"))
    runs = lake.settle()

    current = runs[-1].metadata["current/orders"]
    assert MASKED in current["preview"] and "seen" in current["preview"]
    assert not {"Oslo", "hush"} & set(current["preview"].replace("|", " ").split())
    assert current["columns"] >= 4 and current["retired rows"] == 0
    changes = runs[-1].metadata["changes/orders"]
    assert (changes["inserted"], changes["modified"], changes["deleted"], changes["late"]) == (2, 0, 0, 0)
    assert not check(runs[-1], "current/orders", "schema_unchanged").metadata.get(TODO)

    lake.land("2025/02/03/05/b", inserted(3, more={"S": "new"}))
    again = lake.settle()[-1]
    assert again.metadata["current/orders"]["schema changes"] == "added: more"
    assert "schema_evolution" in steps(check(again, "current/orders", "schema_unchanged").metadata)


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple)


@given(st.booleans() | st.lists(PATHS.map(".".join), max_size=4).map(tuple), PATHS)
def test_mask_covers_an_attribute_and_what_is_in_it(mask: bool | tuple[str, ...], path: tuple[str, ...]) -> None:
    settings = TableSettings(name="t", mask=mask)
    prefixes = {".".join(path[:end]) for end in range(1, len(path) + 1)}
    expected = mask if isinstance(mask, bool) else bool(prefixes & set(mask))

    assert settings.masks(path) is expected
    assert settings.masks((*path, "below")) or not expected
    schema = TableSchema(("k",), (Column(path, "S", "x", "string"),))
    assert masked_columns(settings, schema) == ({"x"} if expected else set())


def test_mask_is_read_from_json_as_written() -> None:
    lake = parse_settings(json.loads('{"warehouse": "l", "tables": [{"name": "t", "mask": ["a", "b.c"]}]}'), "test")
    assert lake.table("t").mask == ("a", "b.c")
