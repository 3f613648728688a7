"""Proves an erasure: reads every file of a table, and everything that the lake landed, and finds no erased key.

An item's other values are not searched for, because other items may have the same ones. They are gone because each file that had
a row, record or document with the key was rewritten or deleted.

Each kind of file is read in its own way:

- Parquet: no row has a key, also no row that is deleted by position, and no bytes of the quarantine name one. A file that no snapshot
  names and that has a key belongs to a writer whose commit conflicted with the erasure, so it is deleted.
- Manifests: they have bounds of columns only of files that exist, and these were read.
- Metadata of tables: no file has the texts of all attributes of a key as words, of those that have at least four characters. Such words can
  also be names of attributes, or equal numbers, and no command can remove them, so they are reported and do not make the erasure fail.
- Landing: no record, item or document names a key.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from pyiceberg.table import Table

from ddb_lake.core.layout.locations import spelled
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.erased_keys import scalar_texts
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.bounds_left import MANIFEST_LIST, has_bounds_without_file
from ddb_lake.lake.maintenance import referenced
from ddb_lake.pipeline.maintain.erase_landing import LandedFiles, erase_landing
from ddb_lake.pipeline.maintain.erasure import Erasure, SearchedFiles
from ddb_lake.pipeline.read.daily_snapshots import daily_folder

_ROWS = "rows that have the hash of a key"
_BYTES = "entries that name a key"
_BOUNDS = "bounds of columns of a file that was removed"
_TEXTS = "the texts of all attributes of a key, of those that have at least 4 characters"
_SHORT_TEXTS = "nothing, because the text of each attribute of the keys has fewer than 4 characters"
_RECORDS = "records, items and documents that name a key"

_FIGURES = 5
_RAW_ROWS = 100
_LEAST_CHARACTERS = 4
"""The fewest characters of a value that is searched in text: shorter ones are part of other words."""


@dataclass(slots=True)
class _Proof:
    """The number of files that the proof has read, by place and by what it searched for, and the files that still have something."""

    erasure: Erasure
    read: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    """The metadata files that have the texts of a key."""

    def table(self, table: Table) -> None:
        """Read all files at the location of an Iceberg table."""
        lake, location, name = self.erasure.lake, table.location(), table.name()[-1]
        listed = [ref.uri for ref in lake.objects.list(f"{location}/")]
        newest = lake.catalog.table(name) or table
        named = referenced(newest)
        kept = set()
        for uri in (uri for uri in listed if uri.endswith(".parquet")):
            if not self._has_key(name, uri):
                kept.add(spelled(uri))
            elif spelled(uri) in named:
                self.left.append(uri)
            else:
                self._delete(table, uri)
        for uri in (uri for uri in listed if not uri.endswith(".parquet")):
            if uri.endswith(".avro") and not uri.rpartition("/")[2].startswith(MANIFEST_LIST):
                self.read[name, _BOUNDS] += 1
                self._manifest(table, uri, kept, spelled(uri) in named)
            elif uri.endswith(".json"):
                words = self._words()
                self.read[name, _TEXTS if words else _SHORT_TEXTS] += 1
                data = lake.objects.read(uri)
                if any(all(word.search(data) for word in of_key) for of_key in words):
                    self.metadata.append(uri)

    def _manifest(self, table: Table, uri: str, kept: set[str], is_named: bool) -> None:
        try:
            found = has_bounds_without_file(table.io, uri, kept)
        except FileNotFoundError:  # a concurrent compaction removed it
            return
        if found and is_named:
            self.left.append(uri)
        elif found:
            self._delete(table, uri)

    def _delete(self, table: Table, uri: str) -> None:
        with suppress(FileNotFoundError):
            table.io.delete(uri)
            self.erasure.removed["files of other writers deleted"] += 1

    def _has_key(self, name: str, uri: str) -> bool:
        session, source = self.erasure.session, f"read_parquet({literal(uri)})"
        columns = _columns(session, uri)
        if "raw" in columns and "quarantine_id" in columns:
            self.read[name, _BYTES] += 1
            cursor = session.con.cursor()
            cursor.execute(f"SELECT raw FROM {source}")
            while rows := cursor.fetchmany(_RAW_ROWS):
                if any(self.erasure.names_key(raw) or self.erasure.has_text_of_key(raw) for (raw,) in rows):
                    return True
            return False
        if "_key_hash" not in columns:  # positions, the ledger, or digests of keys
            return False
        self.read[name, _ROWS] += 1
        return bool(session.value(f"SELECT count(*) FROM {source} WHERE {self.erasure.of_hashes}"))

    def _words(self) -> list[list[re.Pattern[bytes]]]:
        """Of each key, what finds the texts of its attributes that are long enough. Without keys that have none."""
        of_keys = (
            [_word(text) for text in sorted(scalar_texts(key.values())) if len(text) >= _LEAST_CHARACTERS]
            for key in self.erasure.keys.values()
        )
        return [words for words in of_keys if words]


def _word(text: str) -> re.Pattern[bytes]:
    """Finds a text that is no part of a longer word or number."""
    return re.compile(rb"(?<!\w)" + re.escape(text.encode()) + rb"(?!\w)")


def prove(erasure: Erasure) -> tuple[SearchedFiles, ...]:
    """Search every file that can have a key or a value of an item. Returns the files by place and by what was searched for.

    Raises:
        CheckFailed: a file still has a key. Its name has no value.
    """
    proof = _Proof(erasure)
    lake = erasure.lake
    for full_name in lake.table(erasure.name).iceberg_names:
        table = lake.catalog.table(full_name)
        if table is not None:
            proof.table(table)
    folder = daily_folder(lake, erasure.name)
    for ref in lake.objects.list(folder) if lake.objects.reachable(folder) else ():
        proof.read["kept days", _ROWS] += 1
        if erasure.session.value(f"SELECT count(*) FROM read_parquet({literal(ref.uri)}) WHERE {erasure.of_hashes}"):
            proof.left.append(ref.uri)
    landed = _landed(erasure)
    proof.read["landing", _RECORDS] += landed.read
    if landed.change:
        proof.left.append(f"{landed.change} landed objects")
    if proof.metadata:
        files = count_text(len(proof.metadata), "file")
        erasure.not_reached.append(
            f"metadata of tables: {files} with the text of a key, such as {proof.metadata[0]}: names of attributes and columns"
            " stay; look whether it is one, or another word of the file"
        )
    if proof.left:
        raise CheckFailed(
            f"{len(proof.left)} files still have the item: {', '.join(proof.left[:_FIGURES])}; the erasure is not complete",
            table=erasure.name,
            hint="repeat the command: another process may have written meanwhile",
        )
    return tuple(SearchedFiles(*what, files) for what, files in sorted(proof.read.items()) if files)


def _landed(erasure: Erasure) -> LandedFiles:
    """A second walk over landing, which counts what is left and changes nothing."""
    counting = Erasure(erasure.lake, erasure.name, erasure.request, erasure.session, erasure.key_names, erasure.keys)
    return erase_landing(counting, dry=True)


def _columns(session: Session, uri: str) -> set[str]:
    return {name for (name,) in session.rows(f"SELECT name FROM parquet_schema({literal(uri)})")}
