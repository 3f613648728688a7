"""What `engine: spark` needs: PySpark, Java, the master, and the packages of the executors. Each check names what to do.

`session.open_spark` makes the checks before it starts Spark, and `ddb-lake doctor` reports them.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ddb_lake.errors import ConfigError

OLDEST = (3, 5)
"""The oldest PySpark that tasks run on: that of EMR Serverless 7 and of Glue 5.0 and 5.1."""

_NEWEST_PYTHON_OF_SPARK_3 = (3, 11)
_OLDEST_JAVA = {3: 8, 4: 17}
"""By the first number of Spark's version. https://spark.apache.org/docs/3.5.6/ and https://spark.apache.org/docs/4.0.1/"""

PACKAGES = ("ddb-lake", "duckdb", "pyarrow", "pyiceberg")
"""The packages whose versions must be the same in the driver and in the executors."""

_CONNECT_TIMEOUT_S = 10
_SAME_ENVIRONMENT = "give the executors the environment of the driver: `spark.archives` and `spark.pyspark.python` under `spark.settings`"


def check_pyspark() -> tuple[int, ...]:
    """The version of PySpark. Raises ConfigError if it is missing, too old, or does not support this Python."""
    try:
        import pyspark
    except ImportError as error:
        raise ConfigError("engine: spark needs PySpark", hint="pip install '.[spark]' in a checkout") from error
    text: str = pyspark.__version__
    version = tuple(int(number) for number in re.findall(r"\d+", text)[:3])
    oldest = ".".join(map(str, OLDEST))
    if version < OLDEST:
        raise ConfigError(
            f"engine: spark needs PySpark {oldest} or later, and {text} is installed at {pyspark.__file__}"
        )
    if version[0] == OLDEST[0] and sys.version_info[:2] > _NEWEST_PYTHON_OF_SPARK_3:
        raise ConfigError(
            f"PySpark {text} does not support Python {sys.version_info[0]}.{sys.version_info[1]}",
            hint="use Python 3.11, or PySpark 4",
        )
    return version


def check_java(spark: tuple[int, ...]) -> int:
    """The version of Java with which the driver starts. `spark`: the version of Spark.

    Raises:
        ConfigError: Java is missing, or too old.
    """
    oldest = _OLDEST_JAVA.get(spark[0], max(_OLDEST_JAVA.values()))
    hint = "install Java 17, or set JAVA_HOME to its folder"
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None:
        raise ConfigError(f"Spark needs Java {oldest} or later, and `java` is not on the path", hint=hint)
    try:
        found = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"Spark needs Java {oldest} or later, and `{java} -version` fails ({error})", hint=hint
        ) from error
    numbers = re.search(r'version "(?:1\.)?(\d+)', found.stderr + found.stdout)
    if numbers is None:
        raise ConfigError(f"`{java} -version` prints no version", hint=hint)
    version = int(numbers[1])
    if version < oldest:
        named = ".".join(map(str, spark))
        raise ConfigError(f"Spark {named} needs Java {oldest} or later, and {java} is Java {version}", hint=hint)
    return version


def check_master(master: str | None) -> None:
    """Raise ConfigError for a master to which tasks cannot be sent: Spark Connect, or one that does not answer."""
    if master is None:
        return
    if master.startswith("sc://"):
        raise ConfigError(
            f"`spark.master` {master} is Spark Connect, which has no RDDs, and tasks need them",
            hint="name the master itself (spark://host:7077, yarn, k8s://…), or use spark-submit",
        )
    if not master.startswith("spark://"):
        return
    for address in master.removeprefix("spark://").split(","):
        try:
            parts = urlsplit(f"spark://{address}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if host is None or port is None:
            raise ConfigError(f"`spark.master` {master} is no URL of a master", hint="write spark://host:7077")
        try:
            socket.create_connection((host, port), _CONNECT_TIMEOUT_S).close()
            return
        except OSError as error:
            last = error
    raise ConfigError(
        f"`spark.master` {master} does not answer ({last})", hint="start the master, or correct its host and port"
    ) from last


def check_session(spark: Any) -> None:
    """Raise ConfigError if a SparkSession cannot run tasks, because it is one of Spark Connect."""
    if not hasattr(spark, "_jsc"):
        raise ConfigError(
            "the active SparkSession is one of Spark Connect, which has no RDDs, and tasks need them",
            hint="run the program by spark-submit",
        )


def check_executors(context: Any) -> None:
    """Raise ConfigError unless an executor runs a task in Python, with the packages of the driver. `context`: the SparkContext."""
    from py4j.protocol import Py4JError  # PySpark is optional
    from pyspark.errors import PySparkException

    try:
        (found,) = context.parallelize([PACKAGES], 1).map(_versions()).collect()
    except (Py4JError, PySparkException) as error:
        lines = [line.strip() for line in str(error).splitlines() if re.search(r"(Exception|Error)\b", line)]
        raise ConfigError(
            f"the executors cannot run a task in Python: {(lines or ['no reason given'])[-1][:300]}",
            hint=_SAME_ENVIRONMENT,
        ) from error
    check_packages(_versions()(PACKAGES), found)


def check_packages(driver: dict[str, str | None], executors: dict[str, str | None]) -> None:
    """Raise ConfigError unless the executors have the packages of the driver, in the same versions."""
    missing = [name for name, version in driver.items() if version is not None and executors.get(name) is None]
    if missing:
        raise ConfigError(f"the executors lack the packages {', '.join(missing)}", hint=_SAME_ENVIRONMENT)
    other = [
        f"{name} {executors[name]} (the driver has {version})"
        for name, version in driver.items()
        if version is not None and executors[name] != version
    ]
    if other:
        raise ConfigError(f"the executors have other versions: {', '.join(other)}", hint=_SAME_ENVIRONMENT)


def _versions() -> Callable[[tuple[str, ...]], dict[str, str | None]]:
    """A function that returns the installed versions of packages, None for one that is missing.

    It is made here, so Spark sends its code to the executors, which may not have this module.
    """

    def versions(names: tuple[str, ...]) -> dict[str, str | None]:
        import importlib
        import importlib.metadata

        found: dict[str, str | None] = {}
        for name in names:
            try:
                importlib.import_module(name.replace("-", "_"))
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = "without metadata"
            except ImportError:
                found[name] = None
        return found

    return versions
