"""Examinations of a source table: its key, its state, point-in-time recovery, and its change streams."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, fail, ok, warn
from ddb_lake.cli.doctor.subject import TableSubject
from ddb_lake.config.inventory import forget_step, missing_text
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import microseconds
from ddb_lake.errors import DdbLakeError
from ddb_lake.pipeline.table_key import table_key

_LIVE = ("ACTIVE", "UPDATING")
_BOTH_IMAGES = "NEW_AND_OLD_IMAGES"


def examine_key(subject: TableSubject) -> Iterator[Finding]:
    """A key that the configuration leaves out is known to the lake or to DynamoDB."""
    from ddb_lake.executors import open_lake

    table = subject.settings
    with open_lake(subject.lake.settings) as lake:
        if (lake.catalog.kind == "glue" or table.source.role_arn) and subject.lake.credentials is None:
            return
        key = table_key(lake, table.name)
    if key:
        yield ok(", ".join(key))
    else:
        yield warn(
            "not configured, and DescribeTable cannot be called; a full export does not contain it",
            "add `key: [...]` to the table: partition key, then sort key",
        )


def examine_source(subject: TableSubject) -> Iterator[Finding]:
    """The source table can be described, has the configured key, and is active; or `discover` has not found it since a time."""
    table = subject.settings
    if table.source.missing_since is not None:
        yield warn(
            missing_text(table.source_name, microseconds(table.source.missing_since)), forget_step(table.source_name)
        )
        return
    try:
        state = subject.source
    except DdbLakeError as error:
        step = "check `source` (table, region, role_arn), and allow dynamodb:DescribeTable to this identity"
        yield fail(f"{table.source_name}: {error}", hint(subject, str(error)) or step)
        return
    if table.key and set(table.key) != set(state.key):
        found = f"the key of {table.source_name} is {list(state.key)}, the configuration has {list(table.key)}"
        yield fail(found, f"set `key: [{', '.join(state.key)}]`, or name the right source table")
    elif state.status not in _LIVE:
        yield warn(f"{state.arn} is {state.status}", "wait until the table is ACTIVE")
    else:
        yield ok(f"{state.arn}, about {count_text(state.items, 'item')}; {_sample_text(table.checks.sample)}")


def _sample_text(keys: int) -> str:
    """What the check of a sample reads of the source: 0.5 read units for each item of up to 4 KB."""
    if not keys:
        return "checks read no items (`checks.sample: 0`)"
    return f"a check reads {count_text(keys, 'key')} a day, at most {keys / 2:g} read units (`checks.sample`)"


def examine_recovery(subject: TableSubject) -> Iterator[Finding]:
    """Point-in-time recovery is on, which exports require."""
    from ddb_lake.aws.diagnostics import recovery_enabled
    from ddb_lake.core.operations.aws_hints import recovery_command

    if recovery_enabled(subject.settings):
        yield ok("on")
    else:
        yield fail("off: DynamoDB exports nothing without it", recovery_command(subject.settings.source_name))


def examine_kinesis_destinations(subject: TableSubject) -> Iterator[Finding]:
    """Changes go to a Kinesis stream, with times in microseconds."""
    from ddb_lake.aws.diagnostics import kinesis_destinations

    name = subject.settings.source_name
    command = f"aws dynamodb {{}}-kinesis-streaming-destination --table-name {name} --stream-arn {{}}"
    live = [destination for destination in kinesis_destinations(subject.settings) if destination.status in _LIVE]
    if not live:
        step = f"{command.format('enable', 'ARN')}; nothing to do if the changes come by DynamoDB Streams"
        yield warn("none is active: no change records arrive through Kinesis", step)
    for destination in live:
        if destination.precision == "MICROSECOND":
            yield ok(f"{destination.stream_arn}, {destination.precision}")
            continue
        found = f"{destination.stream_arn} has {destination.precision} times: more changes of a key have equal times"
        step = command.format("update", destination.stream_arn) + (
            " --update-kinesis-streaming-configuration ApproximateCreationDateTimePrecision=MICROSECOND"
        )
        yield warn(found, step)


def examine_stream(subject: TableSubject) -> Iterator[Finding]:
    """The stream that is read directly is on, can be read, and has the images that items are built from."""
    changes = subject.settings.changes
    if changes is not None and changes.kinesis is not None:
        yield from _examine_kinesis(subject, changes.kinesis)
        return
    from ddb_lake.aws.streams import TableStreams

    name = subject.settings.source_name
    enable = (
        f"aws dynamodb update-table --table-name {name}"
        f" --stream-specification StreamEnabled=true,StreamViewType={_BOTH_IMAGES}"
    )
    change = f"switch the stream off (StreamEnabled=false) and on again: {enable}; then take a full export"
    source = TableStreams(subject.settings)
    running = [stream for stream in map(source.describe, source.streams()) if stream.running]
    if not running:
        yield fail(f"{name} has no stream that is on: no changes are captured", enable)
        return
    stream = running[-1]
    if stream.view == _BOTH_IMAGES:
        shards = count_text(len(stream.shards), "shard")
        yield ok(f"on, {_BOTH_IMAGES}, {shards}; records are kept for 24 hours, so read it at least once a day")
    elif stream.view == "NEW_IMAGE":
        yield warn("on, NEW_IMAGE: items are exact, but the changelog has no old images", change)
    else:
        yield fail(f"on, {stream.view}: it has no new images, and items cannot be built without them", change)


def _examine_kinesis(subject: TableSubject, stream_name: str) -> Iterator[Finding]:
    from ddb_lake.aws.kinesis_source import KinesisStream

    source, name = KinesisStream(subject.settings), subject.settings.source_name
    found = [source.describe(identity) for identity in source.streams()]
    if not found:
        yield fail(
            f"the Kinesis stream {stream_name} does not exist", f"aws kinesis create-stream --stream-name {stream_name}"
        )
        return
    stream = found[0]
    if not stream.running:
        enable = (
            f"aws dynamodb enable-kinesis-streaming-destination --table-name {name} --stream-arn <ARN of {stream_name}>"
        )
        yield fail(f"changes of {name} are not replicated to the Kinesis stream {stream_name}", enable)
        return
    hours = count_text(stream.retention_us // 3_600_000_000, "hour")
    yield ok(f"on, {count_text(len(stream.shards), 'shard')}; records are kept for {hours}")
    if subject.settings.changes is not None and subject.settings.changes.fan_out is not None:
        yield from _examine_consumer(subject, stream.arn)


def _examine_consumer(subject: TableSubject, identity: str) -> Iterator[Finding]:
    from ddb_lake.aws.kinesis_fan_out import FanOutStream

    source = FanOutStream(subject.settings)
    status = source.consumer_status(identity)
    if status is None:
        yield ok(f"enhanced fan-out: `ddb-lake follow` registers the consumer {source.consumer}, which AWS charges for")
    elif status == "ACTIVE":
        yield ok(f"enhanced fan-out: the consumer {source.consumer} is active")
    else:
        yield warn(f"enhanced fan-out: the consumer {source.consumer} is {status}", "wait until it is active")


def hint(subject: TableSubject, message: str) -> str | None:
    """The next step after an AWS error about this table; None if its message has it."""
    from ddb_lake.aws.source import access_of
    from ddb_lake.core.operations.aws_hints import next_step

    return next_step(message, access_of(subject.settings))
