"""A lake as releases of format 1 left it: its ledger in files beside the changelog, and no format number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ddb_lake.core.layout.table_names import OBJECTS
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.open_lake import Lake


def make_format_1(lake: Lake, name: str, files: int = 2) -> list[Path]:
    """Turn a local lake into one of format 1; the files of its ledger."""
    changes, current = lake.changes(name), lake.current(name)
    assert changes is not None and current is not None
    folder = Path(changes.location()) / "sidecar"
    folder.mkdir()
    named, rows = (
        [],
        f"(SELECT *, row_number() OVER (ORDER BY object, version) AS n FROM {read_ledger(lake, name).sql()})",
    )
    with lake.session() as session:
        for part in range(files):
            path = folder / f"{part}.parquet"
            query = f"SELECT * EXCLUDE (n) FROM {rows} WHERE n % {files} = {part}"
            (count,) = session.con.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)").fetchone()
            named.append([str(path), count])
    with changes.transaction() as transaction:
        transaction.set_properties({"ddb_lake.ledger": json.dumps(named)})
        transaction.remove_properties("ddb_lake.format", "ddb_lake.release", "ddb_lake.commit")
    with current.transaction() as transaction:
        transaction.set_properties({"ddb_lake.tombstones": "[]"})
        transaction.remove_properties("ddb_lake.format", "ddb_lake.release", "ddb_lake.commit")
    lake.catalog.catalog.drop_table(lake.catalog.identifier(name + OBJECTS))
    shutil.rmtree(lake.catalog.location(name + OBJECTS))
    return [Path(path) for path, _ in named]
