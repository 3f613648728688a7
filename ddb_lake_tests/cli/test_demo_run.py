"""The demo right after an installation: it must succeed, and report success only if it did."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from ddb_lake.cli.demo_run import DemoSize, called_as, run_demo
from ddb_lake.config import PartitionsSettings
from ddb_lake.errors import UsageError
from ddb_lake.executors import open_lake
from ddb_lake.lake.scan import scan_table
from ddb_lake.orchestration.demo.home import TABLE, DemoHome
from ddb_lake.orchestration.demo.source import DemoSource, canonical_text
from ddb_lake.orchestration.dev import following, living
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.support.demo_lake import SMALL, Seen
from ddb_lake_tests.support.docs_blocks import ROOT, blocks

pytestmark = [
    pytest.mark.filterwarnings("ignore:.parse_obj_as. is deprecated:pydantic.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning"),
]


@pytest.fixture
def seen(demo_lake: DemoHome) -> Seen:
    """What was seen of the demo and of its table that lived on."""
    return Seen.of(demo_lake)


def test_program_is_named_as_it_can_be_called_from_the_folder() -> None:
    clone = Path("/home/me/clone")

    assert called_as(clone / ".venv/bin/python", clone) == ".venv/bin/ddb-lake"
    assert called_as(Path("/usr/local/bin/python3"), clone) == "ddb-lake"


def test_demo_ends_with_a_lake_equal_to_the_table(demo_lake: DemoHome, seen: Seen) -> None:
    assert re.search(r"✓ [\d,]+ items in DynamoDB, [\d,]+ in the lake, all of them equal", seen.printed)
    assert "✗" not in seen.printed
    assert "in quarantine" in seen.printed and "no JSON object" in seen.printed
    for name in ("unique_keys", "up_to_date", "rows_match_source", "rows_match_manifest"):
        assert f" {name}: " in seen.printed
    assert (demo_lake.dagster / "dagster.yaml").exists()
    assert demo_lake.config.exists()


def test_readme_shows_lines_of_the_output(seen: Seen) -> None:
    """With other numbers, because the demo of the tests is smaller."""
    (shown,) = [
        block.text
        for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"), "README.md")
        if block.text.startswith("1. A DynamoDB table")
    ]
    for line in shown.splitlines():
        pattern = re.sub(r"\d+", r"[\\d,]+", re.escape(line)).replace("…", ".+")
        assert re.search(f"^{pattern}$", seen.printed, re.MULTILINE), line


def test_partitions_begin_with_the_day_of_the_demo(demo_lake: DemoHome) -> None:
    """So that the page of the partitions shows no days on which there was no table."""
    (table,) = demo_lake.settings().tables
    assert table.changes is not None
    assert table.changes.partitions.start == demo_lake.first_day > PartitionsSettings().start
    with open_lake(demo_lake.settings()) as lake, lake.session() as session:
        changes = lake.changes(TABLE)
        assert changes is not None
        ((first,),) = session.rows(f"SELECT min(arrival_hour) FROM {scan_table(changes).sql()}")
    assert first.date() >= demo_lake.first_day


def test_table_continues_from_what_the_lake_has(seen: Seen) -> None:
    assert len(seen.kept) >= SMALL.items
    assert seen.alive == seen.kept
    assert {name for name, _ in seen.failed} == {"sensor_ticks"}  # no daemon ticks here
    assert {severity for _, severity in seen.failed} == {"WARN"}
    assert seen.discarded == 4
    assert seen.accepted is not None and seen.accepted > 0
    assert seen.counts == [[0, False]] * 2


def test_living_on_needs_a_demo(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no demo's lake"), living(DemoHome(tmp_path)):
        pass
    (tmp_path / "lake").mkdir()
    (tmp_path / "ddb_lake.yaml").write_text("precious")
    with pytest.raises(UsageError, match="has no demo's lake"), living(DemoHome(tmp_path)):
        pass
    assert (tmp_path / "ddb_lake.yaml").read_text() == "precious"


@pytest.mark.exhaustive
def test_follower_beside_dagster_applies_what_is_delivered_and_ends_with_it(tmp_path: Path) -> None:
    assert run_demo(tmp_path, keep=True, emit=lambda _: None, seed=0, size=DemoSize(items=30, steps=12)) == 0
    home = DemoHome(tmp_path)
    with living(home, writing=False) as source:
        with following(home) as process:
            source.traffic.insert(3)
            assert source.sandbox.flush()
            alive = sorted(canonical_text(item) for item in source.items())
            until = time.monotonic() + 120
            while _items(home) != alive and process.poll() is None and time.monotonic() < until:
                time.sleep(1)
        assert process.returncode == 0
        assert _items(home) == alive


def _items(home: DemoHome) -> list[str]:
    with open_lake(home.settings()) as lake:
        return sorted(canonical_text(json.loads(line)["Item"]) for line in dump_items(lake, TABLE))


@pytest.mark.exhaustive
def test_demo_fails_if_the_lake_differs_from_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = DemoSource.items

    def one_changed(source: DemoSource) -> object:
        for number, item in enumerate(real(source)):
            yield item | {"note": {"S": "written behind the stream's back"}} if number == 0 else item

    monkeypatch.setattr(DemoSource, "items", one_changed)
    told: list[str] = []

    assert run_demo(tmp_path, keep=False, emit=told.append, seed=0, size=DemoSize(items=30, steps=12)) == 1
    assert "1 item is missing or stale in the lake" in "\n".join(told)


@pytest.mark.parametrize("name", ["lake/precious", "ddb_lake.yaml"])
def test_demo_replaces_nothing_that_is_none_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("precious")

    with pytest.raises(UsageError, match="no demo made"):
        run_demo(tmp_path, keep=True, emit=print, seed=0)

    assert (tmp_path / name).read_text() == "precious"
