"""Whether landed objects wait, whether the source has as many items, and whether anything is in quarantine.

These checks run with every run of a table and every hour, so that they also turn red if runs fail or none is started.
"""

from ddb_lake.aws.source import describe_source
from ddb_lake.checks.check import Subject
from ddb_lake.config import TableSettings, seconds
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.verify.outcome import Listing, Outcome, judged, unknown
from ddb_lake.pipeline.capture.incremental_exports import covered_until_s, wanted_increments
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import Arrivals, Scope, has_ingested_landing, list_unapplied, require_landing
from ddb_lake.pipeline.read.quarantine import list_quarantine
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.pipeline.verify.compare import count_living, require_view

SHOWN = 10
"""The objects or reasons that an evaluation lists at most."""


def up_to_date(subject: Subject) -> Outcome:
    """No object that landed waits for longer than `max_lag`, and `current` has all of the changelog."""
    lake, table = subject.lake, subject.table
    # A run that has just applied objects need not list the whole look-back window again; the hourly one does.
    scope: Scope = "recent" if subject.just_written else "lookback"
    waiting = list_unapplied(lake, table, scope)
    status = table_status(lake, table.name)
    if not waiting.refs and not status.objects and lake.changes(table.name) is None:
        return unknown(f"no object has landed in {_place(table)} since the lake exists")
    require_landing(lake, table)
    if not waiting.refs and not has_ingested_landing(lake, table):
        count = count_text(status.objects, "object")
        return unknown(f"no object has landed in {_place(table)}; the ledger has {count} from elsewhere")
    age_s = 0.0 if waiting.oldest_us is None else max(0.0, lake.now().timestamp() - waiting.oldest_us / 1e6)
    pending = status.pending_batches
    passed = age_s <= seconds(table.checks.max_lag) and pending == 0
    lookback = table.changes.lookback if table.changes and scope == "lookback" else "two hours"
    listed = f"The listing of {_place(table)}, {lookback} back, was compared with the ledger of {count_text(status.objects, 'object')}"
    if waiting.refs:
        text = (
            f"{listed}: {count_text(len(waiting.refs), 'object is', 'objects are')} not applied; the oldest landed {_span(age_s)} ago,"
            f" max_lag is {table.checks.max_lag}."
        )
    else:
        text = f"{listed}: all are applied."
    behind = _late_windows(lake, table)
    if behind:
        passed, text = False, f"{text} {behind}"
    if pending:
        text += f" {count_text(pending, 'commit of the changelog is', 'commits of the changelog are')} not in current: materialize it."
    figures: dict[str, float | int | Listing] = {
        "lag seconds": round(age_s, 3),
        "objects waiting": len(waiting.refs),
        "pending batches": pending,
    }
    if waiting.refs:
        figures["first objects waiting"] = _first_waiting(waiting)
    return judged(passed, text, figures)


def _first_waiting(waiting: Arrivals) -> Listing:
    """The objects that have waited longest."""
    first = sorted(waiting.refs, key=lambda ref: ref.modified_us)[:SHOWN]
    rows = tuple((time_text(ref.modified_us, unit="s"), ref.size_bytes, ref.uri) for ref in first)
    return Listing(("landed", "bytes", "object"), rows)


def _place(table: TableSettings) -> str:
    """The location of landed changes, in words."""
    changes = table.changes
    return (changes.uri if changes is not None else None) or "the landing"


def _late_windows(lake: Lake, table: TableSettings) -> str | None:
    """A sentence, if incremental exports end longer ago than one window and `max_lag`."""
    wanted, covered_s = wanted_increments(table), covered_until_s(lake, table)
    if wanted is None or covered_s is None:
        return None
    age_s = lake.now().timestamp() - covered_s
    if age_s <= seconds(wanted.every) + seconds(table.checks.max_lag):
        return None
    return (
        f"Incremental exports are loaded up to {_span(age_s)} ago; every {wanted.every} and max_lag"
        f" {table.checks.max_lag} are allowed."
    )


def rows_match_source(subject: Subject) -> Outcome:
    """Living rows and DescribeTable's count differ by no more than `count_tolerance`.

    DynamoDB updates the count about every six hours:
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
    """
    table, lake = subject.table, subject.lake
    if lake.current(table.name) is None:
        return unknown("the lake has no table yet")
    rows = count_living(lake, require_view(lake, table.name))
    source = describe_source(table)
    if source.unreachable is not None:
        return unknown(f"{table.source_name} cannot be reached ({source.unreachable})", {"rows": rows})
    if source.items is None:
        return unknown(f"DescribeTable of {table.source_name} has no ItemCount", {"rows": rows})
    share = abs(rows - source.items) / max(source.items, 1)
    text = (
        f"The lake has {count_text(rows, 'living row')}, DescribeTable of {table.source_name} counts"
        f" {count_text(source.items, 'item')} (updated about"
        f" every six hours): {share:.2%} apart, {table.checks.count_tolerance:.2%} allowed."
    )
    figures = {"rows": rows, "source items": source.items, "difference": rows - source.items}
    return judged(share <= table.checks.count_tolerance, text, figures)


def quarantine_empty(subject: Subject) -> Outcome:
    """The quarantine is empty. Its reasons never contain values of items."""
    table, lake = subject.table, subject.lake
    groups = list_quarantine(lake, table.name)
    count, objects = sum(group.count for group in groups), table_status(lake, table.name).objects
    if not count and not objects:
        return unknown("no object was read yet")
    if not count:
        text = f"All bytes of the {count_text(objects, 'object')} in the ledger were read as records: the quarantine has no open entry."
        return judged(True, text, {"quarantined": 0, "objects": objects})
    reasons = "; ".join(f"{group.count} × {group.reason}" for group in groups[:5])
    text = f"{count_text(count, 'entry', 'entries')}: {reasons}. See `ddb-lake quarantine show {table.name}`."
    rows = tuple(
        (g.count, time_text(g.first_us, unit="s"), time_text(g.last_us, unit="s"), g.reason) for g in groups[:SHOWN]
    )
    listing = Listing(("entries", "first", "last", "reason"), rows)
    return judged(False, text, {"quarantined": count, "objects": objects, "reasons": listing})


def _span(span_s: float) -> str:
    minutes, rest = divmod(round(span_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
