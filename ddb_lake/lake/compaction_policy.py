"""When files are rewritten: the limits of a compaction, and the files of a table that exceed them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.lake.scan import LiveFiles, column_bounds, live_files

TARGET_FILE_BYTES = 256 * 1024 * 1024
SMALL_FILE_BYTES = TARGET_FILE_BYTES // 8
MAX_SMALL_FILES = 16
"""The most small files of about one size. A byte is rewritten when its file grows into the next size, and not whenever files arrive."""

MAX_DELETE_FILES = 16
"""The most delete files of one data file: its reader opens all of them. A reader of several data files may open more."""

MAX_DELETED_SHARE = 0.25
"""The greatest share of deleted rows. If random rows change, about (1 - share) / share bytes are rewritten for each changed byte."""

MAX_FILES_PER_DAY = 4
"""The most small files of the changelog of about one size in a day before the latest one."""

MAX_FILES_PER_HOUR = 8
"""The same in an hour of the latest day, except its latest hour. So a byte is rewritten twice at most: after the hour, and after the
day if the file of the hour is small."""

MAX_FILES_OF_LATEST_HOUR = 750
"""The same in the latest hour, which may have the files of a commit every five seconds."""

SLICE_BYTES = 64 * 1024 * 1024
"""The files that one slice of a compaction rewrites beside commits; a single larger file is a slice of its own."""

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US


def compaction_reason(current: Table | None, changes: Table | None) -> str | None:
    """Why the files of a table should be rewritten, by the limits of this module; None if they need not be.

    Args:
        current: the table's rows; None if there are none yet.
        changes: its changelog; None if there is none yet.
    """
    if current is not None and (reason := rows_reason(live_files(current))):
        return reason
    crowded = sum(map(len, crowded_changes(changes))) if changes is not None else 0
    return f"{crowded} small files in days or hours of the changelog" if crowded else None


def rows_reason(live: LiveFiles) -> str | None:
    """Why files of `current` should be rewritten; None if they need not be."""
    small = _crowded(live.data, MAX_SMALL_FILES)
    total = live.rows + live.deleted_rows
    if small:
        return f"{len(small)} small files"
    if live.most_delete_files > MAX_DELETE_FILES:
        return f"{live.most_delete_files} delete files of a data file"
    if total and live.deleted_rows / total > MAX_DELETED_SHARE:
        return f"{live.deleted_rows / total:.0%} of the rows are deleted"
    return None


def _crowded(files: Sequence[DataFile], limit: int) -> list[DataFile]:
    """Small files, if there are more than `limit` of about one size, and all smaller files."""
    sizes: dict[int, list[DataFile]] = defaultdict(list)
    for file in files:
        if file.file_size_in_bytes < SMALL_FILE_BYTES:
            sizes[file.file_size_in_bytes.bit_length() // 4].append(file)
    crowded = [size for size, found in sizes.items() if len(found) > limit]
    return [file for size, found in sizes.items() if size <= max(crowded, default=-1) for file in found]


def worth_rewriting(files: Sequence[DataFile], deleted_rows: Mapping[str, int]) -> list[DataFile]:
    """Crowded small files, and files with many deleted rows; none if only the delete files are too many.

    If the table has too many deleted rows, so have the files with half of that share. Otherwise these files stay: a table whose
    rows all change would be written again whenever its delete files are too many.

    Args:
        files: the data files of `current`.
        deleted_rows: the number of deleted rows by the path of their file.
    """
    crowd = {f.file_path for f in _crowded(files, MAX_SMALL_FILES)}
    is_due = sum(deleted_rows.values()) > MAX_DELETED_SHARE * sum(f.record_count for f in files)
    share = MAX_DELETED_SHARE / 2 if is_due else MAX_DELETED_SHARE
    return [f for f in files if f.file_path in crowd or deleted_rows.get(f.file_path, 0) > share * f.record_count]


def first_slice(files: Sequence[DataFile], most_bytes: int | None) -> list[DataFile]:
    """The smallest of some files that have about `most_bytes` together; all without a limit.

    They are one file at least. Two small files are always chosen together: they become one.
    """
    if most_bytes is None:
        return list(files)
    chosen: list[DataFile] = []
    left = most_bytes
    for file in sorted(files, key=lambda file: file.file_size_in_bytes):
        left -= file.file_size_in_bytes
        if left >= 0 or not chosen or (len(chosen) == 1 and file.file_size_in_bytes < SMALL_FILE_BYTES):
            chosen.append(file)
    return chosen


def slice_of_groups(groups: Sequence[Sequence[DataFile]], most_bytes: int | None) -> list[list[DataFile]]:
    """`first_slice` of each of the first groups of small files, which have about `most_bytes` together."""
    chosen: list[list[DataFile]] = []
    left = most_bytes
    for files in groups:
        if left is not None and left <= 0:
            break
        chosen.append(first_slice(files, left))
        if left is not None:
            left -= sum(file.file_size_in_bytes for file in chosen[-1])
    return chosen


def crowded_changes(changes: Table) -> list[list[DataFile]]:
    """Small files of the changelog, of days or hours of arrival that have too many. Those of one list are to be merged."""
    hours: dict[int | None, list[DataFile]] = defaultdict(list)
    for file in live_files(changes).data:
        bounds = column_bounds(file, changes.schema(), "arrival_hour")
        hours[bounds[0] if bounds else None].append(file)
    return crowded_hours(hours)


def crowded_hours(hours: Mapping[int | None, Sequence[DataFile]]) -> list[list[DataFile]]:
    """As `crowded_changes`, of files by their hour of arrival (its begin, in microseconds; None: not known)."""
    latest = max((hour for hour in hours if hour is not None), default=None)
    days: dict[int, list[DataFile]] = defaultdict(list)
    groups = []
    for hour, files in hours.items():
        if hour is None or latest is None or hour == latest:
            groups.append(_crowded(files, MAX_FILES_OF_LATEST_HOUR if hour == latest else MAX_FILES_PER_HOUR))
        elif hour // _DAY_US == latest // _DAY_US:
            groups.append(_crowded(files, MAX_FILES_PER_HOUR))
        else:
            days[hour // _DAY_US].extend(files)
    groups += [_crowded(files, MAX_FILES_PER_DAY) for files in days.values()]
    return [group for group in groups if group]
