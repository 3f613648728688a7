"""What Spark needs is checked before it starts, and each message says what to do."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ddb_lake.errors import ConfigError
from ddb_lake.spark.requirements import (
    PACKAGES,
    _versions,
    check_java,
    check_master,
    check_packages,
    check_pyspark,
    check_session,
)


def installed(monkeypatch: pytest.MonkeyPatch, version: str, python: tuple[int, int] = (3, 11)) -> None:
    module = ModuleType("pyspark")
    module.__version__ = version  # type: ignore[attr-defined]
    module.__file__ = "/site/pyspark/__init__.py"
    monkeypatch.setitem(sys.modules, "pyspark", module)
    monkeypatch.setattr(sys, "version_info", (*python, 0))


@pytest.mark.parametrize(
    ("version", "expected"), [("3.5.0", (3, 5, 0)), ("3.5.6", (3, 5, 6)), ("4.3.0.dev1", (4, 3, 0))]
)
def test_pyspark_of_a_supported_version_is_accepted(
    monkeypatch: pytest.MonkeyPatch, version: str, expected: tuple[int, ...]
) -> None:
    installed(monkeypatch, version)
    assert check_pyspark() == expected


@pytest.mark.parametrize(
    ("version", "python", "message"),
    [
        ("3.4.4", (3, 11), "needs PySpark 3.5 or later, and 3.4.4 is installed at /site/pyspark"),
        ("3.5.6", (3, 12), "PySpark 3.5.6 does not support Python 3.12; use Python 3.11, or PySpark 4"),
    ],
)
def test_pyspark_that_is_not_supported_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str, python: tuple[int, int], message: str
) -> None:
    installed(monkeypatch, version, python)
    with pytest.raises(ConfigError, match=message):
        check_pyspark()


def test_pyspark_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ConfigError, match=r"needs PySpark; pip install '\.\[spark\]'"):
        check_pyspark()


def java(folder: Path, prints: str, status: int = 0) -> Path:
    """A folder with a `java` that prints a version as Java does, to its standard error."""
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{prints}' >&2\nexit {status}\n")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("prints", "spark", "expected"),
    [
        ('openjdk version "17.0.15" 2025-04-15', (4, 3, 0), 17),
        ('openjdk version "21" 2023-09-19', (4, 0, 1), 21),
        ('java version "1.8.0_402"', (3, 5, 6), 8),
    ],
)
def test_java_of_a_supported_version_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, spark: tuple[int, ...], expected: int
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path, prints)))
    assert check_java(spark) == expected


@pytest.mark.parametrize(
    ("prints", "status", "message"),
    [
        (
            'openjdk version "11.0.2"',
            0,
            r"Spark 4\.3\.0 needs Java 17 or later, and .*/bin/java is Java 11; install Java 17",
        ),
        ("no JVM here", 0, "prints no version"),
        ("broken", 3, "-version` fails"),
    ],
)
def test_java_that_spark_cannot_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, status: int, message: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path, prints, status)))
    with pytest.raises(ConfigError, match=message):
        check_java((4, 3, 0))


def test_java_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="`java` is not on the path; install Java 17"):
        check_java((4, 3, 0))


@pytest.mark.parametrize("master", [None, "local[2]", "yarn", "k8s://https://host:6443"])
def test_master_of_another_scheduler_is_left_to_spark(master: str | None) -> None:
    check_master(master)


def test_master_that_answers_is_accepted_even_if_it_is_not_the_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as gone:
        port, closed = server.getsockname()[1], gone.getsockname()[1]
        gone.close()
        check_master(f"spark://127.0.0.1:{closed},127.0.0.1:{port}")
        with pytest.raises(ConfigError, match=r"does not answer .*; start the master"):
            check_master(f"spark://127.0.0.1:{closed}")


@pytest.mark.parametrize("master", ["spark://host", "spark://host:port", "spark://:7077"])
def test_master_without_host_or_port_is_refused(master: str) -> None:
    with pytest.raises(ConfigError, match="is no URL of a master; write spark://host:7077"):
        check_master(master)


def test_spark_connect_is_refused() -> None:
    with pytest.raises(ConfigError, match="is Spark Connect, which has no RDDs"):
        check_master("sc://host:15002")
    with pytest.raises(ConfigError, match="one of Spark Connect"):
        check_session(object())


def test_packages_that_executors_lack_or_have_in_other_versions_are_named() -> None:
    driver: dict[str, str | None] = {"duckdb": "1.5.5", "pyarrow": "25.0", "pyiceberg": "0.12"}
    check_packages(driver, driver)
    with pytest.raises(ConfigError, match=r"lack the packages duckdb, pyiceberg; give the executors"):
        check_packages(driver, {"duckdb": None, "pyarrow": "25.0"})
    with pytest.raises(ConfigError, match=r"other versions: duckdb 1\.5\.4 \(the driver has 1\.5\.5\)"):
        check_packages(driver, {**driver, "duckdb": "1.5.4"})


def test_versions_name_a_package_that_is_missing() -> None:
    found = _versions()((*PACKAGES, "ddb-lake-no-such-package"))
    assert found.pop("ddb-lake-no-such-package") is None
    assert all(found.values())
