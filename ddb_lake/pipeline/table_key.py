"""The primary key of a table, from the first place that states it, and what reading its records requires."""

from __future__ import annotations

from ddb_lake.aws.source import describe_source
from ddb_lake.errors import ConfigError
from ddb_lake.lake.state import changes_state, current_state
from ddb_lake.pipeline.apply.object_reader import TableDefinition
from ddb_lake.pipeline.open_lake import Lake


def table_key(lake: Lake, name: str) -> tuple[str, ...]:
    """A table's key attributes, the partition key first.

    The lake's tables state them once they hold anything; before that the configuration does, or else DescribeTable.

    Returns:
        The attributes; empty if none of the three states them.

    Raises:
        ConfigError: the table is not configured, or its configuration contradicts the lake.
    """
    settings = lake.table(name)
    stored = _stored_key(lake, name)
    if stored and settings.key and set(stored) != set(settings.key):
        raise ConfigError(
            f"the lake's key is {list(stored)}, the configuration says {list(settings.key)}; a key cannot "
            "change: correct `key`, or give the new table another name",
            table=name,
        )
    return stored or settings.key or describe_source(settings).key


def table_definition(lake: Lake, name: str) -> TableDefinition:
    """What `pipeline.apply.object_reader.GroupReader` needs of a table.

    Raises ConfigError as `table_key` and `Lake.protection`, and if an attribute of the key is protected.
    """
    key, protection = table_key(lake, name), lake.protection(name)
    protection.check_key(key, name)
    return TableDefinition(key, lake.table(name).validator, protection, lake.keeps_rejected_bytes)


def _stored_key(lake: Lake, name: str) -> tuple[str, ...]:
    current = current_state(lake.current(name))
    if current is not None:
        return current.schema.key
    changes = changes_state(lake.changes(name))
    return changes.key if changes.records else ()  # no record has been written by this key yet
