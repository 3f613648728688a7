"""Items whose attributes are called like anything in our SQL or in DuckDB, and every command over them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb

from ddb_lake.api import open as open_for_reading
from ddb_lake.core.values.change_record import Item
from ddb_lake.dbt import models
from ddb_lake.engine import session
from ddb_lake.engine.sql import identifier
from ddb_lake.mysql import statements
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.daily_snapshots import keep_day
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.query import table_columns
from ddb_lake.pipeline.verify.full import verify_export
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, Export, change, land, sorted_items
from ddb_lake_tests.support.several_tables import lake_of, query_result

Values = dict[str, Any]
_WORD = re.compile(r"[A-Za-z_]\w*")
_LONGEST = 40


# --- names


class Recording:
    """A DuckDB connection that keeps the text of every statement."""

    def __init__(self, con: Any, statements: list[str]) -> None:
        self._con, self._statements = con, statements

    def __getattr__(self, name: str) -> Any:
        return getattr(self._con, name)

    def execute(self, sql: str | duckdb.Statement, *rest: Any) -> Any:
        self._statements.append(sql if isinstance(sql, str) else sql.query)
        return self._con.execute(sql, *rest)

    def cursor(self) -> Recording:
        return Recording(self._con.cursor(), self._statements)


@contextmanager
def recorded() -> Iterator[list[str]]:
    """The statements that our sessions execute within the block."""
    found: list[str] = []
    connect = duckdb.connect

    def opened(*arguments: Any, **named: Any) -> Recording:
        return Recording(connect(*arguments, **named), found)

    with mock.patch.object(session.duckdb, "connect", opened):
        yield found


def names_in(sql: str) -> set[str]:
    """The identifiers of a statement by DuckDB's own tokenizer, quoted or not, and the words in its texts."""
    tokens = duckdb.tokenize(sql)
    ends = [start for start, _ in tokens[1:]] + [len(sql)]
    found: set[str] = set()
    for (start, kind), end in zip(tokens, ends, strict=True):
        text = sql[start:end].strip()
        if kind == duckdb.token_type.identifier:
            found.add(text.strip('"').replace('""', '"'))
        elif kind in (duckdb.token_type.string_const, duckdb.token_type.keyword):
            found.update(_WORD.findall(text))
    return {name for name in found if len(name) <= _LONGEST}


def duckdb_names() -> set[str]:
    """The keywords of DuckDB, the columns of its own tables and views, and the parameters of its functions."""
    con = duckdb.connect()
    queries = (
        "SELECT keyword_name FROM duckdb_keywords()",
        "SELECT column_name FROM duckdb_columns()",
        "SELECT unnest(parameters) FROM duckdb_functions()",
        "SELECT type_name FROM duckdb_types()",
    )
    return {name for sql in queries for (name,) in con.execute(sql).fetchall() if name}


def virtual_columns(candidates: Iterable[str], folder: Path) -> set[str]:
    """Which names read_parquet or a table has columns of, beside those of the file or of the table."""
    con = duckdb.connect()
    path = folder / "one.parquet"
    con.execute(f"COPY (SELECT 1 AS a) TO '{path}'")
    con.execute("CREATE TABLE one AS SELECT 1 AS a")
    found = set()
    for name in candidates:
        for source in (f"read_parquet('{path}')", "one"):
            try:
                con.execute(f"SELECT x.{identifier(name)} FROM {source} x")
            except duckdb.Error:
                continue
            found.add(name)
    return found - {"a", "A"}


def names_of_other_sql() -> set[str]:
    """The words of the macros that dbt runs, and of what is sent to MySQL."""
    dbt = Path(models.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in dbt.rglob("*") if path.suffix in {".sql", ".jinja"}]
    texts.append(Path(statements.__file__).read_text(encoding="utf-8"))
    texts.append(Path(statements.__file__).with_name("change_files.py").read_text(encoding="utf-8"))
    return {word for text in texts for word in _WORD.findall(text) if len(word) <= _LONGEST}


# --- items


@dataclass
class Named:
    """A table whose items have every name as an attribute, and what its items are: a plain dictionary by key."""

    lake: Lake
    folder: Path
    table: str
    names: Sequence[str]
    key: str = "id"
    items: dict[int, Item] = field(default_factory=dict)
    past: dict[int, list[str]] = field(default_factory=dict)
    """Sorted items by the time from which they were so."""

    written: int = 0

    def item(self, number: int, version: int) -> Item:
        """An item with every name; about every seventh attribute is another type in some of them."""
        found: Item = {self.key: {"S": f"k{number}"}}
        for place, name in enumerate(self.names):
            if name == self.key or (place + number + version) % 5 == 0:
                continue
            text = f"{name}-{number}-{version}"
            found[name] = {"N": str(number * 1000 + place)} if place % 7 == 0 else {"S": text}
        if self.names:
            found["nested"] = {"M": {name: {"S": f"{name}.{number}.{version}"} for name in self.names[number::40]}}
        return found

    def load(self, at_us: int, name: str) -> None:
        """Load a full export of the items as they are."""
        load_export(self.lake, self.table, str(self.export(at_us, name)))
        self.past[at_us] = sorted_items(self.items.values())

    def export(self, at_us: int, name: str) -> Path:
        """A full export of the items as they are."""
        lines = [{"Item": one} for one in self.items.values()]
        half = len(lines) // 2
        return Export([lines[:half], lines[half:]], at_us=at_us, table=self.table).write(self.folder / name)

    def apply(self, at_us: int, changes: dict[int, Item | None]) -> None:
        """Land change records and apply them."""
        records = []
        for number, new in changes.items():
            old = self.items.get(number)
            record: dict[str, Any] = change(at_us, {"id": {"S": "x"}}, table=self.table)
            body = {"ApproximateCreationDateTime": at_us, "ApproximateCreationDateTimePrecision": "MICROSECOND"}
            body |= {"Keys": {self.key: {"S": f"k{number}"}}, "SizeBytes": 1}
            body |= ({"NewImage": new} if new else {}) | ({"OldImage": old} if old else {})
            name = "REMOVE" if new is None else "MODIFY" if old else "INSERT"
            records.append({**record, "eventName": name, "dynamodb": body})
            if new is None:
                del self.items[number]
            else:
                self.items[number] = new
        self.written += 1
        hour = datetime.fromtimestamp(at_us / 1e6, UTC)
        apply_objects(
            self.lake, self.table, [land(self.folder / f"landing/{hour:%Y/%m/%d/%H}/{self.written}", *records)]
        )
        self.past[at_us] = sorted_items(self.items.values())

    # --- checks

    def check(self) -> None:
        """The items and, column by column, the rows of a query are what the model has."""
        assert sorted_items(dumped(self.lake, self.table)) == sorted_items(self.items.values())
        assert self.rows(f"SELECT * FROM {identifier(self.table)}") == self.expected()
        assert self.rows(f"SELECT * FROM {identifier(self.table)}", by_name=True) == self.expected()

    def check_past(self) -> None:
        """The items and rows of each earlier time are those of the model then."""
        for at_us, wanted in self.past.items():
            assert sorted_items(dumped(self.lake, self.table, at_us)) == wanted
            found = self.rows(f"SELECT * FROM {identifier(self.table)}", as_of_us=at_us)
            assert found == self.expected([json.loads(text) for text in wanted])

    def check_reading(self, at_us: int) -> None:
        """A script sees the same, now and as of a time."""
        with open_for_reading(self.lake.settings) as opened:
            now = opened.table(self.table).arrow().to_pylist()
            then = opened.table(self.table, as_of=datetime.fromtimestamp(at_us / 1e6, UTC)).arrow().to_pylist()
        columns = self.columns()
        assert self.by_key(now, columns) == self.expected()
        assert self.by_key(then, columns) == self.expected([json.loads(text) for text in self.past[at_us]])

    def columns(self) -> dict[str, str]:
        """Column to attribute, of those that have a column of one attribute."""
        found = table_columns(self.lake, self.table)
        return {name: doc[:-4] for name, _, doc in found if doc.endswith((" (S)", " (N)"))}

    def rows(self, sql: str, as_of_us: int | None = None, by_name: bool = False) -> dict[str, Values]:
        """The rows of a query by key: attribute to text. `by_name`: each column is selected by its quoted name."""
        columns = self.columns()
        if by_name:
            shown = ", ".join(identifier(name) for name in columns)
            sql = f"SELECT {shown} FROM {identifier(self.table)} WHERE {identifier(self.column(self.key))} IS NOT NULL"
        with query_result(self.lake, sql, as_of_us) as result:
            names = result.columns
            found = [dict(zip(names, row, strict=True)) for batch in result.batches() for row in batch]
        return self.by_key(found, columns)

    def column(self, attribute: str) -> str:
        """The column of an attribute."""
        return next(name for name, held in self.columns().items() if held in (attribute, json.dumps([attribute])))

    def by_key(self, rows: Sequence[Values], columns: dict[str, str]) -> dict[str, Values]:
        """Rows as attribute to text, without what is NULL."""
        by_column = {name.lower(): attribute for name, attribute in columns.items()}
        found = {}
        for row in rows:
            values = {
                by_column[name.lower()]: str(value)
                for name, value in row.items()
                if value is not None and name.lower() in by_column
            }
            found[values[self.key_origin()]] = values
        return found

    def key_origin(self) -> str:
        """The key attribute as a column's doc has it."""
        return json.dumps([self.key]) if "." in self.key else self.key

    def expected(self, items: Iterable[Item] | None = None) -> dict[str, Values]:
        """What the rows should be, from the model alone."""
        found = {}
        for item in self.items.values() if items is None else items:
            values = {}
            for name, value in item.items():
                if "M" in value:
                    for inner, leaf in value["M"].items():
                        path = json.dumps([name, inner]) if "." in inner else f"{name}.{inner}"
                        values[path] = leaf["S"]
                else:
                    ((_, text),) = value.items()
                    values[json.dumps([name]) if "." in name else name] = text
            found[item[self.key]["S"]] = values
        return found


def dumped(lake: Lake, table: str, as_of_us: int | None = None) -> list[Item]:
    return [json.loads(line)["Item"] for line in dump_items(lake, table, as_of_us)]


def go_through(named: Named) -> None:
    """Load, apply three times with updates and removals, compact, load again, and look at all of it each time."""
    named.items = {number: named.item(number, 0) for number in range(4)}
    named.load(T0_US, "first")
    named.check()
    first = T0_US + HOUR_US
    named.apply(first, {1: named.item(1, 1), 2: None, 4: named.item(4, 1)})
    named.check()
    named.apply(first + HOUR_US, {4: named.item(4, 2), 0: None})
    named.check()
    named.apply(first + 2 * HOUR_US, {2: named.item(2, 3), 3: named.item(3, 3)})
    named.check()
    named.check_past()
    compact_table(named.lake, named.table, force=True)
    named.check()
    named.check_reading(first)
    later = T0_US + 30 * HOUR_US
    assert verify_export(named.lake, named.table, str(named.export(later - HOUR_US, "same"))).outcome == "equal"
    keep_day(named.lake, named.table, date(2026, 3, 1))
    day = f"SELECT * EXCLUDE (_day) FROM {identifier(named.table + '_daily')}"
    assert named.rows(day) == named.expected()
    named.items[5] = named.item(5, 4)
    named.load(later, "second")
    named.check()
    named.apply(later + HOUR_US, {5: named.item(5, 5), 1: None})
    named.check()
    named.check_past()


def go(folder: Path, names: Sequence[str], key: str = "id") -> None:
    """Every step with one table whose items have these names."""
    folder.mkdir(parents=True, exist_ok=True)
    changes = {"uri": str(folder / "landing")}
    with lake_of(
        folder / "lake", {"name": "t", "key": [key], "changes": changes, "daily_states": {"start": "2026-03-01"}}
    ) as lake:
        go_through(Named(lake, folder, "t", names, key))


def spelled(name: str, how: int) -> str:
    """A name as it is, or another spelling that needs the same column."""
    return (name, name.upper(), name.title(), name.replace("_", "-"), name.replace("_", "."))[how]
