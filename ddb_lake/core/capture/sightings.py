"""Landed objects that were seen before they were ingested: what is kept of them, and which of them are lost. Pure.

An object is lost if a listing or a notification showed it, the ledger does not name it, and it is no longer there. An object that
was ingested may go: the changelog has its records, and landing may have a lifecycle rule.

Times are UTC microseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

SeenBy: TypeAlias = Literal["listing", "notification"]

MOST: Final = 10_000
"""The most sightings that are kept of a table: the oldest ones, which wait for the longest time. About 2 MB."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An object that was not ingested when it was seen.

    Attributes:
        uri: its name.
        size_bytes: its size; None if only a notification named it.
        modified_us: when it was written; for a notification, when the notification was received.
        seen_us: when it was seen first.
        seen_by: what showed it.
    """

    uri: str
    size_bytes: int | None
    modified_us: int
    seen_us: int
    seen_by: SeenBy = "listing"

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `from_json` gives an equal sighting."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Sighting:
        """The inverse of `to_json`."""
        return cls(**document)


def with_seen(known: Sequence[Sighting], seen: Iterable[Sighting]) -> tuple[Sighting, ...]:
    """`known` with those of `seen` whose names are not among them, at most `MOST` in all. The first sighting stays."""
    names = {sighting.uri for sighting in known}
    added: dict[str, Sighting] = {}
    for sighting in seen:
        if sighting.uri not in names:
            added.setdefault(sighting.uri, sighting)
    return (*known, *added.values())[:MOST]


def lost(known: Iterable[Sighting], ingested: Collection[str], present: Collection[str]) -> tuple[Sighting, ...]:
    """The sightings of objects that are neither ingested nor there, in their order. An empty object has no records to lose.

    Args:
        known: what was seen.
        ingested: names that the ledger has, in any version.
        present: names that a later listing showed.
    """
    return tuple(s for s in known if s.size_bytes != 0 and s.uri not in ingested and s.uri not in present)
