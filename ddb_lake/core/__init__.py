"""Pure core: DynamoDB's values, records, ordering, schema and paths, and what is due.

Nothing here touches boto3, DuckDB, Dagster, the clock, the environment or the network; a linter holds it.
"""
