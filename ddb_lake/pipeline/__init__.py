"""One module a stage: functions that take an open lake and give a frozen result.

Assets, commands and handlers call the same functions; none of them knows about Dagster or the command line.
"""
