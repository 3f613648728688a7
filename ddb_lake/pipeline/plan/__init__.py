"""What is due: landed objects and finished exports that are not in the lake, and the other work that follows from them.

- `arrivals` is the one lister of landed change objects, `exports` of finished exports.
- `planner` decides what is due for a table. `sync` does all of it at once; the sensor adds a time budget and a cursor.
- `work` has the record of one piece of work, `cursor` what the sensor stores between ticks.

This package reads and decides only. `pipeline.sync` and the Dagster assets do the work.
"""
