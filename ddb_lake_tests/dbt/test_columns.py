"""Builds after the lake's columns or its items' versions have changed, against a build from nothing."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from ddb_lake.cli.app import cli
from ddb_lake.config import parse_settings
from ddb_lake.core.values.change_record import Item
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.dbt_lake import dbt
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land

BUILT_AT = ("_through_batch", "_base_at")
"""The columns that say when a row was built."""


class Project:
    """A lake of one table, and the project that `init-dbt` writes for it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.project = folder, folder / "project"
        self.settings = {"warehouse": str(folder / "lake"), "tables": [{"name": "t", "key": ["id"]}]}
        (folder / "lake.json").write_text(json.dumps(self.settings))

    def load(self, at_us: int, *items: Item) -> None:
        """Load a full export."""
        path = full(list(items), at_us=at_us, table="t").write(self.folder / f"export-{at_us}")
        with open_lake(parse_settings(self.settings, "test")) as lake:
            load_export(lake, "t", str(path))

    def apply(self, at_us: int, *changes: tuple[Item | None, Item | None], name: str = "") -> None:
        """Land change records, each a microsecond after the one before, and apply them: items before and after.

        `name`: that of the landed object; by default it has the time.
        """
        records = [change(at_us + place, new, old, table="t") for place, (old, new) in enumerate(changes)]
        with open_lake(parse_settings(self.settings, "test")) as lake:
            apply_objects(lake, "t", [land(self.folder / "landing" / (name or str(at_us)), *records)])

    def build(self, *arguments: str) -> None:
        """Write the models of the columns that the lake has now, and build the incremental ones."""
        config = ["--config", str(self.folder / "lake.json"), "--project", str(self.project)]
        assert CliRunner().invoke(cli, ["init-dbt", *config, "t"]).exit_code == 0
        dbt(self.folder, "run", *arguments, project=self.project)

    def history(self) -> tuple[dict[str, str], list[str]]:
        """The types of the history's columns in their order, and its rows."""
        with duckdb.connect(str(self.folder / "lake_marts.duckdb"), read_only=True) as con:
            found = con.execute(f"SELECT * EXCLUDE ({', '.join(BUILT_AT)}) FROM marts.dim_t_history")
            types = {name: str(kind) for name, kind, *_ in found.description}
            return types, sorted(map(str, found.fetchall()))


@pytest.mark.exhaustive
def test_build_after_columns_and_versions_changed_gives_what_a_build_from_nothing_gives(tmp_path: Path) -> None:
    """A late record ends the only version of `e` at its beginning: the build must remove an item for which it has no new row."""
    project = Project(tmp_path)
    first, second = item("a", size=1), item("b", size=2)
    project.load(T0_US, first, second, item("c", size=3))
    brief = item("d", early="x")
    project.apply(T0_US + HOUR_US, (first, item("a", size=4)), (None, brief), (brief, None))
    gone = item("e", size=2)
    project.apply(T0_US + HOUR_US, (None, gone), name="first")
    project.build()
    types, rows = project.history()
    assert [row for row in rows if "'e'" in row]

    project.apply(T0_US + HOUR_US, (gone, None), name="late")
    changed = item("a", size=5, note="n", address={"M": {"city": {"S": "Bern"}}}, **{"n\0l": "z"})
    project.apply(T0_US + 2 * HOUR_US, (item("a", size=4), changed), (second, None))
    project.load(
        T0_US + 3 * HOUR_US, changed, *(item(f"c{number}", size={"N": f"{number}.25"}) for number in range(300))
    )
    project.build()

    stepwise = project.history()
    assert {"note", "address__city", "n_l"} <= set(stepwise[0]) - set(types)
    assert stepwise[0]["size"] != types["size"]
    assert [row for row in stepwise[1] if "'z'" in row]
    assert [row for row in stepwise[1] if "'e'" in row] == []
    project.build("--full-refresh")
    assert project.history() == stepwise
