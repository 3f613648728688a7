"""Reading what is needed to compare the records that AWS counted with those in the lake, and keeping what that shows.

`core.capture.conservation` compares. The counts are CloudWatch metrics, which cost no capacity of the table; the lake's side is
the ledger. A shortage is recorded as a gap, which `repair --gaps` repairs.

Kinesis: https://docs.aws.amazon.com/streams/latest/dev/monitoring-with-cloudwatch.html
Firehose: https://docs.aws.amazon.com/firehose/latest/dev/monitoring-with-cloudwatch-metrics.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ddb_lake.aws.cloudwatch import Metric, exists, hourly_values
from ddb_lake.aws.kinesis import observe_destination
from ddb_lake.aws.session import client
from ddb_lake.aws.source import source_client
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.conservation import (
    HOUR_US,
    LONGEST_BUFFER_US,
    Anchor,
    Balance,
    HourInLake,
    LandedObject,
    balance,
    hours_between,
    hours_in_lake,
    next_anchor,
)
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.layout.firehose_paths import is_below, parse_firehose_key
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal
from ddb_lake.errors import TerminalError
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.capture.gap_log import all_gaps, record_gap, update_log
from ddb_lake.pipeline.capture.kinesis_monitor import DELAY_US
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import earliest_arrival_us, landing_roots, list_unapplied

SETTLE_US: Final = 20 * 60 * 1_000_000
"""How long after its end an hour is compared: Firehose buffers for up to 15 minutes, and metrics come some minutes later."""

WINDOW_US: Final = 24 * HOUR_US
"""The time that is compared, at least, once the lake is so old; at most twice as much while all balances."""

LONGEST_US: Final = 14 * 24 * HOUR_US
"""The time that is compared at most. A shortage that is older is a recorded gap."""

FIREHOSES: Final = 5
"""The most delivery streams that are compared: those of the newest objects."""

LATEST_POINT_US: Final = 30 * 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class Count:
    """What a service counted, against the lake.

    Attributes:
        service: the resource in words.
        stage: what its count means.
        found: the balance.
        processed: whether a function transforms the records.
        partitioned: whether the records go to several prefixes.
        failed: the records of error objects, which the count may lack: AWS does not document it.
    """

    service: str
    stage: str
    found: Balance
    processed: bool = False
    partitioned: bool = False
    failed: int = 0

    @property
    def has_duplicates(self) -> bool:
        """Whether the lake has notably more records than were counted."""
        return self.found.has_duplicates(self.failed)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of one comparison.

    Attributes:
        from_us: the beginning (inclusive) of the hours that were compared.
        to_us: their end (exclusive).
        accepted: the count of Kinesis; None if there is none.
        delivered: the counts of the delivery streams.
        objects: the ingested objects of these hours.
        facts: of the records of these objects: `new`, `duplicates`, `rejected`, `of other tables`.
        waiting: landed objects that are not applied and that may have the missing records.
        notes: what CloudWatch has no values of, in clauses.
        fault: why the table's Kinesis destination cannot be read, a clause; None if it was read. The stream that was observed last
            is compared instead.
    """

    from_us: int
    to_us: int
    accepted: Count | None = None
    delivered: tuple[Count, ...] = ()
    objects: int = 0
    facts: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    notes: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def counts(self) -> tuple[Count, ...]:
        """All counts that were compared."""
        return (*((self.accepted,) if self.accepted else ()), *self.delivered)


class NotComparedError(Exception):
    """Nothing can be compared now. Its text is the reason, a clause."""


def compare_counts(lake: Lake, table: TableSettings) -> Comparison:
    """Compare the counts of Kinesis and Firehose with the ledger; record a shortage as a gap, and move the anchor.

    Args:
        lake: an open lake.
        table: the settings of a table whose changes land in S3.

    Raises:
        NotComparedError: there is nothing to compare yet, or no count.
        TransientError: CloudWatch cannot be read.
    """
    if table.filter is not None and table.changes is not None and table.changes.kinesis is not None:
        raise NotComparedError("`filter` leaves records out before they land")
    log = changes_state(lake.changes(table.name))
    now_us = int(lake.now().timestamp() * 1_000_000)
    with lake.session() as session:
        first_us = _first_us(session, lake, table)
        objects = _objects(session, lake, table, now_us - LONGEST_US)
    if first_us is None:
        raise NotComparedError(_OLD_LEDGER if read_ledger(lake, table.name).rows else _NOTHING_YET)
    kinesis, fault = _kinesis_stream(lake, table, now_us)
    readings = _readings(table, kinesis, _firehoses(table, objects))
    if not readings:
        raise NotComparedError("the table has no Kinesis destination, and no delivery stream is known; " + _SET_STREAM)
    to_us = (now_us - SETTLE_US) // HOUR_US * HOUR_US
    anchor = log.balanced
    if anchor is None or anchor.until_us < now_us - LONGEST_US:
        anchor = Anchor(max(first_us, to_us - 2 * WINDOW_US))
    if not hours_between(anchor.until_us, to_us):
        raise NotComparedError(_TOO_EARLY)
    _read_metrics(readings, anchor.until_us, now_us)
    to_us = min([to_us, *(until for r in readings if (until := r.delivered_until(now_us)) is not None)])
    hours = hours_between(anchor.until_us, to_us)
    if not hours:
        raise NotComparedError(_TOO_EARLY)
    repaired = [(gap.from_us, gap.to_us) for gap in all_gaps(lake, table.name) if not gap.is_open]
    compared: dict[str, Count] = {}
    notes: list[str] = []
    for reading in readings:
        own = [o for o in objects if reading.is_of(o.uri)]
        in_lake = hours_in_lake(own, [hours[0] - HOUR_US, *hours])
        known = anchor.surplus.get(reading.key)
        comparable = hours if known is not None else reading.hours_with_data(hours, in_lake)
        if not reading.has_data or not comparable:
            notes.append(f"CloudWatch has no {reading.metrics[0].name} of {reading.name}")
            continue
        found = balance(comparable, reading.counted(), in_lake, known, repaired)
        failed = sum(o.records for o in own if _is_error_output(table, o.uri) and o.hour_us >= comparable[0])
        compared[reading.key] = reading.count(found, failed)
    if not compared:
        raise NotComparedError(" and ".join([*([fault] if fault else []), *notes]))
    to_us = hours[-1] + HOUR_US
    result = Comparison(
        anchor.until_us,
        to_us,
        accepted=next((count for key, count in compared.items() if key.startswith(_KINESIS)), None),
        delivered=tuple(count for key, count in compared.items() if not key.startswith(_KINESIS)),
        objects=sum(anchor.until_us <= o.hour_us < to_us for o in objects),
        facts=_facts(objects, anchor.until_us, to_us),
        notes=tuple(notes),
        fault=fault,
    )
    result = replace(result, waiting=_waiting(lake, table, result))
    if to_us - anchor.until_us >= 2 * WINDOW_US:  # one commit a day
        anchor = next_anchor({key: count.found for key, count in compared.items()}, to_us - WINDOW_US, anchor)
    _keep(lake, table, result, anchor)
    return result


_NOTHING_YET = "no object has been ingested yet"
_OLD_LEDGER = "no object was ingested by a release that keeps the needed figures"
_TOO_EARLY = "no whole hour after that of the first ingested object is delivered yet"
_SET_STREAM = "`changes.delivery_stream` names one"
_KINESIS, _FIREHOSE = "kinesis:", "firehose:"


# --- the counts


@dataclass(slots=True)
class _Reading:
    """The metrics of one resource. The first one is its count of records; `values` are in the order of `metrics`."""

    key: str
    name: str
    client: Any
    metrics: tuple[Metric, ...]
    values: list[dict[int, float]] = field(default_factory=list)
    has_data: bool = False

    def is_of(self, uri: str) -> bool:
        """Whether the count includes the records of an object."""
        return self.key.startswith(_KINESIS) or _stream_of(uri, self.name) == self.name

    def counted(self) -> dict[int, int]:
        """The records by hour."""
        return {hour: round(value) for hour, value in self.values[0].items()}

    def hours_with_data(self, hours: Sequence[int], lake: Mapping[int, HourInLake]) -> Sequence[int]:
        """`hours` without those at the beginning that have records in the lake and no data in CloudWatch.

        The resource did not exist then, or CloudWatch has no data of it any more.
        """
        counted = self.counted()
        first = min((hour for hour in hours if hour in counted), default=hours[-1] + HOUR_US)
        if not any(lake[hour].records for hour in hours if hour < first):
            return hours
        return [hour for hour in hours if hour >= first]

    def count(self, found: Balance, failed: int) -> Count:
        """The balance with what else is known of the resource. `failed`: the records of error objects."""
        if self.key.startswith(_KINESIS):
            return Count(f"the Kinesis stream {self.name}", "accepted", found)
        _, _, processed, partitions = self.values
        name = f"the delivery stream {self.name}"
        return Count(name, "delivered", found, bool(processed), bool(partitions), failed)

    def delivered_until(self, now_us: int) -> int | None:
        """The end of the last hour whose records are delivered, if a delivery stream is known to be behind."""
        if self.key.startswith(_KINESIS) or not self.values[1]:
            return None
        at_us = max(self.values[1])
        age_us = round(self.values[1][at_us] * 1_000_000)
        if at_us < now_us - LATEST_POINT_US or age_us <= LONGEST_BUFFER_US + SETTLE_US:
            return None
        return (at_us - age_us) // HOUR_US * HOUR_US


def _readings(table: TableSettings, kinesis: str | None, firehoses: Sequence[str]) -> list[_Reading]:
    source = table.source
    theirs = source_client(table, "cloudwatch")
    ours = theirs if source.role_arn is None and source.region is None else client("cloudwatch")
    found = []
    if kinesis is not None:
        metric = Metric("AWS/Kinesis", "IncomingRecords", ("StreamName", kinesis))
        found.append(_Reading(_KINESIS + kinesis, kinesis, theirs, (metric,)))
    for name in firehoses:
        of = "AWS/Firehose", ("DeliveryStreamName", name)
        metrics = (
            Metric(of[0], "DeliveryToS3.Records", of[1]),
            Metric(of[0], "DeliveryToS3.DataFreshness", of[1], "Maximum", 900),
            Metric(of[0], "SucceedProcessing.Records", of[1]),
            Metric(of[0], "PartitionCount", of[1], "Maximum"),
        )
        found.append(_Reading(_FIREHOSE + name, name, ours, metrics))
    return found


def _read_metrics(readings: Sequence[_Reading], from_us: int, now_us: int) -> None:
    """Read all metrics: in one request, or in two if the source is reached with another role or in another Region."""
    for cloudwatch in {id(reading.client): reading.client for reading in readings}.values():
        own = [reading for reading in readings if reading.client is cloudwatch]
        values = hourly_values(cloudwatch, [metric for reading in own for metric in reading.metrics], from_us, now_us)
        for reading in own:
            reading.values, values = values[: len(reading.metrics)], values[len(reading.metrics) :]
            # an idle resource has no data points, and neither has one whose name is wrong
            reading.has_data = bool(reading.values[0]) or exists(cloudwatch, reading.metrics[0])


def _kinesis_stream(lake: Lake, table: TableSettings, now_us: int) -> tuple[str | None, str | None]:
    """The name of the Kinesis stream that the table feeds, or fed when it was last seen; and why that is not known now."""
    seen = changes_state(lake.changes(table.name)).observed
    try:
        arn, fault = observe_destination(table, now_us).stream, None
    except TerminalError as error:
        arn, fault = None, f"the Kinesis destination of {table.source_name} cannot be read ({error})"
    arn = arn or (seen.stream if seen is not None else None)
    return (arn.rpartition("/")[2] if arn is not None else None), fault


def _firehoses(table: TableSettings, objects: Sequence[LandedObject]) -> list[str]:
    """The names of the delivery streams: the configured one, and those in the names of the newest objects."""
    configured = table.changes.delivery_stream if table.changes is not None else None
    names: dict[str, None] = {configured: None} if configured else {}
    for found in sorted(objects, key=lambda o: o.hour_us, reverse=True):
        name = _stream_of(found.uri, configured)
        if name is not None and len(names) < FIREHOSES:
            names.setdefault(name)
    return list(names)


def _stream_of(uri: str, known: str | None) -> str | None:
    """The delivery stream in an object's name, which begins with the end of a prefix that has no final slash."""
    named = parse_firehose_key(uri)
    if named is None:
        return None
    return known if known is not None and named.stream.endswith(known) else named.stream


def _is_error_output(table: TableSettings, uri: str) -> bool:
    """Whether an object is below the error prefix, or in the folder of one of Firehose's error types.

    https://docs.aws.amazon.com/firehose/latest/dev/s3-prefixes.html
    """
    errors = table.changes.errors_uri if table.changes is not None else None
    return (errors is not None and is_below(errors.rstrip("/"), uri)) or "/processing-failed/" in uri


# --- the lake


def _landed(lake: Lake, table: TableSettings) -> str:
    """The condition that a ledger's row is of an object that a service delivered to the table's prefixes."""
    own = lake.settings.stream_landing(table)
    roots = [root.uri for root in landing_roots(lake, table) if own is None or root.uri.rstrip("/") != own.rstrip("/")]
    below = " OR ".join(f"starts_with(object, {literal(root)})" for root in roots) or "false"
    return f"({below}) AND NOT contains(object, '/AWSDynamoDB/')"


def ingested_records(lake: Lake, table: TableSettings) -> dict[int, int]:
    """The records of the ingested objects of the last days, by arrival hour (UTC microseconds)."""
    with lake.session() as session:
        objects = _objects(session, lake, table, int(lake.now().timestamp() * 1_000_000) - LONGEST_US)
    hours = sorted({found.hour_us for found in objects})
    return {hour: found.records for hour, found in hours_in_lake(objects, hours).items()}


def _first_us(session: Session, lake: Lake, table: TableSettings) -> int | None:
    """The end of the first hour that can be compared: the figures of all objects after it are in the ledger.

    Objects that an earlier release ingested have no `ingested_at`.
    """
    ((first, without),) = session.rows(
        "SELECT epoch_us(min(arrival_hour) FILTER (ingested_at IS NOT NULL)),"
        " epoch_us(max(arrival_hour) FILTER (ingested_at IS NULL))"
        f" FROM {read_ledger(lake, table.name).sql()} WHERE {_landed(lake, table)}"
    )
    return None if first is None else max(first, without or first) + HOUR_US


def _objects(session: Session, lake: Lake, table: TableSettings, since_us: int) -> list[_Ingested]:
    """The objects of the arrival hours since then, in the ledgers of all tables with the same `delivery_stream`."""
    stream = table.changes.delivery_stream if table.changes is not None else None
    sharing = [
        other
        for other in lake.settings.tables
        if other.name == table.name or (stream and other.changes and other.changes.delivery_stream == stream)
    ]
    found: list[_Ingested] = []
    for other in sharing:
        rows = session.rows(
            "SELECT object, records, epoch_us(arrival_hour), epoch_us(landed_at), new, rejected, other_tables"
            f" FROM {read_ledger(lake, other.name).sql()} WHERE {_landed(lake, other)}"
            f" AND epoch_us(greatest(arrival_hour, landed_at)) >= {since_us}"
        )
        own = other.name == table.name
        for uri, records, hour_us, landed_us, *figures in rows:
            found.append(_Ingested(uri, records, hour_us, landed_us, tuple(figures) if own else None))
    return found


@dataclass(frozen=True, slots=True)
class _Ingested(LandedObject):
    """`figures`: new, rejected, and other tables' records; None if another table's ledger has the object."""

    figures: tuple[int | None, int | None, int | None] | None = None


def _facts(objects: Sequence[_Ingested], from_us: int, to_us: int) -> dict[str, int]:
    """What became of the records of the objects of some hours, by this table's ledger."""
    own = [o for o in objects if o.figures is not None and from_us <= o.hour_us < to_us]
    new, rejected, others = (sum((o.figures or ())[n] or 0 for o in own) for n in range(3))
    records = sum(o.records for o in own)
    return {
        "new": new,
        "duplicates": records - new - rejected - others,
        "rejected": rejected,
        "of other tables": others,
    }


def _waiting(lake: Lake, table: TableSettings, result: Comparison) -> int:
    """The landed objects that are not applied and arrived before the end of a shortage. Listed only if there is one."""
    ends = [shortage.to_us for count in result.counts for shortage in count.found.shortages]
    if not ends:
        return 0
    waiting = list_unapplied(lake, table, "lookback").refs
    return sum((earliest_arrival_us(ref) or 0) < max(ends) for ref in waiting)


# --- what is kept


def _keep(lake: Lake, table: TableSettings, result: Comparison, anchor: Anchor) -> None:
    """Record certain shortages as gaps, and store the anchor if it has moved."""
    now_us = int(lake.now().timestamp() * 1_000_000)
    if is_certain(result):
        for count in result.counts:
            for shortage in count.found.shortages:
                reason = (
                    f"{count.service} {count.stage} {count_text(shortage.missing, 'record')} that the lake does not"
                    " have: an object was removed"
                    " before it was applied, or was not delivered"
                )
                record_gap(lake, table.name, Gap("lost", shortage.from_us - DELAY_US, shortage.to_us, reason, now_us))
    is_short = any(count.found.shortages for count in result.counts)  # what is compared then must not slide on
    if changes_state(lake.changes(table.name)).balanced != anchor and (anchor.surplus or is_short):
        update_log(lake, table.name, lambda state: replace(state, balanced=anchor))


def is_certain(result: Comparison) -> bool:
    """Whether a shortage proves that records are missing.

    It does not while landed objects wait, or if the delivery stream has prefixes beside the table's. A shortage against
    Kinesis alone does not if a function transforms the records: it may drop some.
    """
    if result.waiting or any(count.partitioned for count in result.delivered):
        return False
    if any(count.found.shortages for count in result.delivered):
        return True
    return not any(count.processed for count in result.delivered)
