"""What every strength of verification has in common: reaching the source, judging until it settles, reporting."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import orjson
import pyarrow as pa

from ddb_lake.aws.items import TableItems
from ddb_lake.aws.source import SourceTable, describe_source, source_client
from ddb_lake.config import TableSettings
from ddb_lake.core.operations.rate_limit import Pace
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_hash
from ddb_lake.engine.session import Session
from ddb_lake.errors import UsageError
from ddb_lake.pipeline.load.table_identity import check_source
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import View, view
from ddb_lake.pipeline.verify.evidence import (
    Findings,
    Reading,
    count_living,
    examine,
)
from ddb_lake.pipeline.verify.report import (
    Cost,
    Outcome,
    Report,
    Strength,
)

DEFAULT_READ_RATE = 100.0
"""Read units a second that verifying takes from the source unless told otherwise."""

POLL_S = 2.0


def reached(table: TableSettings) -> SourceTable:
    """What DynamoDB says of the source. Raises UsageError if it cannot be reached."""
    source = describe_source(table)
    if source.arn is None:
        raise UsageError(
            f"the source {table.source_name} cannot be reached ({source.unreachable})",
            table=table.name,
            hint="mend `source`, or compare with an export: `--export URI`",
        )
    return source


def reached_source(lake: Lake, name: str) -> SourceTable:
    """`reached`, of the table that the lake's items are of. Raises UsageError for one that was created again."""
    source = reached(lake.table(name))
    check_source(lake, name, source.table_id)
    return source


def open_items(lake: Lake, name: str, read_rate: float | None) -> TableItems:
    """The source's items, read at a rate."""
    table = lake.table(name)
    return TableItems(source_client(table), table.source_name, Pace(read_rate))


def put_source_items(session: Session, known: Mapping[str, Item | None]) -> None:
    """Make `source_items`, `asked` and `asked_keys` (_key) of keys' texts and what the source has of them."""
    texts = list(known)
    hashes = pa.array([key_hash(text) for text in texts], type=pa.int64())
    items = pa.array([None if i is None else orjson.dumps(i).decode() for i in known.values()], type=pa.string())
    session.con.register(
        "read_items", pa.table({"_key": pa.array(texts, pa.string()), "_key_hash": hashes, "item": items})
    )
    session.con.execute("CREATE OR REPLACE TABLE source_items AS SELECT * FROM read_items WHERE item IS NOT NULL")
    session.con.execute("CREATE OR REPLACE TABLE asked AS SELECT DISTINCT _key_hash FROM read_items")
    session.con.execute("CREATE OR REPLACE TABLE asked_keys AS SELECT _key FROM read_items")
    session.con.unregister("read_items")


def living_view(lake: Lake, name: str) -> View:
    """The table as it is now. Raises UsageError if nothing is in the lake yet."""
    seen = view(lake, name)
    if seen.table is None:
        raise UsageError(
            "nothing is in the lake yet", table=name, hint="`ddb-lake load` or `ddb-lake apply` brings it there"
        )
    return seen


def settled(
    lake: Lake, session: Session, name: str, reading: Reading, settle_s: float, seen: View | None = None
) -> Findings:
    """Examine, and again while what differs may be under way and there is time; what is left then is certain."""
    findings = examine(lake, session, name, seen or living_view(lake, name), reading)
    deadline = time.monotonic() + settle_s
    while findings.doubtful and time.monotonic() < deadline:
        lake.progress(f"{name}: keys that may be changing", findings.doubtful)
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
        findings = examine(lake, session, name, living_view(lake, name), reading)
    if findings.doubtful and settle_s > 0:
        findings.differences = [replace(found, certain=True) for found in findings.differences]
        findings.doubtful = 0
    return findings


def make_report(
    lake: Lake,
    name: str,
    strength: Strength,
    source: str,
    findings: Findings,
    reading: Reading,
    started: float,
    compared: int,
    items: TableItems | None,
) -> Report:
    """The report of findings. `items`: how the source was read, None if it was not."""
    seen = living_view(lake, name)
    outcome: Outcome = "equal"
    if findings.total:
        outcome = "in doubt" if findings.doubtful == findings.total else "different"
    listed = len(findings.differences)
    notes = (f"{findings.total} differences, {listed} listed",) if listed < findings.total else ()
    ordered = tuple(sorted(findings.differences, key=lambda d: (d.kind, orjson.dumps(d.key))))
    return Report(
        name,
        strength,
        source,
        outcome,
        reading.from_us,
        reading.to_us,
        seen.watermark_us,
        count_living(lake, seen),
        None,
        compared,
        findings.explained,
        findings.doubtful,
        dict(findings.kinds),
        ordered,
        Cost(read_units=items.consumed.units) if items else Cost(),
        time.monotonic() - started,
        notes,
    )
