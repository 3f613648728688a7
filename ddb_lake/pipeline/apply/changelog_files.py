"""Files of the changelog that readers write while they read, so that new records are written once.

Whether a record is new is known later. A file with nothing but new rows becomes a file of the table as it is; the rows of any other
file are copied (`pipeline.apply.deduplication.LocalDeduplicator`). A file has one arrival hour, and the number of the commit that
was next when reading began. If another writer commits meanwhile, its rows are copied too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.table import Table

from ddb_lake.engine.staging import BATCH_ROWS, DICTIONARY_COLUMNS, STAGED_CHANGES
from ddb_lake.lake.schemas import CHANGES_COLUMNS, fixed_schema
from ddb_lake.lake.state import changes_state

LEAST_ROWS = 1_000
"""Fewer rows of an hour at once are not worth a file of their own: they are staged."""

MOST_FILES = 16
"""The most files of a reader. The rows of further hours are staged."""

LONGEST_TEXT_BYTES: Final = 4_000
"""Rows with longer texts are staged. A row group without statistics of a column would make the bounds of its file wrong, and Parquet has
no statistics of longer texts."""

_TEXTS: Final = ("new_image", "old_image", "keys", "_key", "object", "event_id")
_OF_COMMIT: Final = {"arrival_hour": pa.timestamp("us"), "_batch": pa.int64()}
"""The columns of the changelog that staged rows do not have."""

_FIELD_ID: Final = b"PARQUET:field_id"


@dataclass(frozen=True, slots=True)
class ChangelogFormat:
    """What a file of the changelog has besides the rows.

    Attributes:
        schema: the columns, with the field ids that the file carries.
        batch: the number of the commit.
    """

    schema: pa.Schema
    batch: int

    @classmethod
    def of_next_commit(cls, changes: Table | None) -> ChangelogFormat | None:
        """The format of files for the next commit of a changelog, which may not exist yet; None if it has other columns than in this
        release."""
        fields = (fixed_schema(CHANGES_COLUMNS) if changes is None else changes.schema()).fields
        if {field.name for field in fields} != set(CHANGES_COLUMNS):
            return None
        types = {**{field.name: field.type for field in STAGED_CHANGES}, **_OF_COMMIT}
        columns = [pa.field(f.name, types[f.name], metadata={_FIELD_ID: str(f.field_id).encode()}) for f in fields]
        return cls(pa.schema(columns), changes_state(changes).batch + 1)

    def is_of(self, changes: Table) -> bool:
        """Whether files of this format can be in the next commit of a changelog."""
        now = self.of_next_commit(changes)
        return now is not None and now.batch == self.batch and now.schema.equals(self.schema, check_metadata=True)


@dataclass(frozen=True, slots=True)
class ChangelogFile:
    """A local file that can become a file of the changelog.

    Attributes:
        path: the file.
        form: its format.
        rows: the number of rows.
    """

    path: Path
    form: ChangelogFormat
    rows: int


class ChangelogFiles:
    """The files of one reader, in its folder."""

    def __init__(self, folder: Path, form: ChangelogFormat) -> None:
        self._folder, self._format = folder, form
        self._rows: list[int] = []
        self._hour_us: int | None = None
        self._writer: Any = None

    def write(self, rows: pa.Table, hours_us: Sequence[int | None]) -> bool:
        """Write staged rows, unless they must be staged.

        Args:
            rows: valid rows of `STAGED_CHANGES`.
            hours_us: the arrival hours of their objects (UTC microseconds). None: it is not known yet.

        Returns:
            Whether they were written.
        """
        if len(hours_us) != 1 or hours_us[0] is None or not _has_statistics(rows):
            return False
        if hours_us[0] != self._hour_us:
            if rows.num_rows < LEAST_ROWS or len(self._rows) >= MOST_FILES:
                return False
            self._open(hours_us[0])
        constants = {
            "arrival_hour": pa.repeat(pa.scalar(self._hour_us, _OF_COMMIT["arrival_hour"]), rows.num_rows),
            "_batch": pa.repeat(pa.scalar(self._format.batch, _OF_COMMIT["_batch"]), rows.num_rows),
        }
        columns = [constants[n] if n in constants else rows.column(n) for n in self._format.schema.names]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._format.schema), BATCH_ROWS)
        self._rows[-1] += rows.num_rows
        return True

    def close(self) -> tuple[ChangelogFile, ...]:
        """Complete the files."""
        if self._writer is not None:
            self._writer.close()
        return tuple(ChangelogFile(self._path(n), self._format, rows) for n, rows in enumerate(self._rows))

    def _open(self, hour_us: int) -> None:
        if self._writer is not None:
            self._writer.close()
        self._hour_us = hour_us
        self._writer = pq.ParquetWriter(
            self._path(len(self._rows)),
            self._format.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[*DICTIONARY_COLUMNS, *_OF_COMMIT],
            store_schema=False,
        )
        self._rows.append(0)

    def _path(self, number: int) -> Path:
        return self._folder / f"changelog-{number}.parquet"


def _has_statistics(rows: pa.Table) -> bool:
    longest = (pc.max(pc.binary_length(rows.column(name))).as_py() for name in _TEXTS)
    return all((size or 0) <= LONGEST_TEXT_BYTES for size in longest)
