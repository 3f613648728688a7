"""The demo, as somebody runs it who has just installed this: it must end well, and say so only if it did."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from ddb_lake.cli import demo
from ddb_lake.cli.demo import run_demo
from ddb_lake.errors import UsageError
from ddb_lake.orchestration.demo.source import DemoSource

pytestmark = [
    pytest.mark.filterwarnings("ignore:.parse_obj_as. is deprecated:pydantic.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning"),
]


def test_demo_ends_with_a_lake_equal_to_the_table(tmp_path: Path) -> None:
    told: list[str] = []
    started = time.monotonic()

    status = run_demo(tmp_path, keep=True, emit=told.append, seed=7)

    text = "\n".join(told)
    assert status == 0, text
    assert time.monotonic() - started < 120
    assert re.search(r"✓ [\d,]+ items in DynamoDB, [\d,]+ in the lake, all of them equal", text)
    assert "✗" not in text
    assert "in quarantine" in text and "no JSON object" in text
    for name in ("unique_keys", "up_to_date", "rows_match_source", "rows_match_manifest"):
        assert f" {name}: " in text
    assert (tmp_path / "dagster" / "dagster.yaml").exists()
    assert (tmp_path / "ddb_lake.yaml").exists()


def test_demo_fails_if_the_lake_differs_from_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ITEMS", 30)
    monkeypatch.setattr(demo, "STEPS", 12)
    real = DemoSource.items

    def one_changed(source: DemoSource) -> object:
        for number, item in enumerate(real(source)):
            yield item | {"note": {"S": "written behind the stream's back"}} if number == 0 else item

    monkeypatch.setattr(DemoSource, "items", one_changed)
    told: list[str] = []

    assert run_demo(tmp_path, keep=False, emit=told.append, seed=0) == 1
    assert "1 items are missing or stale in the lake, 1 should not be there" in "\n".join(told)


def test_demo_does_not_remove_a_lake_that_is_none_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "precious").touch()

    with pytest.raises(UsageError, match="no demo made"):
        run_demo(tmp_path, keep=True, emit=print, seed=0)

    assert (tmp_path / "lake" / "precious").exists()
