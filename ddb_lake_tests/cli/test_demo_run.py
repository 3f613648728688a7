"""The demo, as somebody runs it who has just installed this: it must end well, and say so only if it did."""

from __future__ import annotations

import json
import re
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import AssetCheckSeverity

from ddb_lake.cli import demo_run
from ddb_lake.cli.demo_run import called_as, run_demo
from ddb_lake.errors import UsageError
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.demo.home import DemoHome
from ddb_lake.orchestration.demo.source import DemoSource, canonical_text
from ddb_lake.orchestration.dev import evaluate_checks, living
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.quarantine import list_discarded
from ddb_lake.pipeline.verify.conservation import compare_counts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.parse_obj_as. is deprecated:pydantic.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a demo that has ended well, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fixtures of a module come before a test's filters
        status = run_demo(folder, keep=True, emit=lines.append, seed=7)
    assert status == 0, "\n".join(lines)
    return folder, "\n".join(lines)


def test_program_is_named_as_it_can_be_called_from_the_folder() -> None:
    clone = Path("/home/me/clone")

    assert called_as(clone / ".venv/bin/python", clone) == ".venv/bin/ddb-lake"
    assert called_as(Path("/usr/local/bin/python3"), clone) == "ddb-lake"


def test_demo_ends_with_a_lake_equal_to_the_table(told: tuple[Path, str]) -> None:
    folder, text = told
    assert re.search(r"✓ [\d,]+ items in DynamoDB, [\d,]+ in the lake, all of them equal", text)
    assert "✗" not in text
    assert "in quarantine" in text and "no JSON object" in text
    for name in ("unique_keys", "up_to_date", "rows_match_source", "rows_match_manifest"):
        assert f" {name}: " in text
    assert (folder / "dagster" / "dagster.yaml").exists()
    assert (folder / "ddb_lake.yaml").exists()


def test_table_lives_on_from_what_the_lake_has(told: tuple[Path, str]) -> None:
    home = DemoHome(told[0])
    with open_lake(home.settings()) as lake:
        kept = sorted(canonical_text(json.loads(line)["Item"]) for line in dump_items(lake, "orders"))

    with living(home, writing=False) as source:
        assert sorted(canonical_text(item) for item in source.items()) == kept
        run = evaluate_checks()
        # no daemon ticks here, and in the first 20 minutes of an hour no whole hour of the demo has settled
        assert {check.check_name for check in run.checks if not check.passed} <= {"sensor_ticks", "conservation"}
        assert {check.severity for check in run.checks if not check.passed} == {AssetCheckSeverity.WARN}
        with open_lake(home.settings()) as lake:
            assert sum(group.count for group in list_discarded(lake, "orders")) == 4
        source.traffic.insert(3)
        assert source.sandbox.flush()
        with open_lake(home.settings()) as lake:
            lake.now = lambda: datetime.now(UTC) + timedelta(hours=1)  # then a whole hour has passed at any minute
            found = compare_counts(lake, lake.table("orders"))
        assert found.accepted is not None and found.accepted.found.counted > 0
        assert [(count.found.missing, count.has_duplicates) for count in found.counts] == [(0, False)] * 2


def test_living_on_needs_a_demo(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no demo's lake"), living(DemoHome(tmp_path)):
        pass


@pytest.mark.exhaustive
def test_demo_fails_if_the_lake_differs_from_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_run, "ITEMS", 30)
    monkeypatch.setattr(demo_run, "STEPS", 12)
    real = DemoSource.items

    def one_changed(source: DemoSource) -> object:
        for number, item in enumerate(real(source)):
            yield item | {"note": {"S": "written behind the stream's back"}} if number == 0 else item

    monkeypatch.setattr(DemoSource, "items", one_changed)
    told: list[str] = []

    assert run_demo(tmp_path, keep=False, emit=told.append, seed=0) == 1
    assert "1 items are missing or stale in the lake" in "\n".join(told)


def test_demo_does_not_remove_a_lake_that_is_none_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "precious").touch()

    with pytest.raises(UsageError, match="no demo made"):
        run_demo(tmp_path, keep=True, emit=print, seed=0)

    assert (tmp_path / "lake" / "precious").exists()
