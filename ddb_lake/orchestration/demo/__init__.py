"""The parts of the demo: an orders table on the embedded AWS emulator, faults between it and the lake, and a home folder.

`ddb_lake.cli.demo_run` runs the demo; `ddb_lake.orchestration.dev` continues it in Dagster's own processes.
"""
