"""What a reader of streams cannot learn from the streams alone: gaps before it began, and what it must refuse."""

from __future__ import annotations

from collections.abc import Sequence

from ddb_lake.config import TableSettings
from ddb_lake.core.capture.checkpoints import trimmed
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.capture.shards import RETENTION_US, Stream
from ddb_lake.core.layout.firehose_paths import arrival_hour
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import ConfigError
from ddb_lake.lake.state import base_export
from ddb_lake.pipeline.open_lake import Lake


def check_view(table: TableSettings, streams: Sequence[Stream], begun: bool) -> None:
    """Raise ConfigError if there is nothing to read, or what is captured now does not say what items become.

    `begun`: the table's streams were read before; that there is none now is a gap then.
    """
    name = table.source_name
    if not streams:
        if begun:
            return
        if table.changes is not None and table.changes.kinesis is not None:
            stream = table.changes.kinesis
            raise ConfigError(
                f"the Kinesis stream {stream} does not exist",
                table=table.name,
                hint=f"aws kinesis create-stream --stream-name {stream}, then aws dynamodb"
                f" enable-kinesis-streaming-destination --table-name {name} --stream-arn <its ARN>",
            )
        raise ConfigError(
            f"{name} has no DynamoDB stream: aws dynamodb update-table --table-name {name}"
            " --stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
        )
    newest = max(streams, key=lambda stream: stream.created_us)
    if newest.view in ("KEYS_ONLY", "OLD_IMAGE"):
        raise ConfigError(
            f"the stream of {name} has StreamViewType {newest.view}, which does not say what an item became:"
            " switch the stream off, and on again with NEW_AND_OLD_IMAGES"
        )


def forgotten(lake: Lake, landing: str, now_us: int, retention_us: int = RETENTION_US) -> list[Gap]:
    """The gap of a lost checkpoint, if landed objects show that the stream was last read before what it still keeps."""
    if not lake.objects.reachable(landing):
        return []
    hours = [hour for ref in lake.objects.list(landing) if (hour := arrival_hour(ref.uri))]
    last_us = int(max(hours).timestamp() * 1_000_000) if hours else now_us
    reason = "the reader's checkpoint is gone, and the stream was not read for as long as it keeps records"
    return trimmed(last_us, now_us, reason, retention_us)


def before_the_stream(lake: Lake, table: TableSettings, began_us: int, now_us: int) -> list[Gap]:
    """The gap between the lake's base export and a stream that is read since `began_us`.

    None if changes also arrive in another way: those may cover that time.
    """
    base = base_export(lake.current(table.name))
    if base is None or base.export_us >= began_us or (table.changes is not None and table.changes.uri is not None):
        return []
    reason = "the lake's base export is older than the oldest record of the stream when reading began"
    return [Gap("lost", base.export_us, began_us, reason, now_us)]


def gap_text(table: str, gap: Gap) -> str:
    """A gap as text, with the step that repairs it."""
    since = "from the beginning" if gap.from_us <= 0 else f"from {time_text(gap.from_us, unit='s')}"
    interval = f"{since} to {time_text(gap.to_us, unit='s')}"
    repair = f"`ddb-lake repair {table} --gaps` repairs that, or a full export taken some minutes after its end"
    return f"Changes of {table} {interval} may be missing: {gap.reason}; {repair}."
