"""The checks of a lake: what each compares, on which tables, and what its evaluation found. Nothing here knows Dagster.

`registry.CHECKS` lists every check, `check` defines what a check is and evaluates it, and the other modules compare.
`core.verify.outcome` decides what is green. `orchestration.checks` shows outcomes in Dagster.
"""
