"""Reads the CSV files of changes for MySQL, by the grammar in the docstring of `ddb_lake.mysql.csv_rows`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ddb_lake.errors import UndecodableError

_FIELD = re.compile(r'(?:"((?:[^"]|"")*+)"|(NULL))([,\n])')


def read_rows(text: str) -> Iterator[list[str | None]]:
    """The rows of a file: the inverse of `ddb_lake.mysql.csv_rows.write_row`.

    Raises:
        UndecodableError: the text has another format; the message has the offset in characters.
    """
    row: list[str | None] = []
    position = 0
    while position < len(text):
        field: re.Match[str] | None = _FIELD.match(text, position)
        if field is None:
            raise UndecodableError(f"offset {position}: expected a quoted value or NULL, then a comma or a line end")
        value: Any = field[1]
        row.append(None if value is None else value.replace('""', '"'))
        position = field.end()
        if field[3] == "\n":
            yield row
            row = []
    if row:
        raise UndecodableError(f"offset {position}: the last row has no line end")
