"""The inventory: the DynamoDB tables that `match` found, in a file beside the configuration. Reads no AWS.

An entry of `tables` with `match` is for every DynamoDB table of its account and Region that it names. `ddb-lake discover` lists
them and writes the inventory (`pipeline.table_discovery`); everything else reads the inventory, so that the definitions of Dagster and
each command have the same tables until the next `discover`.

- An entry with a `name` wins over each entry with `match`, and of these the first one that names the table.
- The configuration decides which tables of the inventory are configured: one that no entry names any more is not.
- A table that `discover` did not find again stays, with `missing_since`: what landed is applied, and nothing is read or requested.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ddb_lake.config.base import Settings
from ddb_lake.config.faults import faults_text
from ddb_lake.config.lake import LakeSettings
from ddb_lake.config.table_sections import PLACEHOLDER
from ddb_lake.config.tables import TableSettings
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import ConfigError

SUFFIX = ".tables.json"
_WHY_MISSING = "it was deleted, lost its tags, or another account or Region was searched"

_PLACED = ("export", "changes", "aurora")
"""The sections in which `{name}` is replaced by the name of the lake table."""


class Search(Settings):
    """What one `discover` looked for: the settings of an entry that decide which tables it finds."""

    match: str
    match_tags: dict[str, str] = Field(default_factory=dict)
    match_except: tuple[str, ...] = ()
    region: str | None = None
    role_arn: str | None = None

    @classmethod
    def of(cls, entry: TableSettings) -> Search:
        """The search of an entry with `match`."""
        assert entry.match is not None, "an entry with `match`"
        return cls(
            match=entry.match,
            match_tags=entry.match_tags,
            match_except=entry.match_except,
            region=entry.source.region,
            role_arn=entry.source.role_arn,
        )

    @property
    def place(self) -> tuple[str | None, str | None]:
        """The Region and the role, as they are configured: where the tables are."""
        return self.region, self.role_arn


class InventoryTable(Settings):
    """A DynamoDB table as `discover` found it last.

    `key`: partition key, then sort key. `key_types`: S, N or B, by attribute. `stream_view`: None without a DynamoDB stream.
    `table_id`: another one for a table that was deleted and created again. `tags`: those that an entry names. `missing_since`: when
    `discover` did not find it any more; None if it did.
    """

    table: str
    arn: str
    table_id: str | None = None
    key: tuple[str, ...] = Field(min_length=1)
    key_types: dict[str, str]
    stream_view: str | None = None
    point_in_time_recovery: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    region: str | None = None
    role_arn: str | None = None
    missing_since: datetime | None = None

    @model_validator(mode="after")
    def _has_types_of_the_key(self) -> Self:
        if set(self.key_types) != set(self.key):
            raise ValueError(f"{self.table}: `key` and `key_types` have other attributes")
        return self

    @property
    def place(self) -> tuple[str | None, str | None]:
        """The Region and the role by which it was found, as they are configured."""
        return self.region, self.role_arn


class Inventory(Settings):
    """The contents of the file."""

    version: Literal[1] = 1
    searches: tuple[Search, ...] = ()
    tables: tuple[InventoryTable, ...] = ()

    @model_validator(mode="after")
    def _has_each_table_once(self) -> Self:
        places = Counter((table.table, *table.place) for table in self.tables)
        twice = next((place[0] for place, times in places.items() if times > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is listed twice")
        return self


def inventory_file(config: Path) -> Path:
    """The file of the inventory of a configuration: `ddb_lake.tables.json` beside `ddb_lake.yaml`."""
    return config.with_name(config.stem + SUFFIX)


def read_inventory(file: Path) -> Inventory | None:
    """Read an inventory; None if there is no file. Raises ConfigError if it is damaged."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{error.strerror}", uri=str(file)) from error
    except UnicodeDecodeError as error:
        raise _damaged(file, "it is not UTF-8 text") from error
    try:
        return Inventory.model_validate(json.loads(text))
    except ValidationError as error:
        raise _damaged(file, faults_text(error, Inventory, "inventory")) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"it is not JSON: {error}") from error


def _damaged(file: Path, fault: str) -> ConfigError:
    return ConfigError(
        f"no inventory of `ddb-lake discover`: {fault}",
        uri=str(file),
        hint="restore the file, or delete it and run `ddb-lake discover`; the new list lacks the tables that are missing",
    )


@contextmanager
def locked_inventory(file: Path) -> Iterator[None]:
    """Keep other processes on this machine from replacing an inventory. The lock is the hidden file `.ddb_lake.tables.json.lock`.

    Each process reads the inventory, lists the tables and replaces the file; without the lock the entries that one adds, and another did
    not see, would be lost.
    """
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_inventory(file: Path, inventory: Inventory) -> None:
    """Replace the file of an inventory, as a whole."""
    text = json.dumps(
        inventory.model_dump(mode="json", exclude_defaults=True) | {"version": inventory.version}, indent=2
    )
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(file)


def names_table(entry: TableSettings, table: InventoryTable) -> bool:
    """Whether an entry with `match` names a table of the inventory."""
    return table.place == Search.of(entry).place and entry.matches(table.table, table.tags)


def with_inventory(settings: LakeSettings, config: Path) -> LakeSettings:
    """The settings with one table for each that an entry with `match` names, by the inventory of a configuration file.

    Settings without `match` are returned as they are, and no file is read.

    Raises ConfigError: there is no inventory, an entry was not searched since it was changed, or two tables have one name.
    """
    entries = settings.matching_tables
    if not entries:
        return settings
    file = inventory_file(config)
    hint = f"run `ddb-lake discover --config {config}`"
    inventory = read_inventory(file)
    if inventory is None:
        raise ConfigError(
            f"{config}: `match` needs the list of the DynamoDB tables, {file}, which does not exist", hint=hint
        )
    for entry in entries:
        if Search.of(entry) not in inventory.searches:
            raise ConfigError(
                f"{config}: the tables of `match: {entry.match}` were not looked up since the entry was added or changed; {file} has"
                f" those of {_listed(search.match for search in inventory.searches)}",
                hint=hint,
            )
    return expanded(settings, inventory, str(config))


def expanded(settings: LakeSettings, inventory: Inventory, where: str) -> LakeSettings:
    """The settings with the tables of an inventory in place of the entries with `match`.

    Raises ConfigError with `where`, for all tables that cannot be in the lake together.
    """
    named = [table for table in settings.tables if table.match is None]
    tables = list(named)
    owners = {table.name: f"the entry `name: {table.name}`" for table in named}
    of_named: dict[str, InventoryTable] = {}
    refused: list[ConfigError] = []
    for found in inventory.tables:
        entry = entry_of(settings, found)
        if entry is None:
            continue
        if entry.match is None:
            other = of_named.setdefault(entry.name, found)
            if other.arn != found.arn:
                fault = ConfigError(
                    f"the entry `name: {entry.name}` is for one table, and there are {other.arn} and {found.arn}",
                    hint="set its `source.region` and `source.account`, and add an entry with another `name` for the other table",
                )
                refused.append(fault)
            continue
        try:
            made = _table(entry, found)
        except ConfigError as error:
            refused.append(error)
            continue
        if found.missing_since is not None:
            made = _former(settings, made, found.missing_since)
        if made.name in owners:
            fault = ConfigError(
                f"the DynamoDB table {found.table} (`match: {entry.match}`) and {owners[made.name]} have one name in the lake,"
                f" {made.name!r}",
                hint=f"add an entry `{renamed_entry(found)}`, or `match_except: [{found.table}]`",
            )
            refused.append(fault)
            continue
        owners[made.name] = f"the DynamoDB table {found.table} (`match: {entry.match}`)"
        tables.append(made)
    if refused:
        count = f"{count_text(len(refused), 'fault')}: " if len(refused) > 1 else ""
        raise ConfigError(f"{where}: {count}{'. '.join(map(str, refused))}") from refused[0]
    given: dict[str, Any] = {name: getattr(settings, name) for name in settings.model_fields_set}
    try:
        return LakeSettings.model_validate({**given, "tables": tuple(tables)})
    except ValidationError as error:
        faults = faults_text(error, LakeSettings, "lake")
        raise ConfigError(f"{where}, with the tables of `match`: {faults}") from error


def entry_of(settings: LakeSettings, found: InventoryTable) -> TableSettings | None:
    """The entry of a configuration, with a name or with `match`, that a DynamoDB table belongs to; None if there is none."""
    entry = next((one for one in settings.matching_tables if names_table(one, found)), None)
    if entry is None:
        return None
    return next((one for one in settings.tables if one.match is None and _is_same(one, entry, found)), entry)


def _is_same(table: TableSettings, entry: TableSettings, found: InventoryTable) -> bool:
    """Whether an entry with a name is of the table. A Region or account that only one of both states does not separate them."""
    mine, other = table.identity, entry.identity
    return (
        mine.name == found.table
        and (mine.region is None or other.region is None or mine.region == other.region)
        and (mine.account is None or other.account is None or mine.account == other.account)
    )


def _table(entry: TableSettings, found: InventoryTable) -> TableSettings:
    name = entry.lake_name(found.table)
    given = entry.model_dump(by_alias=True, exclude_unset=True, exclude={"match", "match_tags", "match_except"})
    given |= {section: _filled(given[section], name) for section in _PLACED if section in given}
    given["name"] = name
    given.setdefault("key", found.key)
    given["source"] = {
        **given.get("source", {}),
        **({"table": found.table} if name != found.table else {}),
    }
    try:
        return TableSettings.model_validate(given)
    except ValidationError as error:
        raise ConfigError(
            f"the DynamoDB table {found.table} (`match: {entry.match}`): {faults_text(error, TableSettings, 'settings')}",
            hint=f"add an entry with a `name` and `source: {{table: {found.table}}}`, or `match_except: [{found.table}]`",
        ) from error


def _former(settings: LakeSettings, table: TableSettings, since: datetime) -> TableSettings:
    """The settings of a table that is missing: what landed is applied, and no item, stream or export is read or requested."""
    export, changes = table.export, table.changes
    if export is not None:
        export = export.model_copy(update={"schedule": None})
    if changes is not None:
        uri = changes.uri or settings.stream_landing(table)
        read = {"streams": False, "kinesis": None, "fan_out": None, "incremental_exports": None}
        changes = changes.model_copy(update={**read, "uri": uri})
    return table.model_copy(
        update={
            "export": export,
            "changes": changes,
            "checks": table.checks.model_copy(update={"full": None, "sample": 0, "canary": None}),
            "source": table.source.model_copy(update={"missing_since": since}),
        }
    )


def _source_text(found: InventoryTable) -> str:
    """The `source` of an entry for a table alone."""
    given = {"table": found.table, "region": found.region, "role_arn": found.role_arn}
    return ", ".join(f"{name}: {value}" for name, value in given.items() if value is not None)


def _filled(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return value.replace(PLACEHOLDER, name)
    if isinstance(value, Mapping):
        return {key: _filled(member, name) for key, member in value.items()}
    return [_filled(member, name) for member in value] if isinstance(value, list | tuple) else value


def missing_text(table: str, since_us: int) -> str:
    """That `discover` does not find a DynamoDB table any more, and what that means for its data; a sentence without its full stop.

    `since_us`: UTC microseconds.
    """
    return (
        f"`ddb-lake discover` has not found {table} since {time_text(since_us, unit='min')}: {_WHY_MISSING}; what the lake"
        " has stays, and nothing is requested on a schedule"
    )


def forget_step(table: str) -> str:
    """The next steps for a DynamoDB table that is missing."""
    return f"run `ddb-lake discover` again; `ddb-lake discover --forget {table}` removes it from the list"


def renamed_entry(found: InventoryTable) -> str:
    """The entry of `tables` that gives a DynamoDB table another name in the lake."""
    return f"{{name: OTHER, source: {{{_source_text(found)}}}}}"


def _listed(patterns: Iterable[str]) -> str:
    return ", ".join(f"`{pattern}`" for pattern in patterns) or "no pattern"
