"""Daily snapshots: keeps the items as of the end of a day (UTC) as one Parquet file below `daily/<table>/` of the warehouse.

A day's file is a function of what landed: the replay that `dump --as-of` uses makes it. Keeping a day again replaces its
file, which then includes records that came late. As long as it is not certain how a day ended, it is not kept: the error says
what to do. Nothing else is written. `pipeline.read.daily_snapshots` reads the files.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from ddb_lake.aws.objects import join
from ddb_lake.config import TableSettings, seconds
from ddb_lake.core.capture.export_windows import chain_end
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.schema.table_schema import DAY
from ddb_lake.core.values.time_text import time_text
from ddb_lake.engine.sql import literal, shown
from ddb_lake.errors import UsageError
from ddb_lake.lake.file_writer import PARQUET
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import earliest_arrival_us, list_unapplied
from ddb_lake.pipeline.read.daily_snapshots import COLUMNS_METADATA, daily_folder
from ddb_lake.pipeline.read.replay import View, view
from ddb_lake.pipeline.read.time_travel import past_rows


@dataclass(frozen=True, slots=True)
class DayResult:
    """A kept day.

    Attributes:
        as_of_us: the last instant of the day (inclusive, UTC microseconds).
        uri: the file.
        rows: the number of its rows.
        bytes: its size.
        base: the full export that the rows are based on; None if only changes are known.
        covered_us: the instant up to which the changelog was complete.
    """

    table: str
    day: date
    as_of_us: int
    uri: str
    rows: int
    bytes: int
    base: str | None
    covered_us: int | None
    seconds: float


def keep_day(lake: Lake, name: str, day: date) -> DayResult:
    """Write the items as of the end of a day. Replaces the file of the day if there is one.

    Args:
        lake: the open lake.
        name: the table.
        day: the day, in UTC.

    Raises:
        UsageError: the lake has nothing of the table at that time, or changes of the day may be missing.
    """
    started = time.monotonic()
    as_of_us = end_us(day) - 1
    seen = view(lake, name)
    _check_known(name, day, seen)
    _check_complete(lake, name, day, seen)
    uri = join(daily_folder(lake, name), f"{day:%Y-%m-%d}.parquet")
    if "://" not in uri:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    lake.progress(f"{name}: items as of the end of {day}", 0)
    with lake.session() as session:
        schema, rows = past_rows(lake, session, seen, as_of_us)
        # Readers never see part of a file: in a folder it is renamed when it is complete, in S3 it is one upload.
        options = PARQUET if "://" in uri else f"{PARQUET}, USE_TMP_FILE true"
        columns = json.dumps({column.name: [*column.path, column.tag] for column in schema.columns})
        options += f", KV_METADATA {{{COLUMNS_METADATA}: {literal(columns)}}}"
        dated = f"SELECT DATE '{day:%Y-%m-%d}' AS {DAY}, * FROM {shown(f'({rows.sql})')}"
        session.con.execute(f"COPY ({dated}) TO {literal(uri)} ({options})")
        count = session.value(f"SELECT count(*) FROM read_parquet({literal(uri)})")
    base = seen.state.base_at(as_of_us)
    size = sum(ref.size_bytes for ref in lake.objects.list(uri))
    return DayResult(
        name,
        day,
        as_of_us,
        uri,
        count,
        size,
        base.export_id if base else None,
        _covered_us(lake, name, day, seen),
        time.monotonic() - started,
    )


def end_us(day: date) -> int:
    """The end of a day (exclusive), UTC microseconds."""
    after = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return int(after.timestamp()) * 1_000_000


def _check_known(name: str, day: date, seen: View) -> None:
    """Raise UsageError unless the lake has an export or a change from before the end of the day."""
    exports = [export.exact_from_us for export in seen.state.exports]
    first_us = min(exports) if exports else seen.log.first_change_us
    if seen.table is None or first_us is None:
        raise UsageError("nothing is in the lake yet", table=name, hint="load an export, then make the day again")
    if first_us >= end_us(day):
        what = "first snapshot" if exports else "first change"
        raise UsageError(
            f"the lake knows nothing of {day}; its {what} is of {time_text(first_us, unit='s')}. Set "
            f"`daily_states.start` to {time_text(first_us, unit='s'):.10} or later",
            table=name,
        )


def _check_complete(lake: Lake, name: str, day: date, seen: View) -> None:
    """Raise UsageError while changes of the day may be missing."""
    end, table, now = end_us(day), lake.table(name), lake.now()
    if now.timestamp() * 1e6 < end:
        raise UsageError(f"{day} is not over before {time_text(end, unit='s')}", table=name, hint="make it then")
    base = seen.state.base_at(end - 1)
    gaps = [
        gap for gap in seen.log.gaps if gap.is_open and gap.from_us < end and (not base or gap.to_us > base.export_us)
    ]
    if gaps:
        raise UsageError(
            f"changes from {time_text(gaps[0].from_us, unit='s')} to {time_text(gaps[0].to_us, unit='s')} "
            f"may be missing, so the end of {day} is not certain",
            table=name,
            hint=f"`ddb-lake repair {name} --gaps`, then make the day again",
        )
    _check_applied(lake, table, day)
    covered_us = _covered_us(lake, name, day, seen)
    if covered_us is not None and covered_us >= end:
        return
    missing = f"{name}: the changelog goes up to {time_text(covered_us, unit='s') if covered_us else 'nowhere'}, {day} is longer"
    assert table.changes is not None, "`daily_states` requires `changes`"
    if table.changes.incremental_exports is not None:
        raise UsageError(f"{missing}", hint="make the day again once the window over its end is loaded")
    ready = end + seconds(table.checks.max_lag) * 1_000_000
    if now.timestamp() * 1e6 < ready:
        raise UsageError(
            f"{missing}",
            hint=f"make it after {time_text(ready, unit='s')}, when everything must have landed (`max_lag`)",
        )


def _check_applied(lake: Lake, table: TableSettings, day: date) -> None:
    """Raise UsageError if a landed object that is not applied may hold changes of the day."""
    latest_us = end_us(day) + seconds(table.checks.max_lag) * 1_000_000
    objects = [ref for ref in list_unapplied(lake, table).refs if (earliest_arrival_us(ref) or 0) < latest_us]
    if objects:
        raise UsageError(
            f"{count_text(len(objects), 'landed object that is', 'landed objects that are')} not applied may hold"
            f" changes of {day}; the first is "
            f"{objects[0].uri}: run `ddb-lake sync {table.name}`, then make the day again",
            table=table.name,
        )


def _covered_us(lake: Lake, name: str, day: date, seen: View) -> int | None:
    """The instant up to which the changelog is complete, for the state of a day; None if that is not known.

    A stream delivers in the order of time, except for late records. Incremental exports cover the time up to the first gap
    between their windows. Exports after the day do not show how it ended.
    """
    base, changes = seen.state.base_at(end_us(day) - 1), lake.table(name).changes
    joined_us = chain_end(base.export_us // 1_000_000, seen.log.windows) * 1_000_000 if base is not None else None
    if changes is not None and changes.incremental_exports is not None:
        return joined_us
    return max((us for us in (seen.log.last_change_us, joined_us) if us is not None), default=None)
