"""The examinations of `ddb-lake doctor`.

`registry` lists every examination in order, with what it requires. Each other module holds the examinations of one
subject: `installation`, `configuration`, `warehouse` (with its catalog and files), `aws_account`, `source_table`,
`landing`, `exports`, `health`.

An examination yields findings and changes nothing. Modules of this package import DuckDB, Dagster and boto3 inside
functions: the doctor must run where one of them is missing, and report that.
"""
