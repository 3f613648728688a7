"""The pure core: values, decoding, order, schema, verdicts, and the rules of captures, names and operations.

It does not use boto3, DuckDB, Dagster, the clock, the environment or the network; a linter enforces this. Its packages import each
other in one direction: `values`, then `layout`, `capture`, `schema` and `merge`, then `decode` and `verify`.
"""
