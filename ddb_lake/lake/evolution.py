"""Schema changes of `current`: columns added, renamed and retyped, never reinterpreted.

pyiceberg accepts a change of a decimal's scale, which would change values: a column whose type changes is dropped and
added again under a new field id, and whoever changes it rewrites the files.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.schema import Schema

from ddb_lake.core.schema import Column, TableSchema
from ddb_lake.lake.commit import Commit
from ddb_lake.lake.schemas import column_doc, iceberg_type, metadata_columns, metadata_type


def evolve_table(commit: Commit, schema: Schema, old: TableSchema, new: TableSchema, keep_expired: bool) -> None:
    """Stage in `commit` what turns columns `old` into columns `new`."""
    before = {c.path: c for c in old.columns}
    after = {c.path: c for c in new.columns}
    gone = [c for path, c in before.items() if path not in after or _retyped(c, after[path])]
    renamed = [
        (c, after[p]) for p, c in before.items() if p in after and not _retyped(c, after[p]) and c.name != after[p].name
    ]
    added = [c for path, c in after.items() if path not in before or _retyped(before[path], c)]
    wanted = metadata_columns(keep_expired)
    metadata = {name: wanted[name] for name in wanted if name not in {f.name for f in schema.fields}}
    if gone or renamed:
        commit.change_schema(lambda update: _make_room(update, gone, renamed))
    if added or metadata:
        commit.change_schema(lambda update: _add(update, added, metadata))


def _retyped(old: Column, new: Column) -> bool:
    return old.type != new.type or old.tag != new.tag


def _make_room(update: Any, gone: list[Column], renamed: list[tuple[Column, Column]]) -> None:
    for column in gone:
        update.delete_column((column.name,))
    for old, new in renamed:
        update.rename_column((old.name,), new.name)


def _add(update: Any, added: list[Column], metadata: dict[str, tuple[str, str]]) -> None:
    for column in added:
        update.add_column((column.name,), iceberg_type(column.type), doc=column_doc(column))
    for name, (kind, doc) in metadata.items():
        update.add_column((name,), metadata_type(kind), doc=doc)
