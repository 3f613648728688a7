"""A table's rows as of a time, in typed columns: what queries as of a time and the states of days show."""

from __future__ import annotations

from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.session import Session, lasting
from ddb_lake.engine.sql import identifier
from ddb_lake.pipeline.merge.local_merge import fit_rows
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import replay


def past_rows(lake: Lake, session: Session, name: str, as_of_us: int, number: int = 0) -> tuple[TableSchema, str]:
    """The typed columns of a table's rows as of an instant (inclusive), and a query of them, valid in the session.

    With `ttl_deletes: keep` they include the rows of items that Time to Live had removed by then, as in `current`.
    The query stays valid after `Session.forget_relations`. Only what changed since the base is worked out now; the base's rows are read
    when they are asked for. `number`: another one for each of several tables in one session.
    """
    found = replay(lake, session, name, as_of_us, keep_expired=lake.table(name).ttl_deletes == "keep")
    schema, projected_rows = fit_rows(session, found.plan, found.schema, lake.table(name))
    changed_keys, projected = lasting(f"past_keys_{number}"), lasting(f"past_rows_{number}")
    session.con.execute(
        f"CREATE OR REPLACE TABLE {identifier(changed_keys)} AS SELECT _key FROM {found.plan.new_states}"
    )
    session.keep(projected, f"SELECT * FROM {projected_rows}")
    rows = f"SELECT * FROM {identifier(projected)}"
    if found.base_rows is not None:
        keyed = f"(SELECT *, {key_text_sql(found.schema)} AS _past_key FROM {found.base_rows})"
        unchanged = f"SELECT b.* EXCLUDE (_past_key) FROM {keyed} b ANTI JOIN {identifier(changed_keys)} k ON k._key = b._past_key"
        rows = f"{unchanged} UNION ALL BY NAME {rows}"
    return schema, rows
