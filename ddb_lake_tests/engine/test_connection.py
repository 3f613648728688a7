"""Sessions keep to their memory, by threads and by what they hold at once."""

from __future__ import annotations

import pytest
from duckdb import OutOfMemoryException

from ddb_lake.engine import connection
from ddb_lake.engine.connection import connect, with_memory
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


def test_what_the_memory_does_not_suffice_for_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="set `memory` to more"), connect(memory="320MB") as session:
        session.value("SELECT length(string_agg(repeat(md5(range::VARCHAR), 100000), '')) FROM range(300)")
