"""The lake table that a record belongs to, if several tables have sources of one name in other Regions or accounts. Pure.

If only one table's source has the name, the name decides. Otherwise the object's place and the record's Region and account
reduce the candidates. A record that is still ambiguous belongs to no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ddb_lake.core.layout.firehose_paths import continues, is_below
from ddb_lake.core.values.change_record import ChangeRecord


@dataclass(frozen=True, slots=True)
class Source:
    """The DynamoDB table behind a lake table. `region`, `account`: None if unknown. `places`: where its objects land."""

    table: str
    name: str
    region: str | None = None
    account: str | None = None
    places: tuple[str, ...] = ()

    def is_delivered_to(self, uri: str) -> bool:
        """Whether an object lies where this source's objects land."""
        return any(is_below(place, uri) or continues(place, uri) for place in self.places)

    def text(self) -> str:
        """The source as messages name it."""
        known = [self.region or "any Region", *([f"account {self.account}"] if self.account else [])]
        return f"{self.table} ({', '.join(known)})"


@dataclass(frozen=True, slots=True)
class SharedNames:
    """The source tables' names that several lake tables have, with their sources."""

    by_name: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)

    def table_of(self, record: ChangeRecord, uri: str, applied: str) -> str | None:
        """The lake table of a record with such a name; None if it is ambiguous or contradictory.

        The place of the object decides first, then the record's Region and account. If the object is in no table's
        place, its record belongs to `applied` unless the record contradicts this.

        Args:
            uri: the object that has the record.
            applied: the lake table that the object is applied to.
        """
        sources = self.by_name[record.table or ""]
        here = [source for source in sources if source.is_delivered_to(uri)]
        found = matching(here or sources, *_origin(record))
        if len(found) > 1 and not here:
            found = [source for source in found if source.table == applied] or found
        return found[0].table if len(found) == 1 else None

    def reason(self, record: ChangeRecord) -> str:
        """The reason why a record belongs to no table, and the settings that help."""
        region, account = _origin(record)
        of = f"Region {region or 'unknown'}, account {account or 'unknown'}"
        names = ", ".join(source.text() for source in self.by_name[record.table or ""])
        return (
            f"tableName: {record.table} is the source of several tables, {names}; the record ({of}) and the place of its"
            " object match none of them alone; set `source.region`, `source.account` or separate `changes.uri`, then replay"
        )


def shared_names(sources: Iterable[Source]) -> tuple[dict[str, str], SharedNames]:
    """The lake tables by their source's name, for names that only one table has, and the other names."""
    by_name: dict[str, list[Source]] = {}
    for source in sources:
        by_name.setdefault(source.name, []).append(source)
    only = {name: found[0].table for name, found in by_name.items() if len(found) == 1}
    return only, SharedNames({name: tuple(found) for name, found in by_name.items() if len(found) > 1})


def matching(sources: Sequence[Source], region: str | None, account: str | None) -> list[Source]:
    """The sources that a Region and an account do not contradict; among them, those that most facts confirm."""

    def confirmed(source: Source) -> int:
        return (None not in (source.region, region)) + (None not in (source.account, account))

    fit = [
        source
        for source in sources
        if (source.region or region) == (region or source.region)
        and (source.account or account) == (account or source.account)
    ]
    most = max(map(confirmed, fit), default=0)
    return [source for source in fit if confirmed(source) == most]


def _origin(record: ChangeRecord) -> tuple[str | None, str | None]:
    """Region and account of a record's source. Only records of DynamoDB Streams have the account."""
    region, account = arn_parts(record.stream)
    return record.region or region, account


def arn_parts(arn: str | None) -> tuple[str | None, str | None]:
    """Region and account of an ARN; None for a part that it does not have."""
    parts = (arn or "").split(":")
    return (parts[3] or None, parts[4] or None) if len(parts) > 5 else (None, None)
