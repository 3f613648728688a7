"""Whether every record of a DynamoDB stream that is read directly has landed."""

from ddb_lake.core.capture.shards import RETENTION_US
from ddb_lake.orchestration.checks.evaluation import Outcome, Subject, outcome
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.stream_gaps import gap_text
from ddb_lake.pipeline.capture.streams import stream_checkpoint

LONGEST_UNREAD_S = 6 * 3600
"""Records are kept for 24 hours, so this leaves 18 hours to find out why the stream is not read.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
"""

SHOWN = 5


def stream_complete(subject: Subject) -> Outcome:
    """No gap is open, and the stream was read in the last `LONGEST_UNREAD_S` seconds."""
    lake, table = subject.lake, subject.table
    gaps, checkpoint = open_gaps(lake, table.name), stream_checkpoint(lake, table)
    if checkpoint is None:
        return outcome(False, "The stream was never read.", {"open gaps": len(gaps)})
    unread_s = max(0.0, lake.now().timestamp() - checkpoint.read_us / 1e6)
    figures = {"open gaps": len(gaps), "seconds since it was read": round(unread_s, 1)}
    if gaps:
        return outcome(False, " ".join(gap_text(table.name, gap) for gap in gaps[:SHOWN]), figures)
    if unread_s > LONGEST_UNREAD_S:
        kept_h = RETENTION_US / 3_600_000_000
        text = f"It was not read for {unread_s / 3600:.1f} h; records are kept for {kept_h:.0f} h."
        return outcome(False, text, figures)
    return outcome(True, "Every record that the stream had has landed, or an export made up for it.", figures)
