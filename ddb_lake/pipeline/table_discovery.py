"""Discover the DynamoDB tables of the entries with `match`, and write the inventory beside the configuration.

`config.inventory` states what the inventory means. A table that is not found any more keeps its entry in the inventory, with the time
since when it is missing, until `forget` removes it: so a lake never loses a table because a request was answered by another account, or
because a tag was removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from ddb_lake.aws.table_listing import ListedTable, list_tables
from ddb_lake.config import LakeSettings, TableSettings, load_entries
from ddb_lake.config.inventory import (
    Inventory,
    InventoryTable,
    Search,
    entry_of,
    expanded,
    inventory_file,
    locked_inventory,
    names_table,
    read_inventory,
    write_inventory,
)
from ddb_lake.errors import UsageError

_COMPARED = {
    "key": ("key", "key_types"),
    "account or Region": ("arn",),
    "stream": ("stream_view",),
    "point-in-time recovery": ("point_in_time_recovery",),
    "tags": ("tags",),
}
"""What a table is compared by with its former state, and the fields of that."""

_Place: TypeAlias = tuple[str | None, str | None, str]
"""The Region and the role by which a table is reached, and its name."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """The result of one run.

    Attributes:
        file: the file of the inventory.
        inventory: its contents.
        changes: what became of a table since the last time, by the DynamoDB table's name (with its Region and role, if
            several have the name): `added`, `missing`, `found again`, `created again`, `changed: ` with what changed (also after
            one of the two before), both names in the lake if another entry has it now, `not configured` if no entry names it
            any more, or `forgotten`.
        without_tables: the patterns of the entries that have no table.
        with_another_key: the tables that were created again with another key since the last time.
        names: the name in the lake of each table of the inventory, in its order.
    """

    file: Path
    inventory: Inventory
    changes: Mapping[str, str]
    names: tuple[str, ...]
    without_tables: tuple[str, ...]
    with_another_key: tuple[InventoryTable, ...] = ()


def discover_tables(config: Path, forget: Sequence[str] = (), now: Callable[[], datetime] | None = None) -> Discovery:
    """List the tables of each entry with `match`, and replace the inventory of a configuration file.

    Another process on this machine that discovers tables for the file waits until this one has written it.

    Args:
        config: the configuration file.
        forget: DynamoDB tables that are missing, which the inventory shall not name any more. Their data stays in the lake.
        now: the clock; default: the present time.

    Raises:
        ConfigError: the configuration is wrong, or the tables cannot be in one lake. The inventory then stays as it was.
        UsageError: no entry has `match`, the tables cannot be listed, or a table to forget is not missing. Likewise.
    """
    settings = load_entries(config)
    entries = settings.matching_tables
    if not entries:
        raise UsageError(
            f"{config} has no entry with `match`",
            hint='add `- match: "prod-*"` below `tables`; entries with a `name` need no discovery',
        )
    file = inventory_file(config)
    with locked_inventory(file):
        previous = read_inventory(file) or Inventory()
        listed = [(entry, list_tables(entry)) for entry in entries]
        at = (now() if now else datetime.now(UTC)).replace(microsecond=0)
        refreshed = refresh(previous, listed, at)
        kept = _without(refreshed, forget)
        expanded(settings, kept, str(config))  # raises before the file is written
        if kept != previous or not file.exists():
            write_inventory(file, kept)
    names = tuple(_lake_name(settings, table) for table in kept.tables)
    idle = [entry for entry in entries if not any(names_table(entry, table) for table in kept.tables)]
    changes = _changes(settings, previous, refreshed, forget)
    former = {(*table.place, table.table): table for table in previous.tables}
    others = tuple(
        table
        for table in kept.tables
        if (old := former.get((*table.place, table.table))) and old.key != table.key and _is_recreated(old, table)
    )
    return Discovery(file, kept, changes, names, tuple(str(entry.match) for entry in idle), others)


def _lake_name(settings: LakeSettings, table: InventoryTable) -> str:
    """The name in the lake of a table that an entry names; empty if none does."""
    entry = entry_of(settings, table)
    if entry is None:
        return ""
    return entry.name or entry.lake_name(table.table)


def refresh(
    previous: Inventory, listed: Sequence[tuple[TableSettings, Sequence[ListedTable]]], at: datetime
) -> Inventory:
    """The inventory after the tables were listed. Pure.

    A table that entries of two places found, such as a Region and the default one, is that of the first entry.

    Args:
        previous: the inventory until now.
        listed: each entry with `match`, and the tables whose names it matches.
        at: the time at which they were listed.
    """
    entries = [entry for entry, _ in listed]
    found: dict[_Place, InventoryTable] = {}
    places: dict[str, tuple[str | None, str | None]] = {}
    for entry, tables in listed:
        for one in tables:
            if not entry.matches(one.table.table, one.tags):
                continue
            if places.setdefault(one.table.arn, one.table.place) == one.table.place:
                place = (*one.table.place, one.table.table)
                tags = {name: value for name, value in one.tags.items() if name in entry.match_tags}
                tags |= found[place].tags if place in found else {}
                found[place] = one.table.model_copy(update={"tags": tags})
    for table in previous.tables:
        place = (*table.place, table.table)
        if place not in found and table.arn not in places and any(names_table(entry, table) for entry in entries):
            found[place] = table.model_copy(update={"missing_since": table.missing_since or at})
    searches = [Search.of(entry) for entry in entries]
    return Inventory(
        searches=tuple(search for number, search in enumerate(searches) if search not in searches[:number]),
        tables=tuple(found[place] for place in sorted(found, key=_order)),
    )


def _order(place: _Place) -> tuple[str, str, str]:
    """Places in the order of the tables' names."""
    region, role_arn, name = place
    return name, region or "", role_arn or ""


def _without(inventory: Inventory, forget: Sequence[str]) -> Inventory:
    """The inventory without some missing tables. Raises UsageError for a table that is not missing."""
    missing = {table.table for table in inventory.tables if table.missing_since is not None}
    for name in forget:
        if name not in missing:
            known = any(table.table == name for table in inventory.tables)
            raise UsageError(
                f"{name} is {'a table that DynamoDB has' if known else 'not in the inventory'}; only missing tables can be forgotten",
                found=", ".join(sorted(missing)) or "no missing table",
                hint="add it to `match_except` of its entry to leave it out" if known else None,
            )
    kept = tuple(one for one in inventory.tables if one.table not in forget or one.missing_since is None)
    return inventory.model_copy(update={"tables": kept})


def _changes(
    settings: LakeSettings, previous: Inventory, refreshed: Inventory, forget: Sequence[str]
) -> dict[str, str]:
    before = {(*table.place, table.table): table for table in previous.tables}
    after = {(*table.place, table.table): table for table in refreshed.tables}
    places = {**before, **after}
    names = Counter(name for _, _, name in places)
    changes: dict[str, str] = {}
    for place in sorted(places, key=_order):
        region, role_arn, name = place
        new = after.get(place)
        is_forgotten = name in forget and new is not None and new.missing_since is not None
        change = "forgotten" if is_forgotten else _change(settings, before.get(place), new)
        if change is not None:
            found_in = ", ".join(filter(None, (region, role_arn))) or "default Region"
            changes[name if names[name] == 1 else f"{name} ({found_in})"] = change
    return changes


def _is_recreated(old: InventoryTable, new: InventoryTable) -> bool:
    return None not in (old.table_id, new.table_id) and old.table_id != new.table_id


def _change(settings: LakeSettings, old: InventoryTable | None, new: InventoryTable | None) -> str | None:
    if new is None:
        return "not configured"
    if old is None:
        return "added"
    if new.missing_since is not None:
        return "missing" if old.missing_since is None else None
    changed = [what for what, fields in _COMPARED.items() if any(getattr(old, f) != getattr(new, f) for f in fields)]
    parts = ["found again"] if old.missing_since is not None else []
    if _is_recreated(old, new):
        parts = ["created again"]
    parts += [f"changed: {', '.join(changed)}"] if changed else []
    former, name = _lake_name(settings, old), _lake_name(settings, new)
    if former and former != name:
        parts.append(f"another entry has it now: {former} is no table of the lake any more, and {name} is")
    return "; ".join(parts) or None
