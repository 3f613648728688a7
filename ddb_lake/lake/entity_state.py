"""The state of an entity's Iceberg table, as table properties of the same commit as its rows.

Property names are a stored format, as those of `lake.state`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyiceberg.table import Table

from ddb_lake.core.schema.misfits import KnownMisfits
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.lake.state import PREFIX, known_misfits, misfit_properties

_ENTITY = PREFIX + "entity"


@dataclass(frozen=True, slots=True)
class EntityState:
    """What the rows of an entity's table were derived from.

    Attributes:
        schema: the columns of its items, and of the parts of the key.
        current: the UUID of the Iceberg table `current`.
        snapshot_id: the snapshot of `current` whose rows they are.
        base: the id of the export that was the base of `current` then; None without one.
        definition: a digest of the patterns and column settings.
        misfits: as `lake.state.CurrentState.misfits`, without those of parts of the key. States are compared without it.
    """

    schema: TableSchema
    current: str
    snapshot_id: int
    base: str | None
    definition: str
    misfits: KnownMisfits | None = field(default=None, compare=False)

    def properties(self) -> dict[str, str]:
        """The state as table properties."""
        document = {
            "current": self.current,
            "snapshot": self.snapshot_id,
            "base": self.base,
            "definition": self.definition,
        }
        return {
            PREFIX + "schema": json.dumps(self.schema.to_json(), separators=(",", ":")),
            _ENTITY: json.dumps(document, separators=(",", ":")),
            **misfit_properties(self.misfits),
        }

    @classmethod
    def of(cls, table: Table) -> EntityState | None:
        """The state that the properties of a table hold; None before its first commit. Rows are not compared with it."""
        return cls.from_properties(table.properties)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> EntityState | None:
        """The state in table properties; None if there is none."""
        text = properties.get(_ENTITY)
        if text is None:
            return None
        document = json.loads(text)
        schema = TableSchema.from_json(json.loads(properties[PREFIX + "schema"]))
        known = known_misfits(properties)
        return cls(schema, document["current"], document["snapshot"], document["base"], document["definition"], known)
