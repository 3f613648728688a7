"""DuckDB connections: bounded memory, spilling, our scalar functions, and S3 on request."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import duckdb
import orjson
import pyarrow as pa

from ddb_lake.core.operations.library_errors import translate
from ddb_lake.core.operations.retry_policy import ATTEMPTS, FIRST_WAIT_MS, READ_TIMEOUT_S, WAIT_FACTOR
from ddb_lake.core.operations.system import DISK_FULL, cpu_count, is_disk_full, memory_bytes
from ddb_lake.core.schema.table_schema import from_json_column, to_json_column
from ddb_lake.core.values.attributes import check_value
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.engine.sql import identifier, literal
from ddb_lake.errors import ConfigError, UndecodableError, UnreachableError, UsageError

Done = TypeVar("Done")

S3_EXTENSION = "httpfs"
"""The one extension of DuckDB that a lake needs, if its warehouse is on S3."""

THREAD_BYTES = 125_000_000
"""DuckDB's own advice: the least memory for each of its threads."""

FLUSHED_BYTES = 128_000_000
"""DuckDB's allocator gives the memory of sorted rows back to the system if they took more than this. By default it is 512 MiB, and a run
of a load sorts a little less with the default memory limit."""


_KEPT_ROWS = 20_480
_KEPT_BYTES = 32 * 1024 * 1024
_SMALL_BYTES = 4 * 1024 * 1024
"""The size of the texts that each thread processes at once if rows are large: the work needs 13 times as much memory."""

_SLICED_ROWS = 1024
_KEPT_DICTIONARY_BYTES = 64 * 1024
"""The memory that DuckDB allocates for each text column before the column has any value."""


_LASTING = "kept:"

_icu: bool | None = None
"""Whether DuckDB was built with time zones; None until the first connection states it."""


def lasting(name: str) -> str:
    """The name of a relation that `Session.forget_relations` keeps. It collides with no view of a table: their names have
    no colon."""
    return _LASTING + name


@dataclass(frozen=True, slots=True)
class S3Access:
    """Credentials and endpoint for DuckDB's httpfs, resolved by `aws.session`."""

    region: str
    key_id: str
    secret: str
    session_token: str | None = None
    endpoint_url: str | None = None


@contextmanager
def connect(
    s3: S3Access | None = None, memory: str = "1GB", threads: int | None = None, memory_setting: str = "memory"
) -> Iterator[Any]:
    """Open a DuckDB connection with a work folder of its own. Both end with the block.

    Args:
        s3: credentials and endpoint, if files are in S3.
        memory: the memory that DuckDB may use. Data that does not fit is spilled to the work folder.
        threads: the number of threads. By default, one for each processor, but no more than the memory allows.
        memory_setting: the setting that `memory` comes from, for messages.

    Yields:
        The session: `con` for statements, `folder` for spilled and staged files.

    Raises:
        UsageError: `memory` does not suffice.
        DamagedError, DeniedError, UnreachableError, MemoryLimitError: translations of DuckDB's errors in the block, as in
            `core.operations.library_errors`.
    """
    with TemporaryDirectory(prefix="ddb-lake-", ignore_cleanup_errors=True) as folder:
        # no credentials but those that the session gets: DuckDB would read others from the home directory
        config = {
            "temp_directory": str(Path(folder) / "spill"),
            "memory_limit": memory,
            "allocator_bulk_deallocation_flush_threshold": f"{FLUSHED_BYTES}B",
            "allow_persistent_secrets": "false",
        }
        con = duckdb.connect(config=config)
        try:
            settings = {
                "python_enable_replacements": "false",  # a query sees tables, and no variables of this process
                "preserve_insertion_order": "false",
                "threads": threads or max(1, min(cpu_count(), memory_bytes(memory) // THREAD_BYTES)),
                **({"TimeZone": "'UTC'"} if _has_icu(con) else {}),
            }
            con.execute("".join(f"SET {name} = {value};" for name, value in settings.items()))
            _limit_operators(con)
            con.create_function(
                "ddb_canonical_number", _canonical_or_null, ["VARCHAR"], "VARCHAR", null_handling="special"
            )
            con.create_function("ddb_plain_json", _plain_json, ["VARCHAR"], _PLAIN_JSON, null_handling="special")
            con.create_function(
                "ddb_value_of_plain_json", _value_of_plain_json, ["VARCHAR"], "VARCHAR", null_handling="special"
            )
            if s3:
                use_s3(con, s3)
            with translated_errors(memory, memory_setting):
                yield Session(con, Path(folder))
        finally:
            con.close()


@contextmanager
def translated_errors(memory: str, memory_setting: str = "memory") -> Iterator[None]:
    """Translate DuckDB's errors in the block, as in the block of `connect`.

    Args:
        memory: the memory that the connection may use.
        memory_setting: the setting that `memory` comes from, for messages.
    """
    try:
        yield
    except duckdb.Error as error:
        raise _meaning(error, memory, memory_setting) from error


@dataclass(frozen=True, slots=True)
class Session:
    """A connection and its work folder."""

    con: Any
    folder: Path

    def cursor(self) -> Any:
        """Another connection to the same relations, so that its result stays valid while this one executes statements.

        After `engine.read_only.limit_to_files`, DuckDB's own settings of a connection cannot be changed.
        """
        con = self.con.cursor()
        if not con.execute("SELECT current_setting('lock_configuration')").fetchall()[0][0]:
            _limit_operators(con)
        return con

    def rows(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        result: list[tuple[Any, ...]] = self.con.execute(sql, parameters or []).fetchall()
        return result

    def value(self, sql: str, parameters: list[Any] | None = None) -> Any:
        """The first column of the first row of a query, which must have few rows; None if it has none.

        All rows are fetched: DuckDB 2 registers nothing on a connection that has an unfinished result.
        """
        rows = self.rows(sql, parameters)
        return rows[0][0] if rows else None

    def keep(self, name: str, query: str, text: str | None = None) -> None:
        """Make a view of a query's rows, which are worked out now and lie in the work folder.

        A table in memory is read 2,048 rows at a time, whatever they take, and up to 122,880 of them by one thread.

        `text`: a column whose texts may be large. If they are, the row groups are so small that a thread has enough
        memory for any later work on one group.
        """
        try:
            path = self._write_kept(name, query)
        except duckdb.OutOfMemoryException:
            if text is None:
                raise
            path = self._write_sliced(name, query, text)
        if text is not None and self._largest_group(path) > 3 * _SMALL_BYTES:
            whole = path
            path = self._write_sliced(name, f"SELECT * FROM read_parquet({literal(str(whole))})", text)
            whole.unlink()
        self.con.execute(
            f"CREATE OR REPLACE VIEW {identifier(name)} AS SELECT * FROM read_parquet({literal(str(path))})"
        )

    def forget_relations(self) -> None:
        """Drop every relation whose name a table of the lake could have, so that none is read in a table's place.

        Those that `lasting` names stay.
        """
        names = "database_name, schema_name, {}_name AS name FROM duckdb_{}s() WHERE NOT internal"
        for kind in ("view", "table"):
            for place in self.rows(f"SELECT {names.format(kind, kind)} AND NOT starts_with(name, '{_LASTING}')"):
                self.con.execute(f"DROP {kind} {'.'.join(map(identifier, place))}")

    def _write_kept(self, name: str, query: str, group_bytes: int = _KEPT_BYTES) -> Path:
        path = self.folder / f"{name.removeprefix(_LASTING)}-{uuid.uuid4().hex}.parquet"
        options = (
            f"FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {_KEPT_ROWS}, ROW_GROUP_SIZE_BYTES {group_bytes},"
            f" STRING_DICTIONARY_PAGE_SIZE_LIMIT {_KEPT_DICTIONARY_BYTES}"
        )
        with_memory(self, lambda: self.con.execute(f"COPY ({query}) TO {literal(str(path))} ({options})"))
        return path

    def _write_sliced(self, name: str, query: str, text: str) -> Path:
        """`_write_kept` with groups of a few MB: DuckDB passes on as many rows at once as it has read at once."""
        rows = self.con.cursor().sql(query).to_arrow_reader(_SLICED_ROWS)
        slices = (batch.slice(first, last - first) for batch in rows for first, last in _by_bytes(batch[text]))
        self.con.register("slices", pa.RecordBatchReader.from_batches(rows.schema, slices))
        try:
            return self._write_kept(name, "SELECT * FROM slices", _SMALL_BYTES)
        finally:
            self.con.unregister("slices")

    def _largest_group(self, path: Path) -> int:
        sizes = f"SELECT sum(total_uncompressed_size) AS size FROM parquet_metadata({literal(str(path))})"
        return int(self.value(f"SELECT max(size) FROM ({sizes} GROUP BY row_group_id)") or 0)


def slices_of(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Bounds of slices of consecutive values: each takes at most `limit`, or has one value that takes more."""
    first = held = 0
    for place, size in enumerate(sizes):
        if place > first and held + size > limit:
            yield first, place
            first, held = place, 0
        held += size
    if sizes:
        yield first, len(sizes)


def _by_bytes(texts: pa.Array) -> Iterator[tuple[int, int]]:
    import pyarrow.compute as pc  # takes as long to import as a small query

    return slices_of(pc.fill_null(pc.binary_length(texts), 0).to_pylist(), _SMALL_BYTES)


def with_memory(session: Session, work: Callable[[], Done]) -> Done:
    """What the work gives, done again with a quarter of the threads as long as it runs out of memory: each holds its own.

    The session keeps to the threads it has then. Raises OutOfMemoryException if one takes too much.
    """
    while True:
        try:
            return work()
        except duckdb.OutOfMemoryException:
            threads = session.value("SELECT current_setting('threads')")
            if threads == 1:
                raise
            session.con.execute(f"SET threads = {max(1, threads // 4)}")


def interruptible(con: Any, work: Callable[[], Done]) -> Done:
    """What the work on a connection gives. Ctrl-C ends the statement, and KeyboardInterrupt is raised.

    DuckDB looks for signals between its tasks alone, and a recursive query is one task without an end. So the work has a thread of
    its own, and this one receives the signal. With DuckDB 2.0.1, an interrupted recursive query often does not end (its executor waits
    for the task when `enable_caching_operators` is off).
    """
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(work)
        try:
            return running.result()
        finally:
            while not running.done():
                con.interrupt()  # has no effect before the statement begins
                wait([running], timeout=0.05)


def _meaning(error: duckdb.Error, memory: str, setting: str) -> Exception:
    """The error of ours for an error of DuckDB's; the same error if it has no translation."""
    if is_disk_full(error):
        return UnreachableError(f"{next(iter(str(error).strip().splitlines()), 'DuckDB')}; {DISK_FULL}")
    found = translate(error)
    if found is None and isinstance(error, duckdb.OutOfMemoryException):
        return UsageError(
            f"{memory} of memory do not suffice for this, even with one thread and spilling to disk",
            hint=f"set `{setting}` to more",
        )
    return found or error


def _limit_operators(con: Any) -> None:
    # caching operators gather 2,048 rows, whatever a row takes
    con.execute("SET enable_progress_bar = false; SET enable_caching_operators = false")


def _has_icu(con: Any) -> bool:
    """Whether DuckDB was built with time zones, the same for all connections of a process: none loads the extension."""
    global _icu
    if _icu is None:
        _icu = bool(con.execute("FROM duckdb_extensions() WHERE extension_name = 'icu' AND loaded").fetchall())
    return _icu


def _canonical_or_null(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return canonical_number(text)
    except UndecodableError:
        return None


_PLAIN_JSON = "STRUCT(text VARCHAR, exact BOOLEAN)"


def _plain_json(text: str | None) -> dict[str, Any] | None:
    """The plain JSON of a value in DynamoDB JSON, and whether the value follows from it; None if the text is no value.

    A row with a text that is no value is not used: `engine.line_check` finds it.
    """
    if text is None:
        return None
    try:
        value = orjson.loads(text)
        check_value(value)
    except (orjson.JSONDecodeError, UndecodableError):
        return None
    plain, exact = to_json_column(value)
    return {"text": plain, "exact": exact}


def _value_of_plain_json(text: str | None) -> str | None:
    return None if text is None else orjson.dumps(from_json_column(text)).decode()


def load_extension(con: Any, name: str) -> None:
    """Load a DuckDB extension: from its wheel if that is made for this DuckDB, else the installed or downloaded one.

    Raises ConfigError if there is no such wheel and the extension can neither be found nor downloaded.
    """
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    folder = Path(spec.origin).parent / "extensions" if spec is not None and spec.origin is not None else None
    wheel = folder / f"v{duckdb.__version__}" / f"{name}.duckdb_extension" if folder else None
    if wheel is not None and wheel.is_file():
        con.execute(f"LOAD {literal(str(wheel))}")
        return
    try:
        con.execute(f"INSTALL {name}")  # does nothing if it is installed
        con.execute(f"LOAD {name}")
    except duckdb.Error as error:
        raise ConfigError(
            f"DuckDB {duckdb.__version__} has no extension {name} here, and could not download it"
            + (f"; the installed wheel duckdb-extension-{name} is made for another version" if folder else ""),
            hint="pip install '.[s3]' in a checkout, which has DuckDB 1.5.5 and this extension; with another DuckDB, run"
            f" `INSTALL {name}` where extensions.duckdb.org can be reached",
        ) from error


def use_s3(con: Any, s3: S3Access) -> None:
    """Let a connection read and write S3."""
    load_extension(con, S3_EXTENSION)
    con.execute(f"SET http_timeout = {READ_TIMEOUT_S}")
    con.execute(f"SET http_retries = {ATTEMPTS - 1}")
    con.execute(f"SET http_retry_wait_ms = {FIRST_WAIT_MS}")
    con.execute(f"SET http_retry_backoff = {WAIT_FACTOR}")
    parts = {"KEY_ID": s3.key_id, "SECRET": s3.secret, "REGION": s3.region}
    if s3.session_token:
        parts["SESSION_TOKEN"] = s3.session_token
    extra = ""
    if s3.endpoint_url:
        scheme, _, host = s3.endpoint_url.partition("://")
        parts["ENDPOINT"] = host.rstrip("/")
        extra = f", URL_STYLE 'path', USE_SSL {'true' if scheme == 'https' else 'false'}"
    options = ", ".join(f"{name} {literal(value)}" for name, value in parts.items())
    for name in ("s3_access_key_id", "s3_secret_access_key", "s3_session_token"):
        con.execute(f"SET {name} = ''")  # httpfs fills them from the environment, where any statement could read them
    con.execute(f"CREATE SECRET lake_s3 (TYPE s3, {options}{extra})")
