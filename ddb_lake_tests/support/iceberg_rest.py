"""A second Iceberg REST catalog for tests: the server side of Iceberg's Java library, which others wrote.

`IcebergRestServer.java`, beside this module, routes requests to Iceberg's own `CatalogHandlers` over its JDBC catalog, whose database
(Derby) is in memory. Java compiles it at the start. Iceberg's runtime and what it lacks are those of `support.iceberg_spark`; SLF4J and
Derby are jars of PySpark. Tables are in a folder of this machine.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyspark

from ddb_lake_tests.support.child_processes import killed_with_parent
from ddb_lake_tests.support.iceberg_spark import runtime_jars
from ddb_lake_tests.support.spark_cluster import SMALL_JVM

_SOURCE: Final = Path(__file__).with_name("IcebergRestServer.java")
_JARS: Final = ("slf4j-api-*.jar", "derby-*.jar", "derbyshared-*.jar")
_ERROR_CHARS: Final = 3000


@contextmanager
def running_iceberg_rest() -> Iterator[str]:
    """The endpoint of a server for the length of a `with` block. It begins without namespaces.

    Raises RuntimeError, with what Java printed, if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="iceberg-rest-") as folder:
        of_spark = Path(pyspark.__file__).parent / "jars"
        jars = [*runtime_jars(Path(folder) / "patches.jar"), *(jar for name in _JARS for jar in of_spark.glob(name))]
        log = Path(folder) / "log"
        tables = Path(folder) / "tables"
        tables.mkdir()
        command = ["java", *SMALL_JVM.split(), "-cp", os.pathsep.join(map(str, jars)), str(_SOURCE), str(tables)]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                text=True,
                preexec_fn=killed_with_parent,
            )
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()  # printed when it listens
            if not port:
                raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-_ERROR_CHARS:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
