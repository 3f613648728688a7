"""Whether what AWS counted on the way is in the lake, and whether what landed was ingested before it was removed.

`pipeline.verify.conservation` and `pipeline.plan.sightings` read and compare. Here what they find becomes outcomes of checks.
"""

from ddb_lake.checks.check import Subject
from ddb_lake.core.capture.sightings import MOST, Sighting
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.verify.outcome import Listing, Outcome, judged, unknown
from ddb_lake.pipeline.plan.sightings import SeenObjects, examine_seen_objects
from ddb_lake.pipeline.verify.conservation import Comparison, Count, NotComparedError, compare_counts, is_certain

SHOWN = 25
"""The hours or objects that an evaluation lists at most."""


def conservation(subject: Subject) -> Outcome:
    """The records that Kinesis accepted and Firehose delivered are in the lake."""
    try:
        found = compare_counts(subject.lake, subject.table)
    except NotComparedError as reason:
        return unknown(str(reason))
    return conservation_outcome(subject.table.name, found)


def conservation_outcome(table: str, found: Comparison) -> Outcome:
    """The outcome of a comparison: red for a certain shortage, yellow for one that may be explained, and for duplicates.

    It is unknown without a shortage if the Kinesis destination cannot be read, or if a delivery stream's count is absent and no
    count of Kinesis makes up for it.
    """
    short = [count for count in found.counts if count.found.shortages]
    figures = _figures(found)
    compared = "; ".join(_compared(count) for count in found.counts)
    span = f"From {time_text(found.from_us, unit='min')} to {time_text(found.to_us, unit='min')}"
    text = f"{span}, by CloudWatch and the ledger: {compared}."
    if found.notes:
        text += f" Not compared: {'; '.join(found.notes)}."
    if short:
        return judged(False, f"{text} {_short_text(table, found)}", figures, certain=is_certain(found))
    if found.fault is not None:
        return unknown(f"{found.fault}; what could be compared is equal: {text}", figures)
    if found.notes and found.accepted is None:
        return unknown(f"{'; '.join(found.notes)}; what could be compared is equal: {text}", figures)
    if any(count.has_duplicates for count in found.counts):
        text += (
            " The lake has notably more: Firehose read records again, or objects of other sources were copied below the"
            " table's prefixes. Duplicates are not applied twice, but they can hide a loss of as many records."
        )
        return judged(False, text, figures, certain=False)
    return judged(True, text, figures)


def _compared(count: Count) -> str:
    balance = count.found
    text = f"{count.service} {count.stage} {count_text(balance.counted, 'record')}, the lake has {balance.held:,}"
    if count.failed and balance.held > balance.counted:
        text += ", with records of failed deliveries, which that count may lack"
    if balance.missing:
        text += f", {balance.missing:,} are missing"
    if balance.repaired:
        text += f", {balance.repaired:,} were missing and are repaired by exports"
    return text


def _short_text(table: str, found: Comparison) -> str:
    if found.waiting:
        return (
            f"{count_text(found.waiting, 'landed object of that time is', 'landed objects of that time are')} not"
            " applied yet, and may have them."
        )
    delivered = any(count.found.shortages for count in found.delivered)
    if any(count.partitioned for count in found.delivered):
        return (
            "The delivery stream partitions its records. Set `changes.delivery_stream` on all its tables, so that they are"
            " counted together; records of prefixes that belong to no table of this lake cannot be counted."
        )
    if not is_certain(found):
        return (
            "Firehose delivered fewer than Kinesis accepted: its function drops records, or they failed. Set"
            " `changes.errors_uri` to ingest those that failed."
        )
    cause = (
        "Objects were removed before they were applied." if delivered else "They were not delivered to the prefixes."
    )
    return f"{cause} The time is recorded as a gap: `ddb-lake repair {table} --gaps` exports and applies it."


def _figures(found: Comparison) -> dict[str, str | int | float | bool | Listing]:
    figures: dict[str, str | int | float | bool | Listing] = {
        "from": time_text(found.from_us, unit="min"),
        "to": time_text(found.to_us, unit="min"),
        "objects": found.objects,
        **{f"records {name}": value for name, value in found.facts.items()},
        "objects waiting": found.waiting,
    }
    for count in found.counts:
        figures[f"{count.stage}, {count.service}"] = count.found.counted
        figures[f"in the lake, {count.service}"] = count.found.held
    rows = tuple(
        (time_text(short.from_us, unit="min"), time_text(short.to_us, unit="min"), short.missing, count.service)
        for count in found.counts
        for short in count.found.shortages
    )
    if rows:
        figures["missing records"] = Listing(("from", "to", "records", "counted by"), rows[:SHOWN])
    return figures


def objects_intact(subject: Subject) -> Outcome:
    """No object was removed between the first time it was seen and its ingestion."""
    found = examine_seen_objects(subject.lake, subject.table)
    if found == SeenObjects() and subject.lake.changes(subject.table.name) is None:
        return unknown("no object has been seen or ingested yet")
    return objects_outcome(subject.table.name, found)


def objects_outcome(table: str, found: SeenObjects) -> Outcome:
    """The outcome of an examination: red if an object is gone that no export makes up for."""
    figures: dict[str, str | int | float | bool | Listing] = {
        "objects waiting": len(found.waiting),
        "ingested since the last examination": found.ingested,
        "objects lost": len(found.lost),
        "objects repaired": found.repaired,
    }
    if found.lost:
        first = found.lost[0]
        figures["lost objects"] = Listing(("object", "bytes", "written", "first seen", "by"), _rows(found.lost))
        text = (
            f"{count_text(len(found.lost), 'object was', 'objects were')} removed before ingestion, such as {_lost_text(first)}. The time"
            f" is recorded as gaps: `ddb-lake repair {table} --gaps` exports and applies it.{_undelete_text(first.uri)}"
        )
        return judged(False, text, figures)
    if found.is_full:
        return unknown(f"more than {MOST:,} landed objects wait, and only so many are remembered", figures)
    text = (
        f"Of the objects that listings and notifications showed before they were applied, {found.ingested:,} were ingested"
        f" since the last examination, {len(found.waiting):,} are still there"
    )
    text += (
        f", and {found.repaired:,} are gone and made up for by exports." if found.repaired else ", and none is gone."
    )
    return judged(True, text, figures)


def _rows(lost: tuple[Sighting, ...]) -> tuple[tuple[str | int | bool, ...], ...]:
    return tuple(
        (
            one.uri,
            "unknown" if one.size_bytes is None else str(one.size_bytes),
            time_text(one.modified_us, unit="s"),
            time_text(one.seen_us, unit="s"),
            one.seen_by,
        )
        for one in lost[:SHOWN]
    )


def _lost_text(one: Sighting) -> str:
    size = "size unknown" if one.size_bytes is None else f"{one.size_bytes:,} bytes"
    return f"{one.uri} ({size}, shown by a {one.seen_by} at {time_text(one.seen_us, unit='s')})"


def _undelete_text(uri: str) -> str:
    """How to bring back an object of a bucket that keeps versions.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManagingDelMarkers.html
    """
    if not uri.startswith("s3://"):
        return ""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return (
        f" If the bucket keeps versions, `aws s3api list-object-versions --bucket {bucket} --prefix '{key}'` shows the delete"
        f" marker, and `aws s3api delete-object --bucket {bucket} --key '{key}' --version-id ID-OF-THE-MARKER` brings the"
        " object back; it is then applied like any other."
    )
