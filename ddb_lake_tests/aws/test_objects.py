"""Listing objects: a span of hours in one request, and the files below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import session
from ddb_lake.errors import DeniedError
from ddb_lake_tests.support.effort import examples

KEYS = (
    "orders/2026/03/04/09/late",
    "orders/2026/03/04/10/a",
    "orders/2026/03/04/10/.hidden",
    "orders/2026/03/04/11/b",
    "orders/2026/03/04/11/zz",
    "orders/2026/03/04/12/c",
    "orders/processing-failed/2026/03/04/11/d",
    "orders2/2026/03/04/11/e",
)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    session.cache_clear()
    with mock_aws():
        s3: Any = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="landing")
        for key in KEYS:
            s3.put_object(Bucket="landing", Key=key, Body=b"x")
        yield ObjectStore()
    session.cache_clear()


@pytest.mark.parametrize("root", ["s3://landing/orders/", "s3://landing/orders"])
@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [("10", "11", KEYS[1:2] + KEYS[3:5]), ("11", "11", KEYS[3:5]), ("09", "12", (KEYS[0], KEYS[1], *KEYS[3:6]))],
)
def test_span_has_the_objects_of_its_hours(
    store: ObjectStore, root: str, first: str, last: str, expected: tuple[str, ...]
) -> None:
    hours = (f"s3://landing/orders/2026/03/04/{hour}/" for hour in (first, last))

    found = [ref.uri for ref in store.list_span(root, *hours)]

    assert found == [f"s3://landing/{key}" for key in expected]


def test_folder_without_objects_is_listed_once(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    store.s3.meta.events.register(
        "before-call.s3.ListObjectsV2", lambda **call: asked.append(call["params"]["url_path"])
    )

    assert list(store.list("s3://landing/nothing/")) == []
    assert len(asked) == 1
    assert [ref.uri for ref in store.list("s3://landing/orders2")] == [f"s3://landing/{KEYS[-1]}"]


# --- files

_NAMES = st.sampled_from(["a", "a.b", "a-b", ".a", "b", "B", "b c", "\u00e9", "z\u2028"])


@given(st.sets(st.lists(_NAMES, min_size=1, max_size=3).map(tuple), max_size=8))
@examples(50, 400)
def test_files_below_a_folder_are_those_without_a_hidden_part_in_the_order_of_their_parts(
    paths: set[tuple[str, ...]],
) -> None:
    files = {path for path in paths if not any(path[: len(other)] == other for other in paths - {path})}
    files = {path for path in files if not any(other[: len(path)] == path for other in files - {path})}
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for path in files:
            target = folder.joinpath(*path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"x" * len(path))

        found = list(ObjectStore().list(str(folder)))

        expected = sorted(path for path in files if not any(part.startswith(".") for part in path))
        assert [ref.uri for ref in found] == [str(folder.joinpath(*path)) for path in expected]
        assert [ref.size_bytes for ref in found] == [len(path) for path in expected]
        assert all(ObjectStore().fetch(ref) == b"x" * ref.size_bytes for ref in found)


def test_links_to_files_are_listed_and_links_to_folders_or_to_nothing_are_not(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    for name, target in (("file", "folder/file"), ("again", "folder"), ("lost", "nothing")):
        (tmp_path / name).symlink_to(tmp_path / target)

    found = [ref.uri for ref in ObjectStore().list(str(tmp_path))]

    assert found == [str(tmp_path / "file"), str(tmp_path / "folder" / "file")]


def test_file_that_is_removed_during_the_listing_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    listing = ObjectStore().list(str(tmp_path))

    found = [next(listing).uri]
    (tmp_path / "b").unlink()
    found += [ref.uri for ref in listing]

    assert found == [str(tmp_path / "a"), str(tmp_path / "c")]


def test_folder_that_may_not_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its objects would be left out silently."""
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def denied(folder: str) -> Any:
        if folder.endswith("closed"):
            raise PermissionError(folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DeniedError, match="closed: this folder may not be listed"):
        list(ObjectStore().list(str(tmp_path)))
