"""Leaves the items of erased keys out of the rows of a full export. This is the one place where a load refuses them.

The rows are written and compared with the manifest first. Then each file that has an erased key is written again without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.core.values.erased_keys import ErasedKeys
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.merge.sources import ExportRows


@dataclass(frozen=True, slots=True)
class AcceptedItems:
    """The rows of an export without those of erased keys.

    Attributes:
        rows: the rows.
        refused: the number of rows that were left out.
        replaced: the files that have them, which are in no commit. The caller deletes them.
    """

    rows: ExportRows
    refused: int = 0
    replaced: tuple[str, ...] = ()


def without_erased(
    session: Session, table: Table, written: ExportRows, erased: ErasedKeys, export_us: int
) -> AcceptedItems:
    """Write the files again that have rows of erased keys.

    Args:
        session: the session of the load.
        table: `current`.
        written: the files of the export, in no commit yet.
        erased: the erased keys, read after `table`.
        export_us: the instant of the export. An item of a later export than the erasure is accepted if this is allowed.
    """
    refusing = [digest for digest, until_us in erased.until_us.items() if until_us is None or export_us <= until_us]
    scan = written.scan
    if not refusing or not scan.paths:
        return AcceptedItems(written)
    digest = f"sha256({literal(erased.salt)} || {key_text_sql(written.schema)})"
    session.con.register("refused_digests", pa.table({"d": refusing}))
    try:
        condition = f"{digest} IN (SELECT d FROM refused_digests)"
        found = session.rows(
            f"SELECT _file_path, count(*) FROM {scan.sql(positions=True)} WHERE {condition} GROUP BY 1 ORDER BY 1"
        )
        writer = FileWriter(session.con, table.io, table.location(), scan.schema)
        kept = [path for path in scan.paths if path not in {path for path, _ in found}]
        for path, _ in found:
            kept += writer.write_paths(f"SELECT * FROM {scan.sql([path])} WHERE NOT coalesce({condition}, false)")
    finally:
        session.con.unregister("refused_digests")
    rows = replace(written, scan=TableScan(scan.schema, tuple(kept)))
    return AcceptedItems(rows, sum(count for _, count in found), tuple(path for path, _ in found))
