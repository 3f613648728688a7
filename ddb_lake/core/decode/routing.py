"""Routes: the lake table that a record belongs to, found by the name of its source table.

Source tables in several Regions or accounts can have one name. If only one lake table's source has the name, the name
decides. Otherwise the location of the object decides, then the record's Region and account. A record that is still ambiguous
belongs to no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ddb_lake.core.layout.firehose_paths import continues, is_below
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.errors import UndecodableError


@dataclass(frozen=True, slots=True)
class Source:
    """The DynamoDB table behind a lake table. `region`, `account`: None if unknown. `locations`: where its objects land."""

    table: str
    name: str
    region: str | None = None
    account: str | None = None
    locations: tuple[str, ...] = ()

    def is_delivered_to(self, uri: str) -> bool:
        """Whether an object is at a location of this source."""
        return any(is_below(location, uri) or continues(location, uri) for location in self.locations)

    def text(self) -> str:
        """The source as messages name it."""
        known = [self.region or "any Region", *([f"account {self.account}"] if self.account else [])]
        return f"{self.table} ({', '.join(known)})"


@dataclass(frozen=True, slots=True)
class Routes:
    """The configured lake tables by the names of their source tables.

    `unique`: the lake table, for each name that only one source has. `shared`: the sources, for each other name.
    """

    unique: Mapping[str, str]
    shared: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)

    @classmethod
    def to(cls, sources: Iterable[Source]) -> Routes:
        """The routes to the lake tables of these sources."""
        by_name: dict[str, list[Source]] = {}
        for source in sources:
            by_name.setdefault(source.name, []).append(source)
        unique = {name: those[0].table for name, those in by_name.items() if len(those) == 1}
        return cls(unique, {name: tuple(those) for name, those in by_name.items() if len(those) > 1})

    def table_of(self, record: ChangeRecord, uri: str, applied: str) -> str | None:
        """The lake table of a record; None if its source table is not configured.

        Args:
            uri: the object that contains the record.
            applied: the lake table that the object is applied to. A record without the name of its source belongs to it, and
                so does an ambiguous record of an object at no source's location, if the record does not contradict this.

        Raises:
            UndecodableError: the record is ambiguous; the message names the settings that help.
        """
        if record.table is None:
            return applied
        if record.table not in self.shared:
            return self.unique.get(record.table)
        sources = self.shared[record.table]
        delivered = [source for source in sources if source.is_delivered_to(uri)]
        candidates = matching(delivered or sources, *_origin(record))
        if len(candidates) > 1 and not delivered:
            candidates = [source for source in candidates if source.table == applied] or candidates
        if len(candidates) != 1:
            raise UndecodableError(_ambiguous(record, sources))
        return candidates[0].table


def _ambiguous(record: ChangeRecord, sources: Sequence[Source]) -> str:
    """The reason why a record belongs to no table, and the settings that help."""
    region, account = _origin(record)
    names = ", ".join(source.text() for source in sources)
    return (
        f"tableName: {record.table} is the source of several tables, {names}; the record (Region {region or 'unknown'}, account"
        f" {account or 'unknown'}) and the place of its object match none of them alone; set `source.region`, `source.account`"
        " or separate `changes.uri`, then replay"
    )


def matching(sources: Sequence[Source], region: str | None, account: str | None) -> list[Source]:
    """The sources that a Region and an account do not contradict; among these, those that most of the two confirm."""

    def confirmed(source: Source) -> int:
        return (None not in (source.region, region)) + (None not in (source.account, account))

    possible = [
        source
        for source in sources
        if (source.region or region) == (region or source.region)
        and (source.account or account) == (account or source.account)
    ]
    most = max(map(confirmed, possible), default=0)
    return [source for source in possible if confirmed(source) == most]


def _origin(record: ChangeRecord) -> tuple[str | None, str | None]:
    """Region and account of a record's source. Only records of DynamoDB Streams have the account."""
    region, account = arn_parts(record.stream)
    return record.region or region, account


def arn_parts(arn: str | None) -> tuple[str | None, str | None]:
    """Region and account of an ARN; None for a part that it does not have."""
    parts = (arn or "").split(":")
    return (parts[3] or None, parts[4] or None) if len(parts) > 5 else (None, None)
