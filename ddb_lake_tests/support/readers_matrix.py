"""Which reader reads what after each kind of commit: the page `docs/explanation/readers.md`, and what it is made of.

python -m ddb_lake_tests.support.readers_matrix --write
"""

from __future__ import annotations

import base64
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pyiceberg.table import Table
from pyiceberg.types import DecimalType, IcebergType, ListType

from ddb_lake.config import parse_settings
from ddb_lake.core.layout.table_names import ICEBERG_SUFFIXES
from ddb_lake.core.values.change_record import Item
from ddb_lake.executors import open_lake
from ddb_lake.lake.schemas import COLUMN_TYPES
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.quarantine import EntrySelection, discard_quarantine, replay_quarantine
from ddb_lake.pipeline.maintain.rebuild import rebuild_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.quarantine import show_quarantine
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land, text_of
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.iceberg_spark import IcebergSpark, iceberg_spark
from ddb_lake_tests.support.several_tables import dumped
from ddb_lake_tests.support.table_readers import OTHERS, QUICK, Reader, read_figures, read_rows, spark_reader

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "ddb_lake" / "docs" / "explanation" / "readers.md"
NAME: Final = "orders"
SET_TYPES: Final = frozenset({"list<string>", "list<binary>", "list<long>", "list<decimal>"})
"""The types of the columns of sets, by `core.schema.inference`."""

TABLE: Final = {"name": NAME, "key": ["id"], "columns": {"ratio": "double"}}
KEYS: Final = tuple(f"key {number}" for number in range(12))


def _binary(data: bytes) -> str:
    return base64.b64encode(data).decode()


def full_item(key: str, number: int) -> Item:
    """An item with every type of DynamoDB, and with names and values that readers may get wrong."""
    return item(
        key,
        number=(2**63 - 1, -(2**63), 0, number)[number % 4],
        amount={"N": f"{number - 5}.25"},
        large={"N": str(10**30 + number)},
        tiny={"N": f"1E-{number + 100}"},
        ratio={"N": f"{number}.5"},
        text=("", "ascii", "größe \U0001f600", "line\nline\t'quoted' \"twice\"")[number % 4],
        bytes={"B": _binary(bytes([number, 0, 255]))},
        flag={"BOOL": number % 2 == 0},
        nothing={"NULL": True},
        texts={"SS": ["a", f"ü {number}", ""]},
        longs={"NS": ["1", str(number + 2)]},
        amounts={"NS": ["0.5", f"{number}.75"]},
        blobs={"BS": [_binary(b"\xff"), _binary(bytes([number, 0]))]},
        list={"L": [{"N": "1"}, {"S": "é"}, {"M": {"x": {"L": [{"NULL": True}, {"L": []}]}}}]},
        nested={"M": {"select": {"S": "deep"}, "deeper": {"M": {"group": {"N": str(number)}, "empty": {"M": {}}}}}},
        **{"select": "keyword", "order": {"N": str(number)}, "straße": "ß", "user name": "blank", "_file": "reserved"},
    )


def sparse_item(key: str) -> Item:
    """An item with little more than its key: most columns are NULL, the lists too."""
    return item(key, text="sparse")


@dataclass(frozen=True, slots=True)
class Steps:
    """One commit of each kind, in an order in which each has something to do. `folder`: for exports and landed objects."""

    lake: Lake
    folder: Path

    def _apply(self, name: str, *records: Any) -> None:
        apply_objects(self.lake, NAME, [land(self.folder / "landing" / f"2026/03/01/09/{name}", *records)])

    def load(self) -> None:
        items = [full_item(key, number) for number, key in enumerate(KEYS[:8])]
        load_export(self.lake, NAME, str(full([*items, sparse_item("sparse")]).write(self.folder / "first")))

    def apply(self) -> None:
        changed = [change(T0_US + HOUR_US + n, full_item(key, n + 20)) for n, key in enumerate(KEYS[4:])]
        self._apply("a", *changed, b"these bytes are no record")

    def delete(self) -> None:
        self._apply("b", *(change(T0_US + 2 * HOUR_US, None, item(key)) for key in KEYS[:3]))

    def evolve(self) -> None:
        fresh = item(KEYS[5], fresh={"SS": ["new"]}, number="a text now", later={"M": {"deep": {"N": "1"}}})
        self._apply("c", change(T0_US + 3 * HOUR_US, fresh))

    def compact(self) -> None:
        compact_table(self.lake, NAME, force=True)

    def discard(self) -> None:
        selection = EntrySelection(objects=[str(self.folder / "landing/2026/03/01/09/a")])
        assert discard_quarantine(self.lake, NAME, selection, "operator", "no record") == 1

    def replay(self) -> None:
        corrected = text_of(change(T0_US + 4 * HOUR_US, full_item(KEYS[7], 40)))
        self._apply("cut", corrected[:-9])
        (entry,) = (entry for entry in show_quarantine(self.lake, NAME) if entry.raw == corrected[:-9])
        assert replay_quarantine(self.lake, NAME, {entry.quarantine_id: corrected}).new == 1
        self._apply("corrected", corrected)  # a rebuild finds the record in no other object

    def rebuild(self) -> None:
        rebuild_table(self.lake, NAME)

    def another_base(self) -> None:
        items = [full_item(key, number) for number, key in enumerate(KEYS[6:])]
        load_export(self.lake, NAME, str(full(items, at_us=T0_US + 9 * HOUR_US).write(self.folder / "second")))

    def erase(self) -> None:
        keys = [item(key) for key in KEYS[6:]]
        self._apply("d", *(change(T0_US + 10 * HOUR_US, None, key) for key in keys))
        assert dumped(self.lake) == [], "items are left"


KINDS: Final[Mapping[str, Callable[[Steps], None]]] = {
    "load of an export": Steps.load,
    "apply of changes": Steps.apply,
    "removals": Steps.delete,
    "new columns": Steps.evolve,
    "compaction": Steps.compact,
    "entries discarded": Steps.discard,
    "entries replayed": Steps.replay,
    "another base": Steps.another_base,
    "rebuild": Steps.rebuild,
    "erasure of all items": Steps.erase,
}
"""Each kind of commit, in the order in which they follow each other."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a reader reads otherwise than pyiceberg's scan."""

    reader: str
    kind: str
    table: str
    what: str


def compare(
    folder: Path,
    readers: Sequence[Reader],
    kinds: Sequence[str] = tuple(KINDS),
    catalog: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Difference]:
    """Make the commits up to the last of `kinds` in a new lake; after each, compare all its tables through all readers.

    Args:
        folder: for the lake and for what lands.
        readers: which are compared with pyiceberg's scan.
        kinds: names of `KINDS`, in its order.
        catalog: settings of the catalog; SQLite by default.
    """
    catalog = {**catalog, "location": f"file://{folder}/lake/tables"}  # DataFusion needs the scheme
    settings = {"warehouse": str(folder / "lake"), "catalog": catalog, "tables": [TABLE]}
    with open_lake(parse_settings(settings, "test")) as lake:
        steps = Steps(lake, folder)
        for kind in kinds:
            KINDS[kind](steps)
            found = tables(lake)
            assert all(table.location().startswith(catalog["location"]) for table in found), "a table is elsewhere"
            assert_readers_agree(lake, NAME)
            for table in found:
                yield from _differences(kind, table, readers)
        missing = expected_types() - types_of(found)
        assert missing == set(), f"no column has these types: {sorted(missing)}"


def tables(lake: Lake) -> list[Table]:
    """The Iceberg tables of the lake's one table that have a snapshot."""
    found = [lake.catalog.table(NAME + suffix) for suffix in ICEBERG_SUFFIXES]
    return [table for table in found if table is not None and table.current_snapshot() is not None]


def _differences(kind: str, table: Table, readers: Sequence[Reader]) -> Iterator[Difference]:
    name = table.name()[-1]
    for reader in readers:
        with_null = reader.null_lists
        rows, figures = read_rows(QUICK[0], table, with_null), read_figures(QUICK[0], table, with_null)
        try:
            found = read_rows(reader, table, with_null)
            if found != rows:
                other = next((pair for pair in zip(rows, found, strict=False) if pair[0] != pair[1]), None)
                yield Difference(reader.name, kind, name, f"{len(found)} rows, not {len(rows)}: {other}")
            counted = read_figures(reader, table, with_null)
            different = {e: (v, figures[e]) for e, v in counted.items() if v != figures[e]}
            if different:
                yield Difference(reader.name, kind, name, f"figures: {different}")
        except Exception as error:  # of any reader: each has its own
            yield Difference(reader.name, kind, name, f"{type(error).__name__}: {error}")


def types_of(tables: Sequence[Table]) -> set[str]:
    """The types of the columns of some tables; a decimal without precision and scale."""
    return {_type_name(field.field_type) for table in tables for field in table.schema().fields}


def _type_name(kind: IcebergType) -> str:
    if isinstance(kind, ListType):
        return f"list<{_type_name(kind.element_type)}>"
    return "decimal" if isinstance(kind, DecimalType) else str(kind)


def expected_types() -> set[str]:
    """All types that columns of the lake can have."""
    return {str(kind) for kind in COLUMN_TYPES.values()} | {"decimal"} | SET_TYPES


# --- the page


INTRODUCTION: Final = """\
# Reader compatibility

A test commits to a lake once in each of the ways below. After each commit, each reader reads every Iceberg table of the lake: `<t>`,
`<t>_changes`, `<t>_objects` and `<t>_quarantine`. The columns have all types that ddb_lake writes. Some column names are keywords or not
ASCII. Some values are NULL, empty, the least integer, or numbers of 38 digits. [Other engines](../guides/engines.md) shows how to use
the readers.

*equal* means that the reader returns the same rows as pyiceberg's scan. Its own aggregates also give the same number of rows and, for
each column, the same number of values, sum, minimum and maximum.

`python -m ddb_lake_tests.support.readers_matrix --write` writes this page, and an exhaustive test compares it with a new result. Another
test makes the same comparison on an Iceberg REST catalog, whose server (Iceberg's Java library) writes the metadata: all readers but
DataFusion agree there, too.
"""

NOTES: Final = """\
- **chdb** is ClickHouse in a process. It has no NULL for lists, because
  [`Nullable`](https://clickhouse.com/docs/sql-reference/data-types/nullable) cannot contain an array. If an item has no such set, chdb
  returns an empty list. The comparison treats NULL and an empty list as equal for this reader.
- **DataFusion** opens a table with `pyiceberg-core`, which accepts only paths with a scheme. For a local lake, set `catalog.location` to a
  URI (`file:///srv/lake`) before the tables are created. Locations in S3 have a scheme. It does not open tables of a REST catalog, because
  pyiceberg 0.12 passes it a property that is no text; open the table's metadata file with pyiceberg's `StaticTable.from_metadata` instead.
- **Daft** cannot read lists in files of earlier releases of ddb_lake: DuckDB marked a list only by Parquet's old *converted type*. Files
  that are written now also have the logical type. The next full export that is loaded replaces the older files of `<t>`.
"""


def readers(spark: IcebergSpark) -> tuple[Reader, ...]:
    """All readers."""
    return (*QUICK, *OTHERS, spark_reader(spark))


def locked_versions() -> dict[str, str]:
    """The versions of the packages in the lock file."""
    document = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    return {package["name"]: package["version"] for package in document["package"] if "version" in package}


def page(names: Sequence[Reader], differences: Sequence[Difference]) -> str:
    """The page of a comparison of all readers and all kinds."""
    locked = locked_versions()
    heads = [r.name + "".join(f"<br>{locked[package]}" for package in r.packages[:1]) for r in names]
    lines = [INTRODUCTION, _row(["after", *heads]), _row(["---"] * (len(names) + 1))]
    for kind in KINDS:
        different = {d.reader for d in differences if d.kind == kind}
        lines.append(_row([kind, *("**differs**" if reader.name in different else "equal" for reader in names)]))
    others = [f"{package} {locked[package]}" for reader in names for package in reader.packages[1:]]
    lines += ["", f"Versions are those of `uv.lock`; also {', '.join(others)}.", "", NOTES]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Compare; with `--write`, write the page. 1 if a reader differs."""
    with tempfile.TemporaryDirectory() as folder, iceberg_spark() as spark:
        found = list(compare(Path(folder), readers(spark)))
        for difference in found:
            print(difference)
        if "--write" in sys.argv[1:]:
            PAGE.parent.mkdir(exist_ok=True)
            PAGE.write_text(page(readers(spark), found), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
