"""Leases: which follower follows a table. Pure.

A lease keeps two followers from doing the same work; correctness does not depend on it. A follower renews its leases. Another
takes a lease over if it did not change for `EXPIRY_S` seconds of the other's own clock, so clocks are never compared.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeAlias

from ddb_lake.errors import TerminalError

FORMAT: Final = 1

RENEWAL_S: Final = 8.0
"""The interval at which a follower renews its leases."""

EXPIRY_S: Final = 25.0
"""After this time without a renewal a lease may be taken over: three renewals in succession failed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of one table.

    `holder`: identifies the follower's process. `beat`: counts renewals. `renewed_us`: UTC microseconds by the holder's clock, for
    display. `lag_s`: how far the lake was behind the source then; None if that is not known.
    """

    holder: str
    beat: int = 0
    renewed_us: int = 0
    lag_s: float | None = None


Leases: TypeAlias = Mapping[str, Lease]
"""The lease of each followed table, by the table's name."""


FRESH_US: Final = 60 * 1_000_000
"""A lease that was renewed so long ago, by two clocks that differ by some seconds, has a follower that works."""


def fresh(leases: Leases, now_us: int) -> Leases:
    """The leases whose followers work, for display and for the sensor. `now_us`: UTC microseconds."""
    return {table: lease for table, lease in leases.items() if abs(now_us - lease.renewed_us) <= FRESH_US}


def held(leases: Leases, holder: str) -> set[str]:
    """The tables whose leases a follower has."""
    return {table for table, lease in leases.items() if lease.holder == holder}


def claimed(leases: Leases, me: Lease, tables: Iterable[str], expired: Collection[str]) -> Leases:
    """The leases after a follower took those of `tables` that are free or expired, and renewed those that it has.

    Args:
        leases: the leases as they are.
        me: the follower and the time; `beat` is ignored.
        tables: those to follow.
        expired: tables whose leases were not renewed in time.
    """
    changed = dict(leases)
    for table in tables:
        lease = leases.get(table)
        if lease is None or table in expired or lease.holder == me.holder:
            changed[table] = replace(me, beat=0 if lease is None else lease.beat + 1)
    return changed


def with_lags(leases: Leases, holder: str, lags: Mapping[str, float]) -> Leases:
    """The leases with the lags of the tables that a follower has."""
    return {
        table: replace(lease, lag_s=lags.get(table, lease.lag_s)) if lease.holder == holder else lease
        for table, lease in leases.items()
    }


def released(leases: Leases, holder: str) -> Leases:
    """The leases without those of a follower."""
    return {table: lease for table, lease in leases.items() if lease.holder != holder}


@dataclass(slots=True)
class LeaseWatch:
    """Observes when leases were renewed, by the observer's own clock."""

    _seen: dict[str, tuple[Lease, float]] = field(default_factory=dict)

    def expired(self, leases: Leases, now_s: float) -> set[str]:
        """The tables whose leases did not change for `EXPIRY_S` seconds, in a series of observations."""
        self._seen = {
            table: self._seen[table] if table in self._seen and self._seen[table][0] == lease else (lease, now_s)
            for table, lease in leases.items()
        }
        return {table for table, (_, since_s) in self._seen.items() if now_s - since_s >= EXPIRY_S}


def dump(leases: Leases) -> bytes:
    """The leases as JSON, UTF-8."""
    document = {"format": FORMAT, "tables": {table: asdict(lease) for table, lease in sorted(leases.items())}}
    return json.dumps(document, indent=1).encode()


def load(data: bytes | None, where: str) -> Leases:
    """The inverse of `dump`; no leases without data. Raises TerminalError, which names `where`, for any other data."""
    if data is None:
        return {}
    try:
        document: dict[str, Any] = json.loads(data)
        if document["format"] != FORMAT:
            raise TerminalError(
                f"{where}: leases of format {document['format']}, this version reads {FORMAT}", hint="upgrade ddb-lake"
            )
        return {table: Lease(**lease) for table, lease in document["tables"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TerminalError(
            f"{where}: no leases of followers ({type(error).__name__})", hint="remove the object; it has no data"
        ) from error
