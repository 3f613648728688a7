"""The newest metadata file of a table that its catalog lost, whatever the catalogs before it called the files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.catalog import load_catalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from ddb_lake.lake.catalog import WORKING
from ddb_lake.lake.replacement import newest_metadata
from ddb_lake_tests.support.effort import examples

COMMITS = 6


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The metadata of a table after each of its commits."""
    folder = tmp_path_factory.mktemp("versions")
    catalog = load_catalog("own", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder))
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", Schema(NestedField(1, "n", LongType())))
    found = []
    for number in range(COMMITS):
        with table.transaction() as transaction:
            transaction.set_properties({"number": str(number)})
        found.append(Path(table.metadata_location).read_bytes())
    return found


def named(styles: Sequence[bool]) -> list[str]:
    """A name for each version: `v7.metadata.json` where the style is true. The numbers of a style begin again after the other one."""
    names, number = [], 0
    for at, is_plain in enumerate(styles):
        number = number + 1 if at and styles[at - 1] == is_plain else int(is_plain)
        name = f"v{number}" if is_plain else f"{number:05}-{UUID(int=at)}"
        if f"{name}.metadata.json" in names:  # only a plain name can repeat: the catalog would overwrite the file
            name += f"-{UUID(int=at)}"
        names.append(f"{name}.metadata.json")
    return names


def found(folder: Path, files: dict[str, bytes], modified: Sequence[int]) -> tuple[str, bool] | None:
    for (name, content), at in zip(files.items(), modified, strict=True):
        (folder / name).write_bytes(content)
        os.utime(folder / name, (at, at))
    newest = newest_metadata(
        PyArrowFileIO(), {str(folder / name): at for name, at in zip(files, modified, strict=True)}
    )
    return None if newest is None else (Path(newest.uri).name, newest.is_earlier)


@examples(15, 200)
@given(
    st.lists(st.booleans(), min_size=COMMITS, max_size=COMMITS),
    st.sets(st.integers(0, COMMITS - 1)),
    st.sets(st.integers(0, COMMITS - 1)),
)
def test_newest_readable_file_is_found_by_its_time(
    versions: list[bytes], styles: list[bool], damaged: set[int], working: set[int]
) -> None:
    """Some files are cut short, and some are of working tables."""
    names = named(styles)
    contents = [
        text[: len(text) // 2] if at in damaged else _of_working_table(text) if at in working else text
        for at, text in enumerate(versions)
    ]
    with tempfile.TemporaryDirectory() as folder:
        newest = found(Path(folder), dict(zip(names, contents, strict=True)), range(COMMITS))
    good = [at for at in range(COMMITS) if at not in damaged | working]
    assert (newest and newest[0]) == (names[good[-1]] if good else None)
    if newest is not None and not damaged:
        assert not newest[1]
    if newest is not None and COMMITS - 1 in damaged:
        assert newest[1], "the last commit is missing"


@examples(15, 200)
@given(st.integers(0, COMMITS), st.booleans(), st.permutations(range(COMMITS)))
def test_newest_file_is_found_by_its_number_if_files_were_copied(
    versions: list[bytes], plain: int, is_plain_first: bool, modified: list[int]
) -> None:
    """The table was registered in another catalog once, after `plain` commits; then all files were copied, in any order."""
    names = named([(at < plain) == is_plain_first for at in range(COMMITS)])
    with tempfile.TemporaryDirectory() as folder:
        assert found(Path(folder), dict(zip(names, versions, strict=True)), modified) == (names[-1], False)


@pytest.mark.parametrize("name", ["v3.gz.metadata.json", "00003-a.gz.metadata.json"])
def test_compressed_metadata_is_read(versions: list[bytes], name: str, tmp_path: Path) -> None:
    import gzip

    assert found(tmp_path, {name: gzip.compress(versions[-1])}, [0]) == (name, False)


def _of_working_table(text: bytes) -> bytes:
    return text.replace(b'"properties":{', f'"properties":{{"{WORKING}":"true",'.encode(), 1)
