"""Daily snapshots: where the files of a table's kept days lie, and the query that reads them all.

`pipeline.maintain.daily_snapshots` writes the files. This module only reads them, so that a query imports nothing that
plans, reads changes or writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from ddb_lake.core.layout.table_names import DAILY, DAYS_FOLDER
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import identifier, literal, literals
from ddb_lake.errors import UsageError
from ddb_lake.pipeline.open_lake import Lake

COLUMNS_METADATA = "ddb_lake_columns"
"""Key in the Parquet metadata of a day's file. Its value is a JSON object: for each column, the attribute path and tag."""

_FILE_NAME = re.compile(r"\d{4}-\d\d-\d\d\.parquet")


def daily_folder(lake: Lake, name: str) -> str:
    """The folder or prefix of a table's daily snapshots, with a final slash."""
    return f"{lake.landing}/{DAYS_FOLDER}/{name}/"


def daily_snapshots_sql(lake: Lake, session: Session, name: str) -> tuple[str, list[str]]:
    """A query of all kept days of a table.

    Returns:
        SQL of rows with their day as `_day`, and the files that it reads.
        A column that the file of a day does not have is NULL in the rows of that day.

    Raises:
        UsageError: no day is kept yet.
    """
    uris = list(_files(lake, name).values())
    if not uris:
        raise UsageError(
            f"{name}{DAILY}: no day is kept yet", hint=f"materialize partitions of `daily/{name}` in Dagster"
        )
    selects = [f"SELECT *{rename} FROM read_parquet({literal(uri)})" for uri, rename in _renamed(session, uris)]
    return " UNION ALL BY NAME ".join(selects), uris


def missing_days(lake: Lake, name: str) -> list[date]:
    """The days without a file, from `daily_states.start` to the newest kept day; to the day before yesterday if none is kept.

    A file was deleted, or the day was never made. Empty without `daily_states`.
    """
    settings = lake.table(name).daily_states
    if settings is None:
        return []
    kept = kept_days(lake, name)
    last = max(kept, default=lake.now().date() - timedelta(days=2))
    days = (settings.start + timedelta(days=number) for number in range((last - settings.start).days + 1))
    return [day for day in days if day not in kept]


def kept_days(lake: Lake, name: str) -> set[date]:
    """The days of a table that have a file."""
    return {date.fromisoformat(file.removesuffix(".parquet")) for file in _files(lake, name)}


def _files(lake: Lake, name: str) -> dict[str, str]:
    """The addresses of the files of a table's kept days, by their names."""
    folder = daily_folder(lake, name)
    refs = lake.objects.list(folder) if lake.objects.reachable(folder) else ()
    files = {ref.uri.rpartition("/")[2]: ref.uri for ref in refs}
    return {file: uri for file, uri in files.items() if _FILE_NAME.fullmatch(file)}


def _renamed(session: Session, uris: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each file with the RENAME clause that gives every attribute one column name in all files.

    An attribute has the name that the newest day gives it. A name may pass from one attribute to another whose name
    differs in case only, so columns are matched by attribute path and tag.
    """
    query = (
        "SELECT file_name, decode(value) FROM"
        f" parquet_kv_metadata({literals(uris)}) WHERE decode(key) = '{COLUMNS_METADATA}'"
    )
    names: dict[str, str] = {}
    for uri, text in sorted(session.rows(query), reverse=True):
        renames = []
        for column, attribute in json.loads(text).items():
            if (attribute_key := json.dumps(attribute)) not in names:
                taken = {name.lower() for name in names.values()}
                candidates = (column, *(f"{column}_{number}" for number in range(2, len(taken) + 3)))
                names[attribute_key] = next(name for name in candidates if name.lower() not in taken)
            if names[attribute_key] != column:
                renames.append(f"{identifier(column)} AS {identifier(names[attribute_key])}")
        yield uri, f" RENAME ({', '.join(renames)})" if renames else ""
