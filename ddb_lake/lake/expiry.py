"""Which snapshots of a table expire, and the update that removes them.

Each commit expires snapshots, because a commit rewrites the table's metadata, which lists all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import RemoveSnapshotsUpdate, _apply_table_update

from ddb_lake.config import SnapshotSettings

KEEP_SNAPSHOTS = 10
"""The number of snapshots that do not expire by their age."""


def snapshots_to_expire(metadata: TableMetadata, retention: SnapshotSettings, now_ms: int) -> list[int]:
    """The ids of the snapshots that expire, the oldest first. The heads of branches and tags stay.

    Args:
        metadata: the metadata of the table.
        retention: how many snapshots are kept, including the newest of `main`, and how long.
        now_ms: the present time, milliseconds since the epoch.
    """
    heads = {ref.snapshot_id for ref in metadata.refs.values()}
    earlier = [snapshot for snapshot in metadata.snapshots if snapshot.snapshot_id not in heads]
    earlier.sort(key=lambda snapshot: snapshot.sequence_number or 0, reverse=True)
    oldest_ms = now_ms - retention.keep_for_s * 1000
    expired = [
        snapshot.snapshot_id
        for newer, snapshot in enumerate(earlier, start=1)
        if newer >= retention.keep or (newer >= KEEP_SNAPSHOTS and snapshot.timestamp_ms < oldest_ms)
    ]
    return expired[::-1]


_Element = TypeVar("_Element")


class SharedList(list[_Element]):
    """A list of immutable elements. A deep copy of it has the same elements."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> SharedList[_Element]:
        return SharedList(self)

    def __add__(self, others: Iterable[_Element]) -> SharedList[_Element]:  # type: ignore[override]  # for any list
        return SharedList([*self, *others])


class RemoveSnapshots(RemoveSnapshotsUpdate):  # type: ignore[misc]  # pyiceberg is untyped to mypy here
    """Removes snapshots in a time that is linear in their number, and copies none of the others.

    pyiceberg 0.12 compares each with each, and copies all of the metadata.
    """


@_apply_table_update.register(RemoveSnapshots)  # type: ignore[untyped-decorator]  # see above
def _(update: RemoveSnapshots, metadata: TableMetadata, context: Any) -> TableMetadata:
    """Leaves out snapshots that another writer has removed, and those that are heads of branches."""
    removed = set(update.snapshot_ids) - {ref.snapshot_id for ref in metadata.refs.values()}
    context.add_update(update)
    return metadata.model_copy(
        update={
            "snapshots": SharedList(
                s.model_copy(update={"parent_snapshot_id": None}) if s.parent_snapshot_id in removed else s
                for s in metadata.snapshots
                if s.snapshot_id not in removed
            ),
            "snapshot_log": SharedList(e for e in metadata.snapshot_log if e.snapshot_id not in removed),
            "statistics": [file for file in metadata.statistics if file.snapshot_id not in removed],
            "partition_statistics": [f for f in metadata.partition_statistics if f.snapshot_id not in removed],
        }
    )
