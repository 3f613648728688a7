"""What the doctor asks of a table that is read from its DynamoDB stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.finding import Finding, Report, failing
from ddb_lake.cli.output.quantities import counted

if TYPE_CHECKING:
    from ddb_lake.config import TableSettings

_ALLOW = "let this identity dynamodb:ListStreams, DescribeStream, GetShardIterator and GetRecords on `<table>/stream/*`"
_BOTH = "NEW_AND_OLD_IMAGES"


def examine_stream(report: Report, table: TableSettings) -> None:
    """Whether the stream is on, says what items become, and can be read; and how long that is put off at most."""
    from ddb_lake.aws.streams import TableStreams

    check, name = f"{table.name}: stream", table.source_name
    enable = (
        f"aws dynamodb update-table --table-name {name}"
        f" --stream-specification StreamEnabled=true,StreamViewType={_BOTH}"
    )
    change = f"switch the stream off (StreamEnabled=false) and on again: {enable}; then take a full export"
    with failing(report, check, _ALLOW):
        source = TableStreams(table)
        running = [stream for stream in map(source.describe, source.streams()) if stream.running]
        if not running:
            report(Finding(check, "fail", f"{name} has no stream that is on: no changes are captured", enable))
            return
        stream = running[-1]
        if stream.view == _BOTH:
            said = f"on, {_BOTH}, {counted(len(stream.shards), 'shard')}; records are kept for 24 hours, so read it daily at least"
            report(Finding(check, "ok", said))
        elif stream.view == "NEW_IMAGE":
            said = "on, NEW_IMAGE: enough for exact items, but the changelog lacks what items were before"
            report(Finding(check, "warn", said, change))
        else:
            said = f"on, {stream.view}: it does not say what an item became, so nothing can be built from it"
            report(Finding(check, "fail", said, change))
