"""Spark as the executor of tables with `engine: spark` (`SparkExecutor`). The pipeline does not import this package.

The driver plans and commits with the pipeline and `lake`, as one process does. Tasks run the same functions as
`pipeline.local_executor`, each in a DuckDB session of its own, and write files. Modules that end with `_tasks` run on
workers; `carrier` hands tasks to Spark, and `scratch` passes rows from tasks to tasks.
"""
