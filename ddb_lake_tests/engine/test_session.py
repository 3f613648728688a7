"""Sessions keep to their memory, by threads and by what they hold at once."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Timer, main_thread

import duckdb
import pytest
from duckdb import OutOfMemoryException, ParserException

from ddb_lake.engine import session as connection
from ddb_lake.engine.session import connect, interruptible, slices_of, with_memory
from ddb_lake.errors import UsageError


@pytest.mark.parametrize(
    ("processors", "memory", "threads"), [(2, "1GB", 2), (16, "1GB", 8), (16, "320MB", 2), (64, "8GB", 64)]
)
def test_no_more_threads_than_have_memory_to_work_in(
    monkeypatch: pytest.MonkeyPatch, processors: int, memory: str, threads: int
) -> None:
    monkeypatch.setattr(connection, "cpu_count", lambda: processors)
    with connect(memory=memory) as session:
        assert session.value("SELECT current_setting('threads')") == threads


PRODUCT = "SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b WHERE a.range + b.range < 0"
RECURSION = "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r) SELECT count(*) FROM r"
ENDLESS = [PRODUCT, RECURSION] if duckdb.__version__ < "2" else [PRODUCT]
"""DuckDB 2.0.1 often never ends an interrupted recursion while `enable_caching_operators` is off; 1.5.5 does."""


@pytest.mark.parametrize("query", ENDLESS)
def test_interrupt_ends_a_query_without_an_end(query: str) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores the signal
    try:
        _interrupt(query)
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(endless: str) -> None:
    with connect() as session:
        timer = Timer(0.2, lambda: signal.pthread_kill(main_thread().ident or 0, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            interruptible(session.con, lambda: session.con.execute(endless))
        timer.join()
        assert interruptible(session.con, lambda: session.value("SELECT 7")) == 7
        with pytest.raises(ParserException):
            interruptible(session.con, lambda: session.con.execute("SELEC"))


def test_work_that_runs_out_of_memory_is_done_again_by_fewer_threads() -> None:
    with connect(threads=9) as session:
        found: list[int] = []

        def work() -> int:
            found.append(session.value("SELECT current_setting('threads')"))
            if len(found) < 3:
                raise OutOfMemoryException("too much")
            return 7

        assert with_memory(session, work) == 7
        assert found == [9, 2, 1]
        with pytest.raises(OutOfMemoryException):
            with_memory(session, lambda: found.clear() or work())


def test_kept_rows_are_those_of_then() -> None:
    with connect() as session:
        session.con.execute("CREATE TABLE many AS SELECT range AS number FROM range(150)")
        session.keep("kept", "SELECT number, repeat(md5(number::VARCHAR), 12500) AS text FROM many")
        session.con.execute("DROP TABLE many")
        assert session.rows("SELECT count(*), sum(number), min(length(text)) FROM kept") == [(150, 11175, 400_000)]
        session.keep("kept", "SELECT number FROM kept WHERE number < 0")
        assert session.rows("SELECT * FROM kept") == []


def test_large_texts_are_kept_in_groups_that_a_thread_can_work_on(tmp_path: Path) -> None:
    """A group of 60 MB is read as one vector, and its rows take 13 times as much; they are written in groups of a few MB."""
    source = tmp_path / "source.parquet"
    texts = "SELECT range AS number, repeat(md5(range::VARCHAR), 1900) AS item FROM range(1000)"
    with connect() as session:
        session.con.execute(f"COPY ({texts}) TO '{source}' (FORMAT parquet)")
    with connect(memory="320MB") as session:
        session.keep("kept", f"SELECT * FROM read_parquet('{source}')", text="item")
        (kept,) = session.folder.glob("kept-*.parquet")
        (groups,) = session.rows(
            f"SELECT max(row_group_num_rows), count(DISTINCT row_group_id) FROM parquet_metadata('{kept}')"
        )
        assert groups[0] <= 140, groups
        assert groups[1] >= 8, groups
        assert session.rows("SELECT count(*), sum(number), min(length(item)), count(DISTINCT item) FROM kept") == [
            (1000, 499_500, 60_800, 1000)
        ]


@pytest.mark.parametrize("limit", [1, 10, 1000])
def test_slices_hold_every_value_once(limit: int) -> None:
    sizes = [5, 0, 12, 3, 3, 3, 3, 40, 1]
    found = list(slices_of(sizes, limit))
    assert [place for first, last in found for place in range(first, last)] == list(range(len(sizes)))
    assert all(last - first == 1 or sum(sizes[first:last]) <= limit for first, last in found)


def test_what_the_memory_does_not_suffice_for_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="set `memory` to more"), connect(memory="320MB") as session:
        session.value("SELECT length(string_agg(repeat(md5(range::VARCHAR), 100000), '')) FROM range(300)")
