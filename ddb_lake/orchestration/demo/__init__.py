"""The demo's stage: an orders table on the embedded AWS stand-in, what goes wrong between it and the lake, a home.

`ddb_lake.cli.demo_run` tells the story; `ddb_lake.orchestration.dev` goes on with it in Dagster's own processes.
"""
