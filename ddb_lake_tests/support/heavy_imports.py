"""Packages that take long to import."""

from __future__ import annotations

HEAVY = (
    "boto3",
    "botocore",
    "dagster",
    "duckdb",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pyiceberg",
    "rich",
    "yaml",
)
