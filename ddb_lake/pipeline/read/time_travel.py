"""The lake as of an instant: a table's rows in typed columns, and statements over them.

`pipeline.read.replay` decides what each key was at the instant. This module projects the result onto columns and puts it
in the place of the tables that a statement reads. Daily snapshots are made of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddb_lake.core.layout.table_names import CHANGES, entity_table
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.parquet_result import write_parquet
from ddb_lake.engine.read_only import as_relation
from ddb_lake.engine.session import Session, interruptible, lasting
from ddb_lake.engine.sql import identifier, shown
from ddb_lake.pipeline.merge.local_entities import past_entity
from ddb_lake.pipeline.merge.local_merge import fit_rows
from ddb_lake.pipeline.merge.sources import scan_records
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.query import (
    QueryResult,
    ViewRows,
    create_views,
    execute_query,
    mentioned_names,
    statement_errors,
)
from ddb_lake.pipeline.read.replay import View, replay, view


@contextmanager
def run_query_as_of(lake: Lake, sql: str, as_of_us: int) -> Iterator[QueryResult]:
    """Run one statement against the lake as of an instant.

    Tables, entities and changelogs that the statement names are as of then; quarantines and kept days are those of now.

    Args:
        lake: the open lake.
        sql: a statement, as for `pipeline.read.query.run_query`.
        as_of_us: the instant (inclusive), microseconds since the epoch.

    Raises:
        UsageError: the statement is wrong, or the lake has no state of a named table at that time.
        DamagedError: and other errors, as `run_query`.
    """
    with lake.session() as session:
        yield execute_query(lake, session, sql, past_relations(lake, session, sql, as_of_us))


def write_query(lake: Lake, sql: str, path: Path, as_of_us: int | None = None) -> int:
    """Write the rows of one statement to a Parquet file, with exact values (`engine.parquet_result`).

    Args:
        lake: the open lake.
        sql: a statement, as for `pipeline.read.query.run_query`.
        path: the file. It is replaced if it exists.
        as_of_us: the instant (inclusive), microseconds since the epoch; by default, now.

    Returns:
        The number of rows.

    Raises:
        UsageError: the statement is wrong or gives no table, or the lake has no state of a named table at that time.
        DamagedError: and other errors, as `run_query`.
    """
    with lake.session() as session:
        relations = {} if as_of_us is None else past_relations(lake, session, sql, as_of_us)
        absent = create_views(lake, session, sql, relations, written=[str(path.absolute())])
        with statement_errors(lake, absent):
            rows = as_relation(session.con, sql)
            return interruptible(session.con, lambda: write_parquet(session, rows, path.absolute()))


def past_relations(lake: Lake, session: Session, sql: str, as_of_us: int) -> dict[str, ViewRows]:
    """Relations of the tables, entities and changelogs that a statement names, as of an instant (inclusive), by name.

    No other relation that a replay made is left in the session: none may be read in the place of a table.
    """
    relations: dict[str, ViewRows] = {}
    names = mentioned_names(lake, sql)
    for number, settings in enumerate(lake.settings.tables):
        name = settings.name
        entities = {
            position: entity_table(name, entity)
            for position, entity in enumerate(settings.entity_names)
            if entity_table(name, entity) in names
        }
        if (name in names or entities) and lake.current(name) is not None:
            schema, rows = past_rows(lake, session, view(lake, name), as_of_us, number)
            relations[name] = ViewRows(shown(f"({rows.sql})"), rows.files)
            for position, table in entities.items():
                projected = past_entity(lake, session, name, position, (schema, f"({rows.sql})"))
                kept = lasting(f"past_entity_{number}_{position}")
                session.keep(kept, f"SELECT * FROM {projected}")
                relations[table] = ViewRows(shown(f"(FROM {identifier(kept)})"))
        changes = lake.changes(name) if name + CHANGES in names else None
        if changes is not None:
            scan = scan_records(changes)
            until = f"(FROM {scan.sql()} WHERE changed_at <= make_timestamp({as_of_us}))"
            relations[name + CHANGES] = ViewRows(until, scan.files)
    session.forget_relations()
    return relations


def past_rows(lake: Lake, session: Session, seen: View, as_of_us: int, number: int = 0) -> tuple[TableSchema, ViewRows]:
    """The rows of a table as of an instant, in typed columns.

    Items that Time to Live had removed by then are among them if the table has `ttl_deletes: keep`, as in `current`.

    Args:
        seen: the table, from `pipeline.read.replay.view`.
        as_of_us: the instant (inclusive), microseconds since the epoch.
        number: distinguishes the relations of several tables in one session.

    Returns:
        The columns, and a query of the rows, without parentheses.
        The query stays valid in the session after `Session.forget_relations`. What
        changed since the base is computed now; the base's rows are read when the query runs.
    """
    settings = lake.table(seen.name)
    replayed = replay(lake, session, seen, as_of_us, keep_expired=settings.ttl_deletes == "keep")
    schema, projected_rows = fit_rows(session, replayed.plan, replayed.schema, settings)
    changed_keys, projected = lasting(f"past_keys_{number}"), lasting(f"past_rows_{number}")
    session.con.execute(
        f"CREATE OR REPLACE TABLE {identifier(changed_keys)} AS SELECT _key FROM {replayed.plan.new_states}"
    )
    session.keep(projected, f"SELECT * FROM {projected_rows}")
    rows = f"SELECT * FROM {identifier(projected)}"
    if replayed.base_rows is not None:
        keyed = f"(SELECT *, {key_text_sql(replayed.schema)} AS _past_key FROM {replayed.base_rows})"
        changed = identifier(changed_keys)
        unchanged = f"SELECT b.* EXCLUDE (_past_key) FROM {keyed} b ANTI JOIN {changed} k ON k._key = b._past_key"
        rows = f"{unchanged} UNION ALL BY NAME {rows}"
    return schema, ViewRows(rows, replayed.base_files)
