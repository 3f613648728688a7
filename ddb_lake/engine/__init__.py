"""Kernels on DuckDB and Arrow: projection, position finding, the merge. No AWS, no Iceberg, no Dagster."""
