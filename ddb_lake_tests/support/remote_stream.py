"""The `StreamSource` of a table whose streams are in another process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddb_lake.aws.streams import Page
from ddb_lake.core.capture.shards import ShardPosition, Stream
from ddb_lake.core.capture.stream_lines import StreamLine, dynamodb_line, kinesis_line


class RemoteTable:
    """Reads the streams of one table of a service, which has the method `call(table, method, *arguments)`."""

    def __init__(self, service: Any, name: str) -> None:
        self._service, self._name = service, name

    def table_id(self) -> str | None:
        return self._call("table_id")

    def streams(self) -> list[str]:
        return self._call("streams")

    def describe(self, arn: str) -> Stream:
        return self._call("describe", arn)

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        return self._call("iterator", arn, shard_id, position)

    def records(self, iterator: str) -> Page:
        return self._call("records", iterator)

    def line(self, record: Mapping[str, Any], arn: str, shard_id: str) -> StreamLine:
        return kinesis_line(record, shard_id) if "Data" in record else dynamodb_line(record, arn)

    def _call(self, method: str, *arguments: Any) -> Any:
        return self._service.call(self._name, method, *arguments)
