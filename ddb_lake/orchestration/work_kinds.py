"""The kinds of work that Dagster runs beside the pipeline's own."""

from ddb_lake.mysql.replication import REPLICATION

WORK_KINDS = (REPLICATION,)
