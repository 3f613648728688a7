"""The monthly cost of each way to get changes into the lake. Pure and exact: decimals only.

The cost covers what AWS charges for reading changes from a table and writing them to S3. It leaves out what every way
has in common and what depends on agreements: storage and requests in S3, KMS, data transfer, the writes to the table,
the machine that runs the lake, and free tiers except that of DynamoDB Streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from ddb_lake.core.operations.prices import Price

HOURS: Final = 730
"""Hours of a month, as the AWS Pricing Calculator counts them (https://calculator.aws/)."""

SECONDS: Final = HOURS * 3600
GB: Final = Decimal(1 << 30)
MILLION: Final = Decimal(1_000_000)

ENVELOPE_BYTES: Final = 600
"""Size of a change record without its images: names, ids, times."""

LAMBDA_GB: Final = Decimal("0.5")
"""Memory of a function."""

LAMBDA_RECORDS_S: Final = 20_000
"""Records that a transform handles in a second (measured by `ddb_lake_tests/benchmarks`)."""

FORWARD_RECORDS_S: Final = 2_000
"""Records that a forwarder handles in a second: it waits for Firehose."""

STREAM_BATCH: Final = 100
"""Records of one call of a function by a stream's trigger."""

BUFFER_BYTES: Final = 1 << 20
"""Bytes of one call of a transform by Firehose."""

STREAM_POLLS_S: Final = Decimal(1) / 30
"""Reads of each shard of a stream in a second."""


FREE_STREAM_READS: Final = Decimal(2_500_000)
"""Reads of DynamoDB Streams that are free each month (https://aws.amazon.com/dynamodb/pricing/)."""


@dataclass(frozen=True, slots=True)
class Load:
    """A table and its traffic. `changes_s`: changes a second on average; the peak is taken to be the same."""

    items: int
    item_bytes: int
    changes_s: Decimal

    @property
    def changes(self) -> Decimal:
        """Changes in a month."""
        return self.changes_s * SECONDS

    @property
    def table_gb(self) -> Decimal:
        """Size of the table in GB (2^30 bytes)."""
        return Decimal(self.items * self.item_bytes) / GB

    @property
    def record_bytes(self) -> int:
        """Size of a change record with both images."""
        return 2 * self.item_bytes + ENVELOPE_BYTES


@dataclass(frozen=True, slots=True)
class Usage:
    """A quantity that AWS charges: the number of units, and the name of their price."""

    what: str
    price: str
    units: Decimal


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a bill: a quantity, and its cost in a month."""

    what: str
    price: str
    units: Decimal
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Way:
    """A way to get changes into the lake.

    Args:
        name: as in the guide `ways-in`.
        parts: its monthly bill.
        latency: how late a change is in the lake.
        retention: how long changes can be read again.
        once_usd: the cost of the first full export.
    """

    name: str
    parts: tuple[Part, ...]
    latency: str
    retention: str
    once_usd: Decimal

    @property
    def usd(self) -> Decimal:
        """The cost of a month."""
        return sum((part.usd for part in self.parts), Decimal(0))


def ways(load: Load, prices: Mapping[str, Price]) -> tuple[Way, ...]:
    """Every way to get changes into the lake, with its monthly cost, in the order of the guide `ways-in`."""

    def way(name: str, latency: str, retention: str, *usages: Usage) -> Way:
        parts = tuple(
            Part(usage.what, usage.price, usage.units, usage.units * prices[usage.price].usd) for usage in usages
        )
        return Way(name, parts, latency, retention, load.table_gb * prices["export"].usd)

    capture, firehose, transform = _capture(load), _firehose(load), _transform(load)
    recovery, incremental = _recovery(load), _incremental(load)
    minutes, days, recoverable = "1 to 5 min", "24 h to 365 days", "1 to 35 days"
    return (
        way("KDS provisioned + Firehose", minutes, days, capture, *_provisioned(load), firehose, *transform),
        way("KDS on-demand + Firehose", minutes, days, capture, *_on_demand(load), firehose, *transform),
        way("Streams + Lambda + Firehose", minutes, "24 h", *_forward(load), firehose, *transform),
        way("Streams read directly", "about 1 min", "24 h", _stream_reads(load)),
        way("KDS read directly", "about 1 min", days, capture, *_provisioned(load)),
        way("KDS, enhanced fan-out", "seconds", days, capture, *_provisioned(load), *_fan_out(load)),
        way("incremental exports every 15m", "20 to 35 min", recoverable, recovery, incremental),
        way("incremental exports every 1h", "1 to 2 h", recoverable, recovery, incremental),
        way("incremental exports every 24h", "1 to 2 days", recoverable, recovery, incremental),
        way("full export every day", "1 to 2 days", "the export itself", recovery, _full_exports(load, every_h=24)),
        way("full export every week", "1 to 2 weeks", "the export itself", recovery, _full_exports(load, every_h=168)),
    )


def _capture(load: Load) -> Usage:
    return Usage("capture of changes", "capture", load.changes * _units(load.item_bytes, 1 << 10) / MILLION)


def _provisioned(load: Load) -> tuple[Usage, ...]:
    puts = load.changes * _units(load.record_bytes, 25 << 10) / MILLION
    return Usage("shards", "shard", _shards(load) * HOURS), Usage("puts", "put", puts)


def _shards(load: Load) -> Decimal:
    """The shards of a provisioned stream. One takes 1 MB and 1,000 records a second."""
    return max(Decimal(1), _ceiling(load.changes_s * load.record_bytes / (1 << 20)), _ceiling(load.changes_s / 1000))


def _fan_out(load: Load) -> tuple[Usage, ...]:
    """One consumer of a provisioned stream (https://aws.amazon.com/kinesis/data-streams/pricing/)."""
    return (
        Usage("consumer", "fan_out", _shards(load) * HOURS),
        Usage("data out", "fan_out_out", load.changes * load.record_bytes / GB),
    )


def _on_demand(load: Load) -> tuple[Usage, ...]:
    moved = load.changes * _units(load.record_bytes, 1 << 10) * (1 << 10) / GB
    return (
        Usage("stream", "on_demand", Decimal(HOURS)),
        Usage("data in", "on_demand_in", moved),
        Usage("data out", "on_demand_out", moved),
    )


def _firehose(load: Load) -> Usage:
    return Usage("Firehose", "firehose", load.changes * _units(load.record_bytes, 5 << 10) * (5 << 10) / GB)


def _transform(load: Load) -> tuple[Usage, ...]:
    requests = load.changes * load.record_bytes / BUFFER_BYTES
    return _function("transform", requests, load.changes / LAMBDA_RECORDS_S)


def _forward(load: Load) -> tuple[Usage, ...]:
    """Reads by a trigger are free. A batch is sent when it is full, otherwise once a second."""
    requests = min(load.changes, max(load.changes / STREAM_BATCH, min(load.changes, Decimal(SECONDS))))
    return _function("forwarder", requests, load.changes / FORWARD_RECORDS_S)


def _function(what: str, requests: Decimal, seconds: Decimal) -> tuple[Usage, ...]:
    return (
        Usage(f"{what}: requests", "lambda_requests", requests / MILLION),
        Usage(f"{what}: time", "lambda_time", seconds * LAMBDA_GB),
    )


def _stream_reads(load: Load) -> Usage:
    """A read returns up to 1 MB of one shard; there is about one shard for 1,000 changes a second."""
    shards = max(Decimal(1), _ceiling(load.changes_s / 1000))
    reads = shards * STREAM_POLLS_S * SECONDS + load.changes * load.record_bytes / (1 << 20)
    return Usage("reads", "stream_reads", max(Decimal(0), reads - FREE_STREAM_READS) / MILLION)


def _recovery(load: Load) -> Usage:
    return Usage("point-in-time recovery", "recovery", load.table_gb)


def _incremental(load: Load) -> Usage:
    """AWS charges the log that it reads, which does not depend on the length of the windows."""
    return Usage("incremental exports", "export", load.changes * load.record_bytes / GB)


def _full_exports(load: Load, every_h: int) -> Usage:
    return Usage("full exports", "export", load.table_gb * Decimal(HOURS) / every_h)


def _units(size: int, unit: int) -> int:
    """The units that a record of `size` bytes is charged as: rounded up, at least one."""
    return max(1, -(-size // unit))


def _ceiling(value: Decimal) -> Decimal:
    return value.to_integral_value(ROUND_CEILING)
