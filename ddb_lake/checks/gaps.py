"""Whether change records are missing: of a Kinesis destination, and of a DynamoDB stream that is read directly.

The checks' names, descriptions and advice are in `checks.registry`.
"""

from ddb_lake.checks.check import Subject, reads_aws
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.capture.shards import RETENTION_US
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.verify.outcome import Listing, Outcome, judged, unknown
from ddb_lake.errors import TerminalError
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.kinesis_monitor import observation, watch
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
    observes = reads_aws(table)
    try:
        gaps = watch(lake, table.name) if observes else open_gaps(lake, table.name)
    except TerminalError as error:
        gaps = open_gaps(lake, table.name)
        if not gaps:
            return unknown(f"the stream of {table.source_name} cannot be observed completely ({error})")
    if gaps:
        text = (
            f"{count_text(len(gaps), 'stretch', 'stretches')} in which changes may be missing; `ddb-lake repair"
            f" {table.name} --gaps` repairs them."
        )
        return judged(False, text, {"gaps": len(gaps), "open gaps": _gap_rows(gaps)})
    if lake.changes(table.name) is None:
        return unknown("the lake has no changelog yet")
    if not observes:
        return judged(
            True, "The changelog records no open gap. Changes land in a folder: there is no stream to observe."
        )
    seen = observation(lake, table.name)
    if seen is None:
        text = f"The changelog records no open gap, and {table.source_name} feeds no Kinesis stream that could be switched off."
        return judged(True, text, {"gaps": 0})
    text = (
        f"The Kinesis destination of {table.source_name} is {seen.status}, and is the stream that was observed before;"
        " the changelog records no open gap."
    )
    return judged(True, text, {"gaps": 0, "observed": time_text(seen.seen_us, unit="s")})


def _gap_rows(gaps: tuple[Gap, ...]) -> Listing:
    rows = tuple(
        (g.kind, time_text(g.from_us, unit="s"), time_text(g.to_us, unit="s"), g.reason) for g in gaps[:_IN_TABLE]
    )
    return Listing(("kind", "from", "to", "reason"), rows)


def stream_complete(subject: Subject) -> Outcome:
    """No gap is open, and the stream was read in the last `LONGEST_UNREAD_S` seconds."""
    lake, table = subject.lake, subject.table
    gaps, checkpoint = open_gaps(lake, table.name), stream_checkpoint(lake, table)
    if checkpoint is None:
        return unknown("the stream was never read", {"open gaps": len(gaps)})
    unread_s = max(0.0, lake.now().timestamp() - checkpoint.read_us / 1e6)
    figures = {"open gaps": len(gaps), "seconds since it was read": round(unread_s, 1)}
    if gaps:
        return judged(False, " ".join(gap_text(table.name, gap) for gap in gaps[:_IN_TEXT]), figures)
    if unread_s > LONGEST_UNREAD_S:
        kept_h = RETENTION_US / 3_600_000_000
        text = f"It was not read for {unread_s / 3600:.1f} h; records are kept for {kept_h:.0f} h."
        return judged(False, text, figures)
    text = (
        f"The stream was read up to {time_text(checkpoint.read_us, unit='s')}, and the changelog records no open gap."
    )
    return judged(True, text, figures)
