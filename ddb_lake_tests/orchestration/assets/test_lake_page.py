"""The overview for the engineer on call, the advice of red checks, and what samples do not show."""

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
from ddb_lake.core.capture.leases import Lease
from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.core.verify.outcome import Color
from ddb_lake.errors import ConfigError
from ddb_lake.orchestration.assets.lake_page import SHOWN, TableSummary, overview_metadata, overview_page
from ddb_lake.orchestration.checks import TODO
from ddb_lake.orchestration.metadata import MASKED, masked_columns
from ddb_lake.pipeline.read.check_results import CheckResult
from ddb_lake.pipeline.read.status import TableStatus
from ddb_lake_tests.support.dagster_folders import FolderLake, check, inserted

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
US = int(NOW.timestamp() * 1e6)
Make = Callable[..., FolderLake]


def result(check: str, color: Color, text: str = "Compared.") -> CheckResult:
    return CheckResult("current", check, "whether", color, text, US)


def fresh(name: str, *checks: CheckResult, **status: Any) -> TableSummary:
    table = TableStatus(name, rows=3, watermark_us=US, lag_s=12.0, **status)
    return TableSummary(name, table, US, checks or (result("up_to_date", "green"),))


def steps(metadata: Mapping[str, Any]) -> str:
    """What an evaluation says is to be done."""
    return "\n".join(str(record.data["do"]) for record in metadata[TODO].records)


def body(page: str, table: int = 1) -> list[list[str]]:
    lines = page.split("\n\n")[table].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def problems(page: str) -> list[str]:
    """The checks that are not green, without Markdown's escapes."""
    return [line.removeprefix("- ").replace("\\", "") for line in page.splitlines() if line.startswith("- ")]


def test_page_of_green_tables_says_so() -> None:
    page = overview_page([fresh("b"), fresh("a")], NOW)

    assert page.startswith("**All 2 tables are green.** Checks: 2 green. Seen 2026-03-04 12:30Z.")
    state = "lag 12 s, landed 12:30Z, applied 12:30Z, verified never"
    assert body(page) == [[name, "✓ 1 green", state] for name in ("a", "b")]
    verified = replace(fresh("a"), verified={"outcome": "equal", "strength": "sample", "read_to_us": None})
    assert "verified equal (sample) " in body(overview_page([verified], NOW))[0][2]
    later = overview_page([fresh("a")], NOW + timedelta(days=1))
    assert "landed 2026-03-04 12:30Z" in body(later)[0][2]


def test_page_shows_the_follower_of_a_table_and_how_far_it_is_behind() -> None:
    followed = replace(fresh("a"), lease=Lease("web1-77-0a1b2c3d", lag_s=3.4))
    (a, b) = body(overview_page([followed, fresh("b")], NOW))

    assert a[-1].replace("\\", "").endswith(", followed by web1-77-0a1b2c3d, 3 s behind")
    assert "followed" not in b[-1]


def test_page_counts_every_red_and_yellow_check_and_has_the_worst_first() -> None:
    late = fresh("late", result("up_to_date", "red", "1 object waits."), result("no_gaps", "yellow"))
    open_ = fresh("open", result("capture_alive", "yellow", "unknown: whether, because AWS does not answer."))
    never, away = replace(fresh("never"), checks=()), TableSummary("away", fault="AWS cannot be called")

    page = overview_page([fresh("good"), open_, never, late, away], NOW)

    assert page.startswith("**4 of 5 tables need a look.** Checks: 1 red, 2 yellow, 1 green.")
    assert [row[:2] for row in body(page)] == [
        ["late", "✗ 1 red, 1 yellow"],
        ["open", "⚠ 1 yellow"],
        ["away", "⚠ not evaluated"],
        ["never", "⚠ not evaluated"],
        ["good", "✓ 1 green"],
    ]
    assert problems(page) == [
        "✗ red: late up_to_date: 1 object waits.",
        "⚠ yellow: away -: cannot be examined: AWS cannot be called",
        "⚠ yellow: late no_gaps: Compared.",
        "⚠ yellow: open capture_alive: unknown: whether, because AWS does not answer.",
    ]


def test_descriptions_have_no_word_that_makes_the_page_wider() -> None:
    uri = "s3://a-bucket-with-a-long-name/and/a/prefix/"

    (line,) = problems(overview_page([fresh("t", result("up_to_date", "red", f"Nothing lies below {uri} now."))], NOW))

    assert line == "✗ red: t up_to_date: Nothing lies below s3://a-bucke…nd/a/prefix/ now."


@given(st.lists(st.booleans(), max_size=SHOWN + 20))
def test_page_is_bounded_and_its_figures_count_all_tables(faulty: list[bool]) -> None:
    found = [fresh(f"t{number}", result("up_to_date", "red" if bad else "green")) for number, bad in enumerate(faulty)]
    metadata = overview_metadata(found, NOW)

    assert metadata["tables"] == len(found) and metadata["tables with problems"] == sum(faulty)
    assert metadata["red checks"] == sum(faulty) and metadata["green checks"] == len(found) - sum(faulty)
    assert len(body(metadata["overview"].value)) == min(len(found), SHOWN)


def test_overview_is_materialized_with_the_checks(folder_lake: Make) -> None:
    lake = folder_lake(orders={"checks": {"max_lag": "10m"}}, others=[{"name": "idle", "key": ["k"]}])
    os.utime(lake.land("2025/02/03/04/a", inserted(1)), (1_700_000_000, 1_700_000_000))

    result = lake.defs.resolve_job_def(f"{lake.name}_checks_job").execute_in_process(instance=lake.instance)

    (event,) = result.asset_materializations_for_node(f"lake__{lake.name}")
    page = str(event.metadata["overview"].value)
    assert [row[0] for row in body(page)] == ["orders", "idle"]
    assert body(page)[0][1].startswith("✗ 1 red") and "idle" in page
    assert problems(page)[0].startswith("✗ red: orders up_to_date: ")
    (late,) = (c for c in result.get_asset_check_evaluations() if c.check_name == "up_to_date")
    (waiting,) = late.metadata["first objects waiting"].records
    assert waiting.data["object"].endswith("2025/02/03/04/a") and waiting.data["landed"] == "2023-11-14 22:13:20Z"
    assert "ddb-lake sync orders" in steps(late.metadata)


# --- metadata of the assets


def test_specs_have_the_owners_tags_and_freshness_of_the_settings(folder_lake: Make) -> None:
    lake = folder_lake(orders={"owners": ["team:shop"], "tags": {"tier": "1"}, "checks": {"freshness": "2h"}})
    graph = lake.defs.resolve_asset_graph()

    current = graph.get(dg.AssetKey(["current", "orders"]))
    assert current.owners == ["team:shop"] and current.tags["tier"] == "1"
    assert current.freshness_policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=2))
    assert graph.get(dg.AssetKey(["changes", "orders"])).freshness_policy is None


@pytest.mark.parametrize("wrong", [{"owners": ["nobody"]}, {"checks": {"freshness": "10s"}}])
def test_wrong_settings_are_reported_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse_settings({"warehouse": "lake", "tables": [{"name": "orders", **wrong}]}, "test")


def test_sample_and_figures_of_a_run(folder_lake: Make) -> None:
    lake = folder_lake(orders={"mask": ["status", "address"]})
    secret = {"address": {"M": {"city": {"S": "Oslo"}}}, "status": {"S": "hush"}, "shown": {"S": "seen"}}
    lake.land("2025/02/03/04/a", inserted(1, **secret), inserted(2, customer="bob"))
    runs = lake.settle()

    current = runs[-1].metadata["current/orders"]
    lines = [record.data["values in 2 rows"] for record in current["preview"].records]
    sample = dict(line.split(": ", 1) for line in lines)
    assert set(sample["status"].split(" · ")) == set(sample["address__city"].split(" · ")) == {MASKED, "NULL"}
    assert "seen" in sample["shown"]
    assert not any(value in text for text in sample.values() for value in ("Oslo", "hush"))
    assert current["columns"] >= 4 and current["deleted rows"] == 0
    changes = runs[-1].metadata["changes/orders"]
    assert (changes["inserted"], changes["modified"], changes["deleted"], changes["conflicting keys"]) == (2, 0, 0, 0)
    assert not check(runs[-1], "current/orders", "unique_keys").metadata.get(TODO)

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
