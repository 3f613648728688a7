"""The tables of entities that are not in the configuration any more. No step keeps them up to date."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table import Table

from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.errors import CheckFailed, DamagedError, UsageError
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.ownership import location_fault, written_by_tables
from ddb_lake.lake.scan import live_files
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class DroppedEntity:
    """A table that was dropped: its name, its rows, and the files that were deleted."""

    table: str
    rows: int
    files: int


def former_entities(lake: Lake, name: str) -> tuple[str, ...]:
    """The Iceberg tables of entities that the configuration of a table does not have any more, by name.

    It lists the tables of the catalog, and loads those whose names begin with the table's and that are in no configuration.

    Raises:
        ConfigError: the table is not configured.
    """
    lake.table(name)
    configured = {lake.catalog.identifier(own)[-1] for table in lake.settings.tables for own in table.iceberg_names}
    owners = {lake.catalog.identifier(table.name)[-1]: table.name for table in lake.settings.tables}
    found = []
    for listed in sorted(lake.catalog.names() - configured):
        prefixes = [owner for owner in owners if listed.startswith(f"{owner}_")]
        if prefixes and owners[max(prefixes, key=len)] == name and _is_of_entity(lake, listed):
            found.append(listed)
    return tuple(found)


def drop_entity(lake: Lake, name: str, entity: str) -> DroppedEntity:
    """Drop the table of an entity that is not in the configuration any more, and delete its files.

    Raises:
        ConfigError: the table is not configured.
        UsageError: the entity is in the configuration, or there is no such table, or it is no entity's.
        CheckFailed: its location has other files of the lake. Nothing was changed.
    """
    full_name = entity_table(name, entity)
    if full_name in {own for settings in lake.settings.tables for own in settings.iceberg_names}:
        raise UsageError(
            f"{full_name} is a table of the configuration",
            table=name,
            hint="remove the entity from the configuration first",
        )
    table = lake.catalog.table(full_name)
    if table is None or _state(table) is None:
        known = ", ".join(former_entities(lake, name)) or "none"
        raise UsageError(f"{full_name} is no table of a former entity; there is: {known}", table=name)
    landed = [uri for settings in lake.settings.tables for uri in lake.settings.landed_uris(settings)]
    location = table.location()
    if fault := location_fault(lake.catalog, location, landed):
        raise CheckFailed(f"{full_name} was not dropped: {fault}", table=name, hint="drop it in the catalog")
    rows = live_files(table).rows if table.current_snapshot() is not None else 0
    files = [ref.uri for ref in lake.objects.list(f"{location}/") if written_by_tables(ref.uri, location)]
    lake.catalog.catalog.purge_table(lake.catalog.identifier(full_name))
    for uri in files:
        try:
            table.io.delete(uri)
        except FileNotFoundError:  # the catalog has deleted it
            continue
    return DroppedEntity(full_name, rows, len(files))


def _is_of_entity(lake: Lake, full_name: str) -> bool:
    try:
        return _state(lake.catalog.table(full_name)) is not None
    except DamagedError:  # it may be a table of others, and nothing can be read that says otherwise
        return False


def _state(table: Table | None) -> EntityState | None:
    return EntityState.of(table) if table is not None else None
