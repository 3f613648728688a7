"""Schema changes of `current`: columns are added, retyped and dropped, and never renamed.

A column whose type changes is dropped and added again under a new field id, and the caller rewrites the files. Other
changes of types would be wrong: pyiceberg accepts a new scale of a decimal, which changes the values.
https://iceberg.apache.org/spec/#schema-evolution
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType

from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.commit import Commit
from ddb_lake.lake.schemas import item_fields, metadata_fields


def evolve_table(commit: Commit, schema: Schema, old: TableSchema, new: TableSchema, keep_expired: bool) -> None:
    """Stage the schema changes from one set of columns to another.

    Args:
        commit: the commit in which the changes are staged.
        schema: the Iceberg schema before the changes.
        old: the columns before.
        new: the columns after.
        keep_expired: whether the table has the column `_expired_at`.

    Raises:
        CheckFailed: a column would get another name, which queries use.
    """
    before = {c.identity: c for c in old.columns}
    after = {c.identity: c for c in new.columns}
    dropped = [c for one, c in before.items() if one not in after or _retyped(c, after[one])]
    renamed = [(c.name, after[one].name) for one, c in before.items() if one in after and c.name != after[one].name]
    if renamed:
        raise CheckFailed(f"columns would get other names: {renamed[:5]}; nothing was committed; report this fault")
    added = [c for one, c in after.items() if one not in before or _retyped(before[one], c)]
    present = [field.name for field in schema.fields]
    metadata = [field for field in metadata_fields(keep_expired) if field[0] not in present]
    if dropped:
        commit.change_schema(lambda update: _drop(update, dropped))
    if added or metadata:
        behind = (added[-1].name, present) if added and not before else None
        commit.change_schema(lambda update: _add(update, [*item_fields(added), *metadata], behind))


def _retyped(old: Column, new: Column) -> bool:
    return old.type != new.type or old.tag != new.tag


def _drop(update: Any, columns: list[Column]) -> None:
    for column in columns:
        update.delete_column((column.name,))


def _add(update: Any, fields: list[tuple[str, IcebergType, str]], behind: tuple[str, Sequence[str]] | None) -> None:
    """Add columns at the end. `behind`: an added column, and the columns that are moved behind it."""
    for name, kind, doc in fields:
        update.add_column((name,), kind, doc=doc)
    if behind is not None:
        last, moved = behind
        for previous, name in pairwise([last, *moved]):
            update.move_after(name, previous)
