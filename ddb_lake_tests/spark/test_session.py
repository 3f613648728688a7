"""How the package starts Spark."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PRINT = (
    "from ddb_lake.spark.session import open_spark; spark = open_spark('local[1]', {settings});"
    " bean = spark._jvm.java.lang.management.ManagementFactory.getRuntimeMXBean();"
    " print([str(one) for one in bean.getInputArguments() if 'Tiered' in str(one)])"
)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["-XX:TieredStopAtLevel=1"]),
        (
            {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=4"},
            ["-XX:TieredStopAtLevel=1", "-XX:TieredStopAtLevel=4"],
        ),
    ],
)
def test_jvm_that_the_package_starts_does_not_optimize_its_code(settings: dict[str, str], expected: list[str]) -> None:
    """Options of the user come last, so they apply."""
    ran = subprocess.run(
        [sys.executable, "-c", _PRINT.format(settings=settings)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"},
    )
    assert ran.stdout.splitlines()[-1] == str(expected)
