"""Spark with Iceberg's own runtime, as another party uses it: it reads the lake's tables, and runs Iceberg's procedures on them.

    with iceberg_spark() as spark:
        spark.sql(f"SELECT count(*) FROM {spark.view(table.metadata_location)}")
        spark.call(table, "rewrite_data_files", {"rewrite-all": "true"})
        spark.remove_orphan_files(table)

`spark` never sees the lake's catalog. A statement that commits runs on a table of the same metadata in a catalog of Spark's own, and
the metadata that it leaves is then exchanged in the lake's catalog, if no other writer committed meanwhile.

Iceberg's runtime is a jar in the package `snowpark-connect-deps-iceberg`. It is for Spark 3.5, so Spark runs in an environment
of its own (`make iceberg-spark`) and in a process of its own. `_patches` adds two things that this jar lacks. It refers to a
relocated Jackson that it does not contain; it contains another relocated copy, from which the missing one is made. And its JDBC catalog has
one statement that Derby, the only database in Spark's wheel, does not parse. (The jar lacks the HTTP client of REST catalogs too.)
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.table import Table
from snowpark_connect_deps_iceberg import get_jar_path
from sqlalchemy import update

from ddb_lake_tests.support import iceberg_spark_session
from ddb_lake_tests.support.spark_cluster import SMALL_JVM

ENVIRONMENT: Final = Path(__file__).parents[2] / "build" / "iceberg-spark"
RUNTIME: Final = "iceberg-spark-runtime-3.5_2.12-1.10.2.jar"
VERSIONS: Final = "Spark 3.5.6, Iceberg 1.10.2"
ORPHAN_AGE_S: Final = 10 * 86_400
"""`remove_orphan_files` deletes files that are older than three days, and refuses an age below one day."""

_ERROR_CHARS = 3000
_CATALOG: Final = "spark_own"
_NAMESPACE: Final = "registered"
OWN_TABLES: Final = f"{_CATALOG}.{_NAMESPACE}"
"""The namespace of tables that are Spark's alone. A table needs a location."""
_SETTINGS: Final = {
    "spark.master": "local[1]",
    "spark.driver.memory": "900m",
    "spark.driver.extraJavaOptions": SMALL_JVM,
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.log.level": "ERROR",
    "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    f"spark.sql.catalog.{_CATALOG}": "org.apache.iceberg.spark.SparkCatalog",
    f"spark.sql.catalog.{_CATALOG}.type": "jdbc",
    f"spark.sql.catalog.{_CATALOG}.uri": "jdbc:derby:memory:catalog;create=true",
    f"spark.sql.catalog.{_CATALOG}.warehouse": "/nonexistent",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


class IcebergSpark:
    """A session of Spark in another process. `iceberg_spark` makes it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._numbers = count(1)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement of Spark SQL; its rows. Raises RuntimeError with Spark's message if it fails."""
        return self._ask("sql", statement)

    def view(self, metadata_location: str) -> str:
        """The name of a temporary view of the table that a metadata file describes. It needs no catalog."""
        name = f"table_{next(self._numbers)}"
        self._ask("view", (name, metadata_location))
        return name

    def commit(self, table: Table, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement that commits to a table of a SQL catalog; its rows.

        Args:
            table: the table, as it was loaded. It is not refreshed.
            statement: SQL with `{table}` where the table's name is; `{catalog}` is the catalog's.

        Raises:
            RuntimeError: Spark's message; or another writer has committed to the table since it was loaded.
        """
        name = f"{_NAMESPACE}.table_{next(self._numbers)}"
        files = f"table => {_literal(name)}, metadata_file => {_literal(table.metadata_location)}"
        self.sql(f"CALL {_CATALOG}.system.register_table({files})")
        rows = self.sql(statement.format(table=f"{_CATALOG}.{name}", catalog=_CATALOG))
        ((location,),) = self._ask("metadata", f"{_CATALOG}.{name}")
        _exchange(table, location)
        return rows

    def call(
        self, table: Table, procedure: str, options: Mapping[str, str] | None = None, **arguments: str
    ) -> list[tuple[Any, ...]]:
        """Run a procedure of Iceberg: https://iceberg.apache.org/docs/1.10.0/spark-procedures/

        Args:
            table: as in `commit`.
            procedure: such as `rewrite_data_files`, `rewrite_manifests` or `expire_snapshots`.
            options: the procedure's argument `options`.
            arguments: its other arguments, as SQL.
        """
        named = {"table": "'{table}'", **arguments}
        if options:
            pairs = ", ".join(f"{_literal(name)}, {_literal(value)}" for name, value in options.items())
            named["options"] = f"map({pairs})"
        listed = ", ".join(f"{name} => {value}" for name, value in named.items())
        return self.commit(table, f"CALL {{catalog}}.system.{procedure}({listed})")

    def remove_orphan_files(self, table: Table) -> list[str]:
        """Make all files of a local table old, and run `remove_orphan_files` with its defaults; the files it deleted."""
        old = time.time() - ORPHAN_AGE_S
        for path in Path(table.location().removeprefix("file://")).rglob("*"):
            os.utime(path, (old, old))
        return [path.removeprefix("file:") for (path,) in self.call(table, "remove_orphan_files")]

    def _ask(self, kind: str, argument: Any) -> list[tuple[Any, ...]]:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None
        try:
            pickle.dump((kind, argument), requests)
            requests.flush()
            succeeded, answer = pickle.load(answers)
        except (EOFError, BrokenPipeError) as error:
            raise RuntimeError(f"Spark ended: {self._log.read_text(errors='replace')[-_ERROR_CHARS:]}") from error
        if not succeeded:
            raise RuntimeError(answer)
        rows: list[tuple[Any, ...]] = answer
        return rows


@contextmanager
def iceberg_spark(others: Mapping[str, str] | None = None) -> Iterator[IcebergSpark]:
    """A running session, which ends with the block. Starting it takes about six seconds of CPU, so share it.

    `others`: settings of Spark, in addition to or in place of those of the tests.
    """
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        raise RuntimeError(f"{ENVIRONMENT} is not there; run `make iceberg-spark`")
    with tempfile.TemporaryDirectory(prefix="iceberg-spark-") as folder:
        path = os.pathsep.join(map(str, runtime_jars(Path(folder) / "patches.jar")))
        settings = {**_SETTINGS, "spark.driver.extraClassPath": path, "spark.local.dir": folder, **(others or {})}
        environment = {name: value for name, value in os.environ.items() if name not in ("SPARK_HOME", "PYTHONPATH")}
        log = Path(folder) / "spark.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [str(python), iceberg_spark_session.__file__, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env={**environment, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python)},
            )
        try:
            session = IcebergSpark(process, log)
            session.sql(f"CREATE NAMESPACE {_CATALOG}.{_NAMESPACE}")
            yield session
        finally:
            process.communicate()  # the end of its input is the end of the session


def runtime_jars(patches: Path) -> list[Path]:
    """The jars of Iceberg's runtime, in the order of a class path. `patches`: where the jar of `_patches` is written."""
    return [_patches(patches), Path(get_jar_path(RUNTIME))]


def _exchange(table: Table, location: str) -> None:
    """Make a metadata file the table's newest in its SQL catalog, if the one that was loaded still is."""
    if location == table.metadata_location:
        return
    catalog: Any = table.catalog
    assert isinstance(catalog, SqlCatalog), f"{type(catalog)} is no SQL catalog"
    namespace, name = table.name()
    row = (
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == namespace,
        IcebergTables.table_name == name,
        IcebergTables.metadata_location == table.metadata_location,
    )
    changed = update(IcebergTables).where(*row)
    changed = changed.values(metadata_location=location, previous_metadata_location=table.metadata_location)
    with catalog.engine.begin() as connection:
        if connection.execute(changed).rowcount != 1:
            raise RuntimeError(f"{name}: another writer has committed since the table was loaded")


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_HELD: Final = "org/apache/iceberg/shaded/org/apache/parquet/shaded/com/fasterxml/jackson"
_NEEDED: Final = "org/apache/iceberg/shaded/com/fasterxml/jackson"
_JACKSON: Final = {_HELD: _NEEDED, _HELD.replace("/", "."): _NEEDED.replace("/", ".")}
_JDBC: Final = "org/apache/iceberg/jdbc/JdbcUtil.class"
_DERBY: Final = {" LIMIT 1": " FETCH FIRST 1 ROWS ONLY"}
_UTF8 = 1
_TWO_ENTRIES = (5, 6)  # a long or a double counts as two
_ENTRY_BYTES: Final = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
"""The bytes of an entry of a class file's constant pool after its tag, by tag.
https://docs.oracle.com/javase/specs/jvms/se17/html/jvms-4.html#jvms-4.4
"""


def _patches(target: Path) -> Path:
    """Write a jar of the classes that the runtime lacks, and of those that replace its own."""
    with zipfile.ZipFile(get_jar_path(RUNTIME)) as runtime, zipfile.ZipFile(target, "w") as jar:
        for name in runtime.namelist():
            if name.startswith(_HELD) and name.endswith(".class"):
                jar.writestr(name.replace(_HELD, _NEEDED), _with_texts(runtime.read(name), _JACKSON))
        jar.writestr(_JDBC, _with_texts(runtime.read(_JDBC), _DERBY))
    return target


def _with_texts(code: bytes, replacements: Mapping[str, str]) -> bytes:
    """A class file with other texts in its constant pool, which has all names and literals."""
    (entries,) = struct.unpack_from(">H", code, 8)
    parts = [code[:10]]
    at, number = 10, 1
    while number < entries:
        tag = code[at]
        if tag == _UTF8:
            (size,) = struct.unpack_from(">H", code, at + 1)
            text = code[at + 3 : at + 3 + size]
            for old, new in replacements.items():
                text = text.replace(old.encode(), new.encode())
            parts.append(struct.pack(">BH", tag, len(text)) + text)
            at += 3 + size
        else:
            size = 1 + _ENTRY_BYTES[tag]
            parts.append(code[at : at + size])
            at += size
        number += 2 if tag in _TWO_ENTRIES else 1
    return b"".join([*parts, code[at:]])
