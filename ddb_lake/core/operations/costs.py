"""What each way in costs a month, by public list prices. Pure: exact decimals in, exact decimals out.

Counted is what AWS charges for getting changes out of a table and into S3. Left out is what every way in has in
common or what rests on agreements: storage and requests in S3, KMS, data transfer, the writes to the table, the
machine that runs the lake, free tiers but that of DynamoDB Streams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

HOURS: Final = 730
"""Hours of a month, as AWS's own calculator has it."""

SECONDS: Final = HOURS * 3600
GB: Final = Decimal(1 << 30)
MILLION: Final = Decimal(1_000_000)

ENVELOPE_BYTES: Final = 600
"""What a change record has beside its images: names, ids, times."""

LAMBDA_GB: Final = Decimal("0.5")
LAMBDA_RECORDS_S: Final = 20_000
"""What a transform handles in a second (`ddb_lake_tests/benchmarks`)."""

FORWARD_RECORDS_S: Final = 2_000
"""What a forwarder handles in a second: it waits for Firehose."""

STREAM_BATCH: Final = 100
BUFFER_BYTES: Final = 1 << 20
"""Records that a trigger hands over at once, and bytes that Firehose hands to a transform at once."""

STREAM_POLLS_S: Final = Decimal(1) / 30
"""How often each shard of a stream is read."""


@dataclass(frozen=True, slots=True)
class Price:
    """A list price in USD, of one `unit`. `source`: who was read; `third_party`: not AWS itself."""

    usd: Decimal
    unit: str
    source: str
    third_party: bool = False


def _price(usd: str, unit: str, service: str, third_party: bool = False) -> Price:
    page = "third parties' price lists" if third_party else "AWS's pricing page"
    return Price(Decimal(usd), unit, f"{service}: {page}, us-east-1", third_party)


PRICES: Final[dict[str, Price]] = {
    "recovery": _price("0.20", "GB-month of table size", "point-in-time recovery"),
    "export": _price("0.10", "GB exported", "DynamoDB export to S3, full or incremental"),
    "capture": _price("0.10", "million change units of 1 KB", "DynamoDB change data capture for Kinesis"),
    "stream_reads": _price("0.20", "million read requests after 2.5 million", "DynamoDB Streams"),
    "shard": _price("0.015", "shard-hour", "Kinesis Data Streams, provisioned"),
    "put": _price("0.014", "million payload units of 25 KB", "Kinesis Data Streams, provisioned"),
    "on_demand": _price("0.04", "stream-hour", "Kinesis Data Streams, on-demand"),
    "on_demand_in": _price("0.08", "GB in", "Kinesis Data Streams, on-demand"),
    "on_demand_out": _price("0.04", "GB out", "Kinesis Data Streams, on-demand"),
    "firehose": _price("0.029", "GB, each record rounded up to 5 KB", "Amazon Data Firehose", third_party=True),
    "lambda_requests": _price("0.20", "million requests", "AWS Lambda", third_party=True),
    "lambda_time": _price("0.0000166667", "GB-second", "AWS Lambda", third_party=True),
}
"""Every price that is used, in one place. They change: compare them with your Region's before you decide."""

FREE_STREAM_READS: Final = Decimal(2_500_000)


@dataclass(frozen=True, slots=True)
class Load:
    """A table and what happens to it. `changes_s`: changes a second, on average, which is also taken as their peak."""

    items: int
    item_bytes: int
    changes_s: Decimal

    @property
    def changes(self) -> Decimal:
        """Changes in a month."""
        return self.changes_s * SECONDS

    @property
    def table_gb(self) -> Decimal:
        """Size of the table."""
        return Decimal(self.items * self.item_bytes) / GB

    @property
    def record_bytes(self) -> int:
        """Size of a change record with both images."""
        return 2 * self.item_bytes + ENVELOPE_BYTES


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a bill: how many units of which price."""

    what: str
    price: str
    units: Decimal

    @property
    def usd(self) -> Decimal:
        """What it costs."""
        return self.units * PRICES[self.price].usd


@dataclass(frozen=True, slots=True)
class Way:
    """A way in, its monthly bill, and how late its changes are. `once_usd`: the first full export."""

    name: str
    parts: tuple[Part, ...]
    latency: str
    retention: str
    once_usd: Decimal

    @property
    def usd(self) -> Decimal:
        """What it costs a month."""
        return sum((part.usd for part in self.parts), Decimal(0))


def ways(load: Load) -> tuple[Way, ...]:
    """Every way in with its monthly cost, in the order of the guide `ways-in`."""
    capture, firehose, transform = _capture(load), _firehose(load), _transform(load)
    return (
        _way(load, "KDS provisioned + Firehose", "1 to 5 min", "24 h to 365 days",
             (capture, *_provisioned(load), firehose, *transform)),
        _way(load, "KDS on-demand + Firehose", "1 to 5 min", "24 h to 365 days",
             (capture, *_on_demand(load), firehose, *transform)),
        _way(load, "Streams + Lambda + Firehose", "1 to 5 min", "24 h",
             (*_forward(load), firehose, *transform)),
        _way(load, "Streams read directly", "about 1 min", "24 h", (_stream_reads(load),)),
        *(
            _way(load, f"incremental exports every {every}", latency, "1 to 35 days",
                 (_recovery(load), _incremental(load)))
            for every, latency in (("15m", "20 to 35 min"), ("1h", "1 to 2 h"), ("24h", "1 to 2 days"))
        ),
        *(
            _way(load, f"full export every {every}", latency, "the export itself",
                 (_recovery(load), _full_exports(load, times)))
            for every, times, latency in (("day", Decimal(HOURS) / 24, "1 to 2 days"), ("week", Decimal(HOURS) / 168, "1 to 2 weeks"))
        ),
    )  # fmt: skip


def _way(load: Load, name: str, latency: str, retention: str, parts: Iterable[Part]) -> Way:
    return Way(name, tuple(parts), latency, retention, load.table_gb * PRICES["export"].usd)


def _capture(load: Load) -> Part:
    return Part("capture of changes", "capture", load.changes * _units(load.item_bytes, 1 << 10) / MILLION)


def _provisioned(load: Load) -> tuple[Part, ...]:
    by_bytes = load.changes_s * load.record_bytes / (1 << 20)
    by_records = load.changes_s / 1000
    shards = max(Decimal(1), _ceiling(by_bytes), _ceiling(by_records))
    puts = load.changes * _units(load.record_bytes, 25 << 10) / MILLION
    return Part("shards", "shard", shards * HOURS), Part("puts", "put", puts)


def _on_demand(load: Load) -> tuple[Part, ...]:
    moved = load.changes * _units(load.record_bytes, 1 << 10) * (1 << 10) / GB
    return (
        Part("stream", "on_demand", Decimal(HOURS)),
        Part("data in", "on_demand_in", moved),
        Part("data out", "on_demand_out", moved),
    )


def _firehose(load: Load) -> Part:
    return Part("Firehose", "firehose", load.changes * _units(load.record_bytes, 5 << 10) * (5 << 10) / GB)


def _transform(load: Load) -> tuple[Part, ...]:
    requests = load.changes * load.record_bytes / BUFFER_BYTES
    return _function("transform", requests, load.changes / LAMBDA_RECORDS_S)


def _forward(load: Load) -> tuple[Part, ...]:
    """The trigger reads the stream for nothing. A batch goes out when it is full, or once a second at most."""
    requests = min(load.changes, max(load.changes / STREAM_BATCH, min(load.changes, Decimal(SECONDS))))
    return _function("forwarder", requests, load.changes / FORWARD_RECORDS_S)


def _function(what: str, requests: Decimal, seconds: Decimal) -> tuple[Part, ...]:
    return (
        Part(f"{what}: requests", "lambda_requests", requests / MILLION),
        Part(f"{what}: time", "lambda_time", seconds * LAMBDA_GB),
    )


def _stream_reads(load: Load) -> Part:
    """A read gives up to 1 MB of one shard; there is about one shard for a thousand changes a second."""
    shards = max(Decimal(1), _ceiling(load.changes_s / 1000))
    reads = shards * STREAM_POLLS_S * SECONDS + load.changes * load.record_bytes / (1 << 20)
    return Part("reads", "stream_reads", max(Decimal(0), reads - FREE_STREAM_READS) / MILLION)


def _recovery(load: Load) -> Part:
    return Part("point-in-time recovery", "recovery", load.table_gb)


def _incremental(load: Load) -> Part:
    """Charged is what is read of the log: it does not depend on how it is cut into windows."""
    return Part("incremental exports", "export", load.changes * load.record_bytes / GB)


def _full_exports(load: Load, times: Decimal) -> Part:
    return Part("full exports", "export", load.table_gb * times)


def _units(size: int, unit: int) -> int:
    """How many units a record of `size` bytes is charged as: begun ones count, and at least one."""
    return max(1, -(-size // unit))


def _ceiling(value: Decimal) -> Decimal:
    return value.to_integral_value(ROUND_CEILING)
