"""A merge that would not write one row for each changed key with an item is not committed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ddb_lake.errors import CheckFailed
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.merge.current import update_current
from ddb_lake.pipeline.merge.local_merge import LocalMerge
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, item, land
from ddb_lake_tests.support.several_tables import dumped, lake_of

pytestmark = pytest.mark.usefixtures("no_source")


def test_merge_that_loses_a_row_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LocalMerge.write

    def lossy(self: LocalMerge, *arguments: Any) -> Any:
        self._rows = f"(SELECT * FROM {self._rows} LIMIT 1)"
        return whole(self, *arguments)

    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        landed = land(tmp_path / "object", *(change(T0_US + MINUTE_US, item(key, v=1)) for key in "ab"))
        monkeypatch.setattr(LocalMerge, "write", lossy)
        with pytest.raises(CheckFailed) as raised:
            apply_objects(lake, "orders", [landed])
        assert (raised.value.expected, raised.value.found) == (2, 1)
        assert lake.current("orders") is None or not list(dumped(lake, "orders"))

        monkeypatch.setattr(LocalMerge, "write", whole)
        result = update_current(lake, "orders")
        assert (result.winners, result.changed, result.upserted, result.removed, result.rows) == (2, 2, 2, 0, 2)
