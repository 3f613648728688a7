"""Whether change records are missing: of a Kinesis destination, and of a DynamoDB stream that is read directly.

The checks' names, descriptions and advice are in `orchestration.checks.registry`.
"""

import dagster as dg

from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.capture.shards import RETENTION_US
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import TerminalError, UsageError
from ddb_lake.orchestration.checks.evaluation import Outcome, Subject, outcome
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.kinesis_monitor import watch
from ddb_lake.pipeline.capture.stream_gaps import gap_text
from ddb_lake.pipeline.capture.streams import stream_checkpoint

LONGEST_UNREAD_S = 6 * 3600
"""Records are kept for 24 hours, so this leaves 18 hours to find out why the stream is not read.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
"""

_IN_TEXT, _IN_TABLE = 5, 25
"""The gaps that an evaluation lists at most."""


def no_gaps(subject: Subject) -> Outcome:
    """No gap is open, after the source's stream was examined for new ones."""
    lake, table = subject.lake, subject.table
    try:
        gaps = watch(lake, table.name)
    except TerminalError as error:
        gaps = open_gaps(lake, table.name)
        if not gaps:
            raise UsageError(f"the stream of {table.source_name} cannot be looked at: {error}") from error
    if not gaps:
        return outcome(True, "No change records are missing.", {"gaps": 0})
    text = f"{len(gaps)} stretches in which changes may be missing; `ddb-lake repair {table.name} --gaps` repairs them."
    return outcome(False, text, {"gaps": len(gaps), "open gaps": dg.TableMetadataValue(_gap_rows(gaps), _GAP_SCHEMA)})


_GAP_SCHEMA = dg.TableSchema([dg.TableColumn(name) for name in ("kind", "from", "to", "reason")])


def _gap_rows(gaps: tuple[Gap, ...]) -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "kind": g.kind,
                "from": time_text(g.from_us, unit="s"),
                "to": time_text(g.to_us, unit="s"),
                "reason": g.reason,
            }
        )
        for g in gaps[:_IN_TABLE]
    ]


def stream_complete(subject: Subject) -> Outcome:
    """No gap is open, and the stream was read in the last `LONGEST_UNREAD_S` seconds."""
    lake, table = subject.lake, subject.table
    gaps, checkpoint = open_gaps(lake, table.name), stream_checkpoint(lake, table)
    if checkpoint is None:
        return outcome(False, "The stream was never read.", {"open gaps": len(gaps)})
    unread_s = max(0.0, lake.now().timestamp() - checkpoint.read_us / 1e6)
    figures = {"open gaps": len(gaps), "seconds since it was read": round(unread_s, 1)}
    if gaps:
        return outcome(False, " ".join(gap_text(table.name, gap) for gap in gaps[:_IN_TEXT]), figures)
    if unread_s > LONGEST_UNREAD_S:
        kept_h = RETENTION_US / 3_600_000_000
        text = f"It was not read for {unread_s / 3600:.1f} h; records are kept for {kept_h:.0f} h."
        return outcome(False, text, figures)
    return outcome(True, "Every record that the stream had has landed, or an export made up for it.", figures)
